"""One rule for matrices, and another one for all other parameters."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rose_core.peers.base import At, Rule
from rose_core.peers.options import integer, number
from rose_core.peers.wrappers.wrapper import Wrapper, WrapperState

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
    state_dtype: None = field(default=None, init=False, repr=False)
    compute_dtype: Literal["fp64"] = field(default="fp64", init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("matrices", "others"):
            if not isinstance(rule := getattr(self, name), Rule):
                raise TypeError(f"{name} must be a rule of rose_core.peers, as Adam() is, got {rule!r}")
        if self.matrices.reads_total or self.others.reads_total:
            raise ValueError(
                "the rules of a Partition must read no norm over all parameters; put it inside the wrapper"
            )

    @property
    def is_elementwise(self) -> bool:
        return self.matrices.is_elementwise and self.others.is_elementwise

    @property
    def has_own_step(self) -> bool:
        return self.matrices.has_own_step or self.others.has_own_step

    def for_shape(self, shape: tuple[int, ...]) -> Rule:
        if len(shape) >= self.min_ndim:
            return self.matrices.for_shape(shape)
        others = self.others.for_shape(shape)
        return others if self.others_lr_scale == 1.0 else _Scaled(others, scale=self.others_lr_scale)


@dataclass(frozen=True, kw_only=True)
class _Scaled(Wrapper):
    """A rule with another learning rate."""

    scale: float = number(1.0, above=0.0)

    takes_own_steps: ClassVar[bool] = True

    def compute(self, g: Any, state: WrapperState, x: Any, at: At) -> tuple[Any, WrapperState]:
        direction, inner = self.rule.compute(g, state.rule, x, self._scaled(at))
        return self.scale * direction, WrapperState(inner)

    def advance(self, g: Any, state: WrapperState, x: Any, at: At, decay: float) -> tuple[Any, WrapperState]:
        stepped, inner = self.rule.advance(g, state.rule, x, self._scaled(at), decay)
        return stepped, WrapperState(inner)

    def _scaled(self, at: At) -> At:
        return at._replace(lr=self.scale * at.lr)
