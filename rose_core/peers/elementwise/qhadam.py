"""Quasi-hyperbolic Adam."""

from dataclasses import dataclass
from typing import Any, ClassVar

from rose_core.namespace import Array
from rose_core.peers.arithmetic import divide, moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.elementwise.adam import AdamState
from rose_core.peers.options import fraction, number
from rose_core.peers.scalars import power

__all__ = ["QHAdamW"]


@dataclass(frozen=True, kw_only=True)
class QHAdamW(Rule):
    """Quasi-hyperbolic Adam (Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", ICLR 2019).

    The default weight decay is 0.01, as in rlx-optim.

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of its square, in [0, 1).
    nus : tuple of two floats
        Weights of these averages against the gradient and its square, in [0, 1]. (1, 1) is Adam.
    eps : float
        Added to the root, >= 0.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t::

        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) g^2
        numerator   = (1 - n1) g + n1 m / (1 - b1^t)
        denominator = sqrt((1 - n2) g^2 + n2 v / (1 - b2^t)) + eps
        direction   = numerator / denominator

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = QHAdamW(), np.zeros(2), np.asarray([3.0, -0.1])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(6).tolist()
    [1.0, -1.0]
    """

    betas: tuple[float, float] = fraction((0.995, 0.999))
    nus: tuple[float, float] = number((0.7, 1.0), least=0.0, most=1.0)
    eps: float = number(1e-8, least=0.0)

    default_weight_decay: ClassVar[float] = 0.01

    def init_state(self, param: Array) -> AdamState:
        return AdamState(self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: AdamState, x: Any, at: At) -> tuple[Any, AdamState]:  # noqa: ARG002
        (beta1, beta2), (nu1, nu2) = self.betas, self.nus
        m = moving_average(state.exp_avg, g, beta1)
        v = moving_average(state.exp_avg_sq, g * g, beta2)
        numerator = (1.0 - nu1) * g + nu1 * divide(m, 1.0 - power(beta1, at.step))
        square = (1.0 - nu2) * (g * g) + nu2 * divide(v, 1.0 - power(beta2, at.step))
        return numerator / (root(square) + self.eps), AdamState(m, v)
