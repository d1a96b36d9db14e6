"""Schedule-free learning: an average of the iterates in the place of a schedule."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rose_core.namespace import Array, array_namespace, detached, dtype_name
from rose_core.peers.arithmetic import divide
from rose_core.peers.base import At
from rose_core.peers.options import choice, number
from rose_core.peers.wrappers.wrapper import Wrapper
from rose_core.rounding import to_compute, to_storage

__all__ = ["ScheduleFree", "ScheduleFreeState"]


class ScheduleFreeState(NamedTuple):
    """The state of the rule, the iterate z, and the sum of the weights of the average."""

    rule: Any
    z: Any
    weight_sum: Any


@dataclass(frozen=True, kw_only=True)
class ScheduleFree(Wrapper):
    """Schedule-free learning (Defazio et al., "The road less scheduled", NeurIPS 2024).

    The parameter is y, at which the gradient is taken. The rule moves z, and x is the average of all z.
    `evaluation_param` returns x, which the model is evaluated with. Give Adam a first decay rate of 0: the average
    stands in for its momentum. rollfast does so too.

    Parameters
    ----------
    rule : Rule
        The rule that moves z.
    beta : float
        Weight of x in y, in (0, 1]. x could not be recovered from y with 0.
    weighting : str
        The weight of z in the average: "schedulet" is the learning rate, "practical" its square, and "theoretical" 1.
    decay_at : str
        What the weight decay takes its multiple of: "y" or "z". Either is subtracted from z.
    state_dtype
        As in `rose_core.peers.Rule`, for z.

    Notes
    -----
    With the direction u of the rule, the decay d and the weight w of this step::

        x = (y - (1 - beta) z) / beta
        z <- z - lr d y - lr u
        s <- s + w,  c = w / s, and 0 where s = 0
        x <- (1 - c) x + c z
        y <- beta x + (1 - beta) z

    `update` returns the direction ``(y before - y after) / lr``, and 0 where lr is 0. It needs the learning rate.

    Examples
    --------
    >>> import numpy as np
    >>> from rose_core.peers import SGD
    >>> rule, weight, grad = ScheduleFree(SGD(), beta=0.5), np.zeros(1), np.ones(1)
    >>> direction, state = rule.update(grad, rule.init(weight), weight, step=1, lr=0.5)
    >>> direction, state = rule.update(grad, state, weight - 0.5 * direction, step=2, lr=0.5)
    >>> state.z.tolist(), direction.tolist()
    ([-1.0], [0.75])
    """

    beta: float = number(0.9, above=0.0, most=1.0)
    weighting: str = choice("schedulet", "practical", "theoretical")
    decay_at: str = choice("y", "z")
    state_dtype: str | None = choice(None, "float32", "bfloat16", "float64")  # type: ignore[assignment]

    @property
    def has_own_step(self) -> bool:
        return True

    def init_state(self, param: Array) -> ScheduleFreeState:
        (x,) = detached(param)
        z = to_storage(to_compute(x, self.compute_dtype), dtype_name(self.zeros(param, ())), None)
        z = array_namespace(param).asarray(z, copy=True)
        return ScheduleFreeState(self.rule.init_state(param), z, self.scalar(param))

    def compute(self, g: Any, state: ScheduleFreeState, x: Any, at: At) -> tuple[Any, ScheduleFreeState]:
        y, new = self.advance(g, state, x, at, 1.0)
        return divide(x - y, at.lr) if at.lr else array_namespace(x).zeros_like(x), new

    def advance(self, g: Any, state: ScheduleFreeState, x: Any, at: At, decay: float) -> tuple[Any, ScheduleFreeState]:
        y, z, average = x, state.z, self._average(x, state.z)
        direction, inner = self.rule.compute(g, state.rule, y, at)
        z = (z * decay if self.decay_at == "z" else z - (1.0 - decay) * y) - at.lr * direction
        weight = {"schedulet": at.lr, "practical": at.lr * at.lr, "theoretical": 1.0}[self.weighting]
        weight_sum = state.weight_sum + weight
        xp = array_namespace(weight_sum)
        c = xp.full_like(weight_sum, weight) / xp.where(weight_sum == 0.0, 1.0, weight_sum)
        average = (1.0 - c) * average + c * z
        return self.beta * average + (1.0 - self.beta) * z, ScheduleFreeState(inner, z, weight_sum)

    def evaluated(self, param: Array, state: ScheduleFreeState) -> Any:
        """Return the average x of the iterates, rounded to nearest to the dtype of the parameter."""
        y, z = (to_compute(array, self.compute_dtype) for array in detached(param, state.z))
        return array_namespace(param).asarray(to_storage(self._average(y, z), dtype_name(param), None))

    def _average(self, y: Any, z: Any) -> Any:
        return divide(y - (1.0 - self.beta) * z, self.beta)
