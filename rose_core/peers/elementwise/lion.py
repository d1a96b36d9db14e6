"""Lion."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.arithmetic import moving_average, sign
from rose_core.peers.base import At, Rule
from rose_core.peers.options import fraction

__all__ = ["Lion", "LionState"]


class LionState(NamedTuple):
    """The moving average of the gradient."""

    exp_avg: Any


@dataclass(frozen=True, kw_only=True)
class Lion(Rule):
    """Lion (Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023).

    The default weight decay is 0.01, as in emerging_optimizers. rlx-optim has 0, and optax 1e-3.

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the average that the sign is taken of, and of the average that is kept, in [0, 1).
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g::

        direction = sign(b1 m + (1 - b1) g)
        m <- b2 m + (1 - b2) g

    The sign of 0 is 0. The sign of NaN is NaN, so a NaN in the gradient shows in the parameter.

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight, grad = Lion(), np.zeros(3), np.asarray([3.0, -0.1, 0.0])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].tolist()
    [1.0, -1.0, 0.0]
    """

    betas: tuple[float, float] = fraction((0.9, 0.99))

    default_weight_decay: ClassVar[float] = 0.01

    def init_state(self, param: Array) -> LionState:
        return LionState(self.zeros(param))

    def compute(self, g: Any, state: LionState, x: Any, at: At) -> tuple[Any, LionState]:  # noqa: ARG002
        direction = sign(moving_average(state.exp_avg, g, self.betas[0]))
        return direction, LionState(moving_average(state.exp_avg, g, self.betas[1]))
