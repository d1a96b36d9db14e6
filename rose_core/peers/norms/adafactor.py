"""Adafactor: a factored second moment."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from rose_core.namespace import Array, array_namespace
from rose_core.peers.arithmetic import at_least, mean_of, moving_average, rms, root
from rose_core.peers.base import At, Rule
from rose_core.peers.options import boolean, choice, number
from rose_core.peers.scalars import real_power

__all__ = ["Adafactor", "AdafactorState"]


class AdafactorState(NamedTuple):
    """The moving averages of the means of the squared gradient over rows and columns, or of the square itself."""

    row_var: Any
    col_var: Any
    variance: Any


@dataclass(frozen=True, kw_only=True)
class Adafactor(Rule):
    """Adafactor (Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML 2018).

    The last two axes of a tensor are factored. A vector keeps the average of its square. rlx-optim has two defects
    that this rule does not have: its factored moment is too small by the number of rows, and its `clip_threshold` acts
    as its inverse.

    Parameters
    ----------
    beta2_decay : float
        The averages have the decay rate ``1 - step**beta2_decay``, < 0.
    eps : tuple of two floats
        Added to the squared gradient, and the least scale of the parameter, >= 0.
    clip_threshold : float
        The largest root mean square of the direction before the step size, > 0.
    scale_parameter : bool
        Whether the direction is multiplied by the root mean square of the parameter, at least ``eps[1]``.
    step_size : str
        The factor of the direction beside the learning rate: "relative" is ``min(0.01, 1 / sqrt(step))``, for a
        learning rate of 1. "capped" is ``min(1, 1 / (lr sqrt(step)))``, as in torch. "constant" is 1.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t and the parameter x::

        b = 1 - t^beta2_decay
        r <- b r + (1 - b) mean of g^2 + eps0 over each row
        c <- b c + (1 - b) mean of g^2 + eps0 over each column
        u = g / sqrt(r (c / mean(r)))
        direction = step_size max(eps1, rms(x)) u / max(1, rms(u) / clip_threshold)

    Examples
    --------
    >>> import numpy as np
    >>> rule = Adafactor(step_size="constant", scale_parameter=False)
    >>> weight, grad = np.zeros((2, 2)), np.asarray([[1.0, -2.0], [2.0, 4.0]])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(6).tolist()
    [[1.0, -1.0], [1.0, 1.0]]
    """

    beta2_decay: float = number(-0.8, most=-1e-9)
    eps: tuple[float, float] = number((1e-30, 1e-3), least=0.0)
    clip_threshold: float = number(1.0, above=0.0)
    scale_parameter: bool = boolean(True)
    step_size: str = choice("relative", "capped", "constant")

    @property
    def is_elementwise(self) -> bool:
        return False

    def init_state(self, param: Array) -> AdafactorState:
        if param.ndim < 2:
            return AdafactorState(None, None, self.zeros(param))
        *batch, rows, columns = param.shape
        return AdafactorState(self.zeros(param, (*batch, rows, 1)), self.zeros(param, (*batch, 1, columns)), None)

    def compute(self, g: Any, state: AdafactorState, x: Any, at: At) -> tuple[Any, AdafactorState]:
        beta = 1.0 - real_power(at.step, self.beta2_decay)
        square = g * g + self.eps[0]
        if state.variance is None:
            r = moving_average(state.row_var, mean_of(square, -1, keepdims=True), beta)
            c = moving_average(state.col_var, mean_of(square, -2, keepdims=True), beta)
            v, new = r * (c / mean_of(r, -2, keepdims=True)), AdafactorState(r, c, None)  # r * c may underflow
        else:
            v = moving_average(state.variance, square, beta)
            new = AdafactorState(None, None, v)
        u = g / root(v)
        threshold = array_namespace(u).full_like(u, self.clip_threshold)
        u = u / at_least(rms(u) / threshold, 1.0)
        scale = at_least(rms(x), self.eps[1]) if self.scale_parameter else 1.0
        return scale * (self._factor(at) * u), new

    def _factor(self, at: At) -> float:
        if self.step_size == "relative":
            return min(0.01, 1.0 / math.sqrt(at.step))
        return min(1.0, 1.0 / (at.lr * math.sqrt(at.step))) if self.step_size == "capped" and at.lr else 1.0
