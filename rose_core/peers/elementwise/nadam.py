"""NAdamW: Adam with Nesterov's momentum."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.arithmetic import divide, moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.elementwise.adam import nesterov_average
from rose_core.peers.options import fraction, number, optional
from rose_core.peers.scalars import power, real_power

__all__ = ["NAdamState", "NAdamW"]


class NAdamState(NamedTuple):
    """The moving averages of the gradient and of its square, and the product of the scheduled decay rates."""

    exp_avg: Any
    exp_avg_sq: Any
    mu_product: Any


@dataclass(frozen=True, kw_only=True)
class NAdamW(Rule):
    """NAdam (Dozat, "Incorporating Nesterov momentum into Adam", 2016) with decoupled weight decay.

    The default weight decay is 0.01, as in rlx-optim. torch has 0.

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of its square, in [0, 1).
    eps : float
        Added to the root, >= 0.
    momentum_decay : float or None
        The psi of torch's schedule of the first decay rate, ``b1 (1 - 0.96**(t psi) / 2)`` at step t, where torch has
        4e-3. None keeps the decay rate constant, as optax and rlx-optim do.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t::

        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) g^2
        numerator = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)
        direction = numerator / (sqrt(v / (1 - b2^t)) + eps)

    With a schedule, the numerator has the scheduled decay rates, and their product in place of a power.

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = NAdamW(), np.zeros(2), np.asarray([3.0, -0.1])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(4).tolist()
    [1.4737, -1.4737]
    """

    betas: tuple[float, float] = fraction((0.9, 0.999))
    eps: float = number(1e-8, least=0.0)
    momentum_decay: float | None = optional(number(4e-3, least=0.0))

    default_weight_decay: ClassVar[float] = 0.01

    def init_state(self, param: Array) -> NAdamState:
        product = None if self.momentum_decay is None else self.scalar(param, 1.0)
        return NAdamState(self.zeros(param), self.zeros(param), product)

    def compute(self, g: Any, state: NAdamState, x: Any, at: At) -> tuple[Any, NAdamState]:  # noqa: ARG002
        beta1, beta2 = self.betas
        m = moving_average(state.exp_avg, g, beta1)
        v = moving_average(state.exp_avg_sq, g * g, beta2)
        denominator = root(divide(v, 1.0 - power(beta2, at.step))) + self.eps
        if self.momentum_decay is None:
            numerator, product = nesterov_average(m, g, beta1, at.step, correct_bias=True), None
        else:
            mu, mu_next = self._mu(at.step, self.momentum_decay), self._mu(at.step + 1, self.momentum_decay)
            product = state.mu_product * mu
            numerator = (mu_next * m) / (1.0 - product * mu_next) + ((1.0 - mu) * g) / (1.0 - product)
        return numerator / denominator, NAdamState(m, v, product)

    def _mu(self, step: int, psi: float) -> float:
        return self.betas[0] * (1.0 - 0.5 * real_power(0.96, step * psi))
