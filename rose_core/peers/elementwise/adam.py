"""Adam and AdamW."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.arithmetic import divide, moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.options import boolean, fraction, number
from rose_core.peers.scalars import power

__all__ = ["Adam", "AdamState", "AdamW", "nesterov_average"]


class AdamState(NamedTuple):
    """The moving averages of the gradient and of its square."""

    exp_avg: Any
    exp_avg_sq: Any


@dataclass(frozen=True, kw_only=True)
class Adam(Rule):
    """Adam (Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015).

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of its square, in [0, 1).
    eps : float
        Added to the root of the second moment, >= 0.
    eps_root : float
        Added to the second moment before the root, >= 0.
    correct_bias : bool
        Whether the averages are divided by ``1 - beta**step``.
    nesterov : bool
        Whether the numerator looks one step ahead, as in NAdam of optax.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t::

        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) g^2
        direction = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t) + eps_root) + eps)

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = Adam(), np.zeros(2), np.asarray([0.5, -2.0])
    >>> direction, state = rule.update(grad, rule.init(weight), weight, step=1)
    >>> direction.round(6).tolist()
    [1.0, -1.0]
    """

    betas: tuple[float, float] = fraction((0.9, 0.999))
    eps: float = number(1e-8, least=0.0)
    eps_root: float = number(0.0, least=0.0)
    correct_bias: bool = boolean(True)
    nesterov: bool = boolean(False)

    def init_state(self, param: Array) -> AdamState:
        return AdamState(self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: AdamState, x: Any, at: At) -> tuple[Any, AdamState]:  # noqa: ARG002
        beta1, beta2 = self.betas
        m = moving_average(state.exp_avg, g, beta1)
        v = moving_average(state.exp_avg_sq, g * g, beta2)
        numerator, v_hat = m, v
        if self.nesterov:
            numerator = nesterov_average(m, g, beta1, at.step, correct_bias=self.correct_bias)
        elif self.correct_bias:
            numerator = divide(m, 1.0 - power(beta1, at.step))
        if self.correct_bias:
            v_hat = divide(v, 1.0 - power(beta2, at.step))
        return numerator / (root(v_hat + self.eps_root) + self.eps), AdamState(m, v)


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019): `Adam` with another default decay.

    The optimizer decays by 0.01 if it is given no decay, as in torch. rollfast decays by 1e-4.
    """

    default_weight_decay: ClassVar[float] = 0.01


def nesterov_average(m: Any, g: Any, beta: float, step: int, *, correct_bias: bool) -> Any:
    """Return the average one step ahead, ``b m / (1 - b^(t+1)) + (1 - b) g / (1 - b^t)``."""
    ahead, now = beta * m, (1.0 - beta) * g
    if correct_bias:
        ahead, now = divide(ahead, 1.0 - power(beta, step + 1)), divide(now, 1.0 - power(beta, step))
    return ahead + now
