"""Rose as a rule among the others."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rose_core import rule
from rose_core.namespace import Array
from rose_core.peers.arithmetic import sign
from rose_core.peers.base import At, Rule
from rose_core.peers.options import boolean

__all__ = ["Rose", "RoseState"]


class RoseState(NamedTuple):
    """Rose has no state."""


@dataclass(frozen=True, kw_only=True)
class Rose(Rule):
    """Rose (Matthew E. Kieren), so that it can be wrapped, clipped, or take the matrices beside another rule.

    `rose_core.update` multiplies the gradient by the learning rate before it divides, as ROSE-6.1 says. A rule divides
    first. The last bits of a step may therefore differ, unless the learning rate is a power of two.

    Parameters
    ----------
    centralize, stabilize
        As in `rose_core.Hyperparameters`.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`. There is no state.

    Notes
    -----
    With the gradient g, and with the mean and the denominator D of each slice (ROSE-4, ROSE-5)::

        direction = (g - mean) / D, and the sign of g at rank 0

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = Rose(stabilize=False), np.ones((2, 2)), np.asarray([[1.0, 3.0], [0.0, 4.0]])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].tolist()
    [[-0.5, 0.5], [-0.5, 0.5]]
    """

    centralize: bool = boolean(True)
    stabilize: bool = boolean(True)

    default_weight_decay: ClassVar[float] = 1e-4

    @property
    def is_elementwise(self) -> bool:
        return False

    def init_state(self, param: Array) -> RoseState:  # noqa: ARG002
        return RoseState()

    def compute(self, g: Any, state: RoseState, x: Any, at: At) -> tuple[Any, RoseState]:  # noqa: ARG002
        options = rule.StepOptions(
            lr=at.lr,
            decay=1.0,
            centralize=self.centralize,
            stabilize=self.stabilize,
            maximize=False,
            compute=at.compute,
        )
        mean, range_ = rule.statistics(g, options)
        denominator = rule.denominators(range_, rule.gate_of_ranges(range_, options), options)
        if denominator is None:
            return sign(g), state
        return (g if mean is None else g - mean) / denominator, state
