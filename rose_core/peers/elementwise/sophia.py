"""Sophia with an estimate of the Hessian's diagonal that the caller brings."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rose_core.namespace import Array, detached, require_like
from rose_core.peers.arithmetic import at_least, at_most, moving_average
from rose_core.peers.base import At, Rule, StateNoise, round_states
from rose_core.peers.options import fraction, number
from rose_core.rounding import to_compute

__all__ = ["SophiaH", "SophiaState"]

# The noise of `with_hessian` takes its words beyond those of the states of a step.
_HESSIAN_STATE = 4096


class SophiaState(NamedTuple):
    """The moving averages of the gradient and of the estimated diagonal of the Hessian."""

    exp_avg: Any
    hessian: Any


@dataclass(frozen=True, kw_only=True)
class SophiaH(Rule):
    """Sophia (Liu et al., "Sophia: a scalable stochastic second-order optimizer", ICLR 2024).

    Call `update_hessian` every few steps with an estimate of the diagonal, such as Hutchinson's ``u * (H u)``. Before
    the first call, the direction is plus or minus `rho`. The default weight decay is 0.1, as in rlx-optim.

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of the diagonal, in [0, 1).
    gamma : float
        Scale of the diagonal, > 0.
    rho : float
        Bound of the direction, > 0.
    eps : float
        The least divisor, > 0.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g, and with the estimate e in `update_hessian`::

        m <- b1 m + (1 - b1) g
        direction = min(max(m / max(gamma h, eps), -rho), rho)
        h <- b2 h + (1 - b2) e

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = SophiaH(betas=(0.0, 0.0), gamma=1.0, rho=2.0), np.zeros(2), np.asarray([3.0, -0.5])
    >>> state = rule.update_hessian(np.ones(2), rule.init(weight))
    >>> rule.update(grad, state, weight, step=1)[0].tolist()
    [2.0, -0.5]
    """

    betas: tuple[float, float] = fraction((0.965, 0.99))
    gamma: float = number(0.01, above=0.0)
    rho: float = number(0.04, above=0.0)
    eps: float = number(1e-12, above=0.0)

    default_weight_decay: ClassVar[float] = 0.1

    def init_state(self, param: Array) -> SophiaState:
        return SophiaState(self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: SophiaState, x: Any, at: At) -> tuple[Any, SophiaState]:  # noqa: ARG002
        m = moving_average(state.exp_avg, g, self.betas[0])
        direction = m / at_least(self.gamma * state.hessian, self.eps)
        return at_most(at_least(direction, -self.rho), self.rho), SophiaState(m, state.hessian)

    def with_hessian(self, hessian: Array, state: SophiaState, noise: StateNoise | None) -> SophiaState:
        require_like(state.hessian, hessian, ("the state", "hessian"))
        wide, estimate = (to_compute(x, self.compute_dtype) for x in detached(state.hessian, hessian))
        new = SophiaState(None, moving_average(wide, estimate, self.betas[1]))
        words = None if noise is None else lambda number, x: noise(_HESSIAN_STATE + number, x)
        return state._replace(hessian=round_states(new, SophiaState(None, state.hessian), words).hessian)
