"""MAdam: Adam that is aware of the magnitude of the gradient, without epsilon."""

from dataclasses import dataclass
from typing import Any

from rose_core.namespace import Array, array_namespace
from rose_core.peers.arithmetic import divide, moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.elementwise.adam import AdamState
from rose_core.peers.options import boolean, fraction, integer
from rose_core.peers.scalars import power

__all__ = ["MAdam"]


@dataclass(frozen=True, kw_only=True)
class MAdam(Rule):
    """Adam whose squares are scaled by a power of two, so that they do not underflow; it has no epsilon.

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of its square, in [0, 1).
    scale_log2 : int
        The base-2 logarithm of the scale s, an even number >= 0. The root of s is then a power of two, so the scale
        changes no bit unless something underflows or overflows.
    correct_bias : bool
        Whether the averages are divided by ``1 - beta**step``.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t::

        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) (sqrt(s) g)^2
        direction = sqrt(s) (m / (1 - b1^t)) / sqrt(v / (1 - b2^t)), and 0 where m = 0

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = MAdam(), np.zeros(2), np.asarray([3.0, 0.0])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(6).tolist()
    [1.0, 0.0]
    """

    betas: tuple[float, float] = fraction((0.9, 0.999))
    scale_log2: int = integer(16)
    correct_bias: bool = boolean(True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale_log2 % 2 or self.scale_log2 > 200:
            raise ValueError(f"scale_log2 must be an even integer in [0, 200], got {self.scale_log2!r}")

    def init_state(self, param: Array) -> AdamState:
        return AdamState(self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: AdamState, x: Any, at: At) -> tuple[Any, AdamState]:  # noqa: ARG002
        correction1, correction2 = (1.0 - power(beta, at.step) if self.correct_bias else 1.0 for beta in self.betas)
        root_of_scale = 2.0 ** (self.scale_log2 // 2)
        scaled = root_of_scale * g
        m = moving_average(state.exp_avg, g, self.betas[0])
        v = moving_average(state.exp_avg_sq, scaled * scaled, self.betas[1])
        is_zero = m == 0.0
        xp = array_namespace(m)
        denominator = root(divide(v, correction2))
        quotient = root_of_scale * divide(m, correction1) / xp.where(is_zero, 1.0, denominator)
        return xp.where(is_zero, 0.0, quotient), AdamState(m, v)
