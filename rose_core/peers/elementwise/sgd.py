"""Stochastic gradient descent with momentum."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.base import At, Rule
from rose_core.peers.options import boolean, fraction, number

__all__ = ["SGD", "SGDState"]


class SGDState(NamedTuple):
    """The velocity, None without momentum."""

    momentum_buffer: Any


@dataclass(frozen=True, kw_only=True)
class SGD(Rule):
    """Stochastic gradient descent with momentum (heavy ball).

    Parameters
    ----------
    momentum : float
        Decay rate of the velocity, in [0, 1). 0 keeps no velocity.
    dampening : float
        The part of the gradient that does not enter the velocity, from the second step on, in [0, 1].
    nesterov : bool
        Whether the direction is the gradient plus the decayed new velocity.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g::

        v <- momentum v + (1 - dampening) g        v <- g at the first step
        direction = v, or g + momentum v with Nesterov's momentum

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = SGD(momentum=0.5), np.zeros(1), np.ones(1)
    >>> direction, state = rule.update(grad, rule.init(weight), weight, step=1)
    >>> rule.update(grad, state, weight, step=2)[0].tolist()
    [1.5]
    """

    momentum: float = fraction(0.0)
    dampening: float = number(0.0, least=0.0, most=1.0)
    nesterov: bool = boolean(False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError(
                f"nesterov=True needs momentum > 0 and dampening 0, got momentum={self.momentum!r} and "
                f"dampening={self.dampening!r}"
            )

    def init_state(self, param: Array) -> SGDState:
        return SGDState(self.zeros(param) if self.momentum else None)

    def compute(self, g: Any, state: SGDState, x: Any, at: At) -> tuple[Any, SGDState]:  # noqa: ARG002
        if not self.momentum:
            return g, state
        v = self.momentum * state.momentum_buffer + (g if at.step == 1 else (1.0 - self.dampening) * g)
        return g + self.momentum * v if self.nesterov else v, SGDState(v)
