"""One rule for matrices, and another one for all other parameters."""

from dataclasses import dataclass, field
from typing import Any

from rose_core.namespace import Array
from rose_core.peers.base import At, Rule, Total
from rose_core.peers.options import integer, number
from rose_core.peers.wrappers.wrapper import Wrapper

__all__ = ["Partition"]


@dataclass(frozen=True, kw_only=True)
class Partition(Rule):
    """One rule for matrices, and another one for all other parameters. Each has its own default weight decay.

    Embeddings are matrices, too. Put parameters that need another rule than their rank says in a group of their own.

    Parameters
    ----------
    matrices : Rule
        The rule of parameters with at least `min_ndim` axes.
    others : Rule
        The rule of all other parameters.
    min_ndim : int
        The least rank of a matrix.
    others_lr_scale : float
        The learning rate of `others` is that of the optimizer times this number, > 0. The decay is not affected.

    Examples
    --------
    >>> import numpy as np
    >>> from rose_core.peers import AdamW, Rose
    >>> rule = Partition(Rose(), AdamW())
    >>> rule.init(np.zeros((2, 3))), rule.init(np.zeros(1))
    (RoseState(), AdamState(exp_avg=array([0.]), exp_avg_sq=array([0.])))
    """

    matrices: Rule = field(kw_only=False)
    others: Rule = field(kw_only=False)
    min_ndim: int = integer(2, least=1)
    others_lr_scale: float = number(1.0, above=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("matrices", "others"):
            if not isinstance(rule := getattr(self, name), Rule):
                raise TypeError(f"{name} must be a rule of rose_core.peers, as Adam() is, got {rule!r}")
        if self.matrices.reads_total or self.others.reads_total:
            raise ValueError("the rules of a Partition must read no sum over all parameters; put it inside the wrapper")

    @property
    def is_elementwise(self) -> bool:
        return self.matrices.is_elementwise and self.others.is_elementwise

    def for_shape(self, shape: tuple[int, ...]) -> Rule:
        if len(shape) >= self.min_ndim:
            return self.matrices.for_shape(shape)
        others = self.others.for_shape(shape)
        return others if self.others_lr_scale == 1.0 else _Scaled(others, scale=self.others_lr_scale)


@dataclass(frozen=True, kw_only=True)
class _Scaled(Wrapper):
    """A rule with another learning rate. Its state is that of the rule."""

    scale: float = number(1.0, above=0.0)

    def init_state(self, param: Array) -> Any:
        return self.rule.init_state(param)

    def summand(self, g: Any, state: Any, x: Any, at: At) -> Total | None:
        return self.rule.summand(g, state, x, at)

    def compute(self, g: Any, state: Any, x: Any, at: At) -> tuple[Any, Any]:
        direction, new = self.rule.compute(g, state, x, at._replace(lr=self.scale * at.lr))
        return self.scale * direction, new
