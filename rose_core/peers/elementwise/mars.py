"""MARS: Adam on a gradient whose variance is reduced by the previous gradient."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rose_core.namespace import Array, array_namespace
from rose_core.peers.arithmetic import divide, l2, moving_average, root
from rose_core.peers.base import At, Rule
from rose_core.peers.options import boolean, choice, fraction, number
from rose_core.peers.scalars import power

__all__ = ["MARS", "MARSState"]


class MARSState(NamedTuple):
    """The moving averages of the corrected gradient and of its square, and the previous gradient."""

    exp_avg: Any
    exp_avg_sq: Any
    previous_grad: Any


@dataclass(frozen=True, kw_only=True)
class MARS(Rule):
    """MARS-AdamW (Yuan et al., "MARS: unleashing the power of variance reduction", 2024), in its approximate form.

    With `clip_c` it is not elementwise: it needs the norm of a tensor.

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the corrected gradient and of its square, in [0, 1).
    eps : float
        Added to the root, >= 0.
    gamma : float
        Weight of the difference from the previous gradient, >= 0.
    clip_c : bool
        Whether a corrected gradient with an l2 norm above 1 is scaled to norm 1.
    first_previous : str
        The previous gradient of the first step: "zero" as in rlx-optim, or "gradient", which makes the correction 0.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t, and the previous one p::

        c = g + gamma b1 / (1 - b1) (g - p)
        c = c / max(1, norm(c))
        m <- b1 m + (1 - b1) c
        v <- b2 v + (1 - b2) c^2
        direction = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = MARS(), np.zeros(2), np.asarray([3.0, -0.1])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(5).tolist()
    [1.0, -1.0]
    """

    betas: tuple[float, float] = fraction((0.95, 0.99))
    eps: float = number(1e-8, least=0.0)
    gamma: float = number(0.025, least=0.0)
    clip_c: bool = boolean(True)
    first_previous: str = choice("zero", "gradient")

    @property
    def is_elementwise(self) -> bool:
        return not self.clip_c

    def init_state(self, param: Array) -> MARSState:
        return MARSState(self.zeros(param), self.zeros(param), self.zeros(param))

    def compute(self, g: Any, state: MARSState, x: Any, at: At) -> tuple[Any, MARSState]:  # noqa: ARG002
        beta1, beta2 = self.betas
        previous = g if at.step == 1 and self.first_previous == "gradient" else state.previous_grad
        c = g + (self.gamma * beta1 / (1.0 - beta1)) * (g - previous)
        if self.clip_c:
            norm = l2(c)
            c = c / array_namespace(norm).where(norm > 1.0, norm, 1.0)
        m = moving_average(state.exp_avg, c, beta1)
        v = moving_average(state.exp_avg_sq, c * c, beta2)
        denominator = root(divide(v, 1.0 - power(beta2, at.step))) + self.eps
        return divide(m, 1.0 - power(beta1, at.step)) / denominator, MARSState(m, v, g)
