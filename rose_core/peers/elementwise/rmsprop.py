"""RMSprop."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.arithmetic import moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.options import fraction, number

__all__ = ["RMSprop", "RMSpropState"]


class RMSpropState(NamedTuple):
    """The moving average of the squared gradient."""

    square_avg: Any


@dataclass(frozen=True, kw_only=True)
class RMSprop(Rule):
    """RMSprop (Tieleman and Hinton, 2012), without momentum and without bias correction.

    Parameters
    ----------
    alpha : float
        Decay rate of the average of the squared gradient, in [0, 1).
    eps : float
        Added to the root, >= 0.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g::

        v <- alpha v + (1 - alpha) g^2
        direction = g / (sqrt(v) + eps)

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = RMSprop(alpha=0.75, eps=0.0), np.zeros(2), np.asarray([3.0, -0.1])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].tolist()
    [2.0, -2.0]
    """

    alpha: float = fraction(0.99)
    eps: float = number(1e-8, least=0.0)

    def init_state(self, param: Array) -> RMSpropState:
        return RMSpropState(self.zeros(param))

    def compute(self, g: Any, state: RMSpropState, x: Any, at: At) -> tuple[Any, RMSpropState]:  # noqa: ARG002
        v = moving_average(state.square_avg, g * g, self.alpha)
        return g / (root(v) + self.eps), RMSpropState(v)
