"""Signum: the sign of the momentum."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.arithmetic import moving_average, sign
from rose_core.peers.base import At, Rule
from rose_core.peers.elementwise.adam import nesterov_average
from rose_core.peers.options import boolean, fraction

__all__ = ["Signum", "SignumState"]


class SignumState(NamedTuple):
    """The moving average of the gradient."""

    exp_avg: Any


@dataclass(frozen=True, kw_only=True)
class Signum(Rule):
    """Signum (Bernstein et al., "signSGD: compressed optimisation for non-convex problems", ICML 2018).

    Parameters
    ----------
    momentum : float
        Decay rate of the average of the gradient, in [0, 1). With 0 it is sign descent.
    correct_bias : bool
        Whether Nesterov's momentum corrects the average and the gradient. The sign of the average alone does not
        depend on it.
    nesterov : bool
        Whether to take the sign of the average one step ahead.
    use_shape_scaling : bool
        Whether the direction is multiplied by ``2 / (rows + columns)``. Parameters must be matrices then.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g::

        m <- b m + (1 - b) g
        direction = sign(m)

    The sign of 0 is 0. The sign of NaN is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = Signum(use_shape_scaling=True), np.zeros((1, 3)), np.asarray([[3.0, -0.1, 0.0]])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].tolist()
    [[0.5, -0.5, 0.0]]
    """

    momentum: float = fraction(0.9)
    correct_bias: bool = boolean(True)
    nesterov: bool = boolean(False)
    use_shape_scaling: bool = boolean(False)

    def check_param(self, param: Array, name: str) -> None:
        if self.use_shape_scaling and param.ndim != 2:
            raise ValueError(f"{name} has rank {param.ndim}; use_shape_scaling=True needs matrices, of rank 2")

    def init_state(self, param: Array) -> SignumState:
        return SignumState(self.zeros(param))

    def compute(self, g: Any, state: SignumState, x: Any, at: At) -> tuple[Any, SignumState]:  # noqa: ARG002
        m = moving_average(state.exp_avg, g, self.momentum)
        ahead = nesterov_average(m, g, self.momentum, at.step, correct_bias=self.correct_bias) if self.nesterov else m
        scale = 2.0 / sum(at.shape) if self.use_shape_scaling else 1.0
        return scale * sign(ahead), SignumState(m)
