"""LAMB: Adam with a trust ratio for each tensor."""

from dataclasses import dataclass
from typing import Any

from rose_core.namespace import Array, array_namespace
from rose_core.peers.arithmetic import divide, l2, moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.elementwise.adam import AdamState
from rose_core.peers.options import boolean, fraction, number
from rose_core.peers.scalars import power

__all__ = ["LAMB"]


@dataclass(frozen=True, kw_only=True)
class LAMB(Rule):
    """LAMB (You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", ICLR 2020).

    Its weight decay is a part of the direction, so it is an option of the rule. That of the optimizer is 0 by default.

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of its square, in [0, 1).
    eps : float
        Added to the root, >= 0.
    weight_decay : float
        Multiple of the parameter in the direction, >= 0.
    correct_bias : bool
        Whether the averages are divided by ``1 - beta**step``.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t and the parameter x::

        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) g^2
        u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay x
        direction = u norm(x) / norm(u), and u where a norm is 0

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = LAMB(weight_decay=0.0), np.asarray([3.0, 4.0]), np.asarray([3.0, -0.1])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(2).tolist()
    [3.54, -3.54]
    """

    betas: tuple[float, float] = fraction((0.9, 0.999))
    eps: float = number(1e-6, least=0.0)
    weight_decay: float = number(0.01, least=0.0)
    correct_bias: bool = boolean(True)

    @property
    def is_elementwise(self) -> bool:
        return False

    def init_state(self, param: Array) -> AdamState:
        return AdamState(self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: AdamState, x: Any, at: At) -> tuple[Any, AdamState]:
        correction1, correction2 = (1.0 - power(beta, at.step) if self.correct_bias else 1.0 for beta in self.betas)
        m = moving_average(state.exp_avg, g, self.betas[0])
        v = moving_average(state.exp_avg_sq, g * g, self.betas[1])
        u = divide(m, correction1) / (root(divide(v, correction2)) + self.eps) + self.weight_decay * x
        norm_x, norm_u = l2(x), l2(u)
        xp = array_namespace(u)
        is_zero = (norm_x == 0.0) | (norm_u == 0.0)
        trust = xp.where(is_zero, 1.0, norm_x / xp.where(is_zero, 1.0, norm_u))
        return trust * u, AdamState(m, v)
