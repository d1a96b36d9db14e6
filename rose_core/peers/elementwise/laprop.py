"""LaProp."""

from dataclasses import dataclass
from typing import Any

from rose_core.namespace import Array, array_namespace
from rose_core.peers.arithmetic import divide, l2, moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.elementwise.adam import AdamState
from rose_core.peers.options import boolean, fraction, number
from rose_core.peers.scalars import power

__all__ = ["LaProp"]


@dataclass(frozen=True, kw_only=True)
class LaProp(Rule):
    """LaProp (Ziyin, Wang and Ueda, "LaProp: separating momentum and adaptivity in Adam", 2020).

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the normalized gradient and of the squared gradient, in [0, 1).
    eps : float
        Added to the root, >= 0.
    correct_bias : bool
        Whether the averages are divided by ``1 - beta**step``.
    frob_normalize : bool
        Whether the parameter gets its Frobenius norm before the step back after the step. A weight decay then has no
        lasting effect on the norm, and the rule is no longer elementwise.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t::

        v <- b2 v + (1 - b2) g^2
        m <- b1 m + (1 - b1) g / (sqrt(v / (1 - b2^t)) + eps)
        direction = m / (1 - b1^t)

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = LaProp(eps=0.0), np.zeros(2), np.asarray([3.0, -0.1])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(6).tolist()
    [1.0, -1.0]
    """

    betas: tuple[float, float] = fraction((0.9, 0.999))
    eps: float = number(1e-8, least=0.0)
    correct_bias: bool = boolean(True)
    frob_normalize: bool = boolean(False)

    @property
    def is_elementwise(self) -> bool:
        return not self.frob_normalize

    @property
    def has_own_step(self) -> bool:
        return self.frob_normalize

    def init_state(self, param: Array) -> AdamState:
        return AdamState(self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: AdamState, x: Any, at: At) -> tuple[Any, AdamState]:  # noqa: ARG002
        beta1, beta2 = self.betas
        correction1, correction2 = (1.0 - power(beta, at.step) if self.correct_bias else 1.0 for beta in self.betas)
        v = moving_average(state.exp_avg_sq, g * g, beta2)
        m = moving_average(state.exp_avg, g / (root(divide(v, correction2)) + self.eps), beta1)
        return divide(m, correction1), AdamState(m, v)

    def advance(self, g: Any, state: AdamState, x: Any, at: At, decay: float) -> tuple[Any, AdamState]:
        stepped, state = super().advance(g, state, x, at, decay)
        if self.frob_normalize:
            norm = l2(stepped)
            stepped = stepped * (l2(x) / array_namespace(norm).where(norm == 0.0, 1.0, norm))
        return stepped, state
