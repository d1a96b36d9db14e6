"""RAdam: Adam with a rectified adaptive rate."""

import math
from dataclasses import dataclass
from typing import Any

from rose_core.namespace import Array
from rose_core.peers.arithmetic import divide, moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.elementwise.adam import AdamState
from rose_core.peers.options import choice, fraction, number
from rose_core.peers.scalars import power

__all__ = ["RAdam"]


@dataclass(frozen=True, kw_only=True)
class RAdam(Rule):
    """RAdam (Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020).

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of its square, in [0, 1).
    eps : float
        Added to the root, >= 0.
    rectify_above : int
        The rate is adaptive if rho is above this number: 5 as in torch, or 4 as in the paper and in rlx-optim.
    eps_added_to : str
        The root that `eps` is added to: "corrected" as in rlx-optim, or "uncorrected" as in torch.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t::

        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) g^2
        rho_inf = 2 / (1 - b2) - 1
        rho = rho_inf - 2 t b2^t / (1 - b2^t)
        r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))
        direction = r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)     if rho > 5
        direction = m / (1 - b1^t)                                        otherwise

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = RAdam(), np.zeros(2), np.asarray([3.0, -0.1])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(6).tolist()
    [3.0, -0.1]
    """

    betas: tuple[float, float] = fraction((0.9, 0.999))
    eps: float = number(1e-8, least=0.0)
    rectify_above: int = choice(5, 4)
    eps_added_to: str = choice("corrected", "uncorrected")

    def init_state(self, param: Array) -> AdamState:
        return AdamState(self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: AdamState, x: Any, at: At) -> tuple[Any, AdamState]:  # noqa: ARG002
        beta1, beta2 = self.betas
        m = moving_average(state.exp_avg, g, beta1)
        v = moving_average(state.exp_avg_sq, g * g, beta2)
        m_hat = divide(m, 1.0 - power(beta1, at.step))
        rectification = self._rectification(at.step)
        if rectification is None:
            return m_hat, AdamState(m, v)
        correction = 1.0 - power(beta2, at.step)
        if self.eps_added_to == "corrected":
            denominator = root(divide(v, correction)) + self.eps
        else:
            denominator = divide(root(v) + self.eps, math.sqrt(correction))
        return rectification * m_hat / denominator, AdamState(m, v)

    def _rectification(self, step: int) -> float | None:
        """Return r, None if the rate is not adaptive."""
        power2 = power(self.betas[1], step)
        rho_inf = 2.0 / (1.0 - self.betas[1]) - 1.0
        rho = rho_inf - 2.0 * step * power2 / (1.0 - power2)
        if rho <= self.rectify_above:
            return None
        return math.sqrt((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))
