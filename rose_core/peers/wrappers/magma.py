"""Magma: updates that are masked at random and scaled by how well the momentum agrees with the gradient."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rose_core.namespace import Array, array_namespace, as_float64, convert, dtype_name
from rose_core.peers.arithmetic import at_least, at_most, divide, exponential, l2, moving_average, sum_of
from rose_core.peers.base import At
from rose_core.peers.options import boolean, fraction, number
from rose_core.peers.wrappers.wrapper import Wrapper, rules_within

__all__ = ["Magma", "MagmaState"]

# Beyond the words that a rule inside draws.
_START = 2**60
_MOMENTA = ("exp_avg", "momentum_buffer")


class MagmaState(NamedTuple):
    """The state of the rule, and the score: a moving average of the agreement."""

    rule: Any
    score: Any


@dataclass(frozen=True, kw_only=True)
class Magma(Wrapper):
    """Momentum-aligned gradient masking (Joo et al., "On surprising effectiveness of masking updates...", 2026).

    Parameters
    ----------
    rule : Rule
        A rule whose state has a momentum, called "exp_avg" or "momentum_buffer".
    p : float
        The probability that a tensor is updated at a step, in (0, 1].
    tau : float
        Temperature of the agreement, >= 0.01.
    score_decay : float
        Decay rate of the score, in [0, 1).
    mask_weight_decay : bool
        Whether the weight decay is scaled and masked like the update.

    Notes
    -----
    With the gradient g, the new momentum m and the direction u of the rule::

        cos = <g, m> / max(norm(g) norm(m), 1e-12), and 0 for NaN
        s <- score_decay s + (1 - score_decay) / (1 + exp(-cos / tau))      s = 0.5 at the start
        direction = s u with probability p, else 0

    The state of the rule moves at every step. One number is drawn for each tensor and step, from the portable noise.

    Examples
    --------
    >>> import numpy as np
    >>> from rose_core.peers import SGD
    >>> rule, weight, grad = Magma(SGD(momentum=0.9), p=1.0), np.zeros(1), np.ones(1)
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(6).tolist()
    [0.512246]
    """

    p: float = number(0.5, above=0.0, most=1.0)
    tau: float = number(2.0, least=0.01)
    score_decay: float = fraction(0.9)
    mask_weight_decay: bool = boolean(True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(isinstance(rule, Magma) for rule in rules_within(self.rule)):
            raise ValueError(f"rule must hold no other Magma, which would draw the same numbers, got {self.rule!r}")

    @property
    def is_elementwise(self) -> bool:
        return False

    @property
    def has_own_step(self) -> bool:
        return self.mask_weight_decay

    def init_state(self, param: Array) -> MagmaState:
        inner = self.rule.init_state(param)
        if _momentum_of(inner) is None:
            raise ValueError(f"the state of {self.rule!r} has no momentum, {' or '.join(_MOMENTA)}, which Magma needs")
        return MagmaState(inner, self.scalar(param, 0.5))

    def compute(self, g: Any, state: MagmaState, x: Any, at: At) -> tuple[Any, MagmaState]:
        direction, _, new = self._scaled(g, state, x, at)
        return direction, new

    def advance(self, g: Any, state: MagmaState, x: Any, at: At, decay: float) -> tuple[Any, MagmaState]:
        direction, scale, new = self._scaled(g, state, x, at)
        factor = 1.0 - scale * (1.0 - decay) if self.mask_weight_decay else decay
        return x * factor - at.lr * direction, new

    def _scaled(self, g: Any, state: MagmaState, x: Any, at: At) -> tuple[Any, Any, MagmaState]:
        """Return the direction, its scale and the new state."""
        direction, inner = self.rule.compute(g, state.rule, x, at)
        xp, wide, m = array_namespace(g), as_float64(g), as_float64(_momentum_of(inner))
        cos = convert(sum_of(wide * m) / at_least(l2(wide) * l2(m), 1e-12), dtype_name(g))  # type: ignore[arg-type]
        cos = at_most(at_least(xp.where(xp.isnan(cos), 0.0, cos), -1.0), 1.0)
        agreement = exponential(-divide(cos, self.tau)) + 1.0
        score = moving_average(state.score, xp.ones_like(agreement) / agreement, self.score_decay)
        words = xp.astype(at.draw(2, g, _START), g.dtype)
        is_kept = words[0] * 2.0**-16 + words[1] * 2.0**-32 < self.p
        return xp.where(is_kept, score * direction, 0.0), xp.where(is_kept, score, 0.0), MagmaState(inner, score)


def _momentum_of(state: Any) -> Any:
    """Return the momentum of a state, None if it has none. A wrapper's state holds that of its rule."""
    while hasattr(state, "rule"):
        state = state.rule
    return next((leaf for name in _MOMENTA if (leaf := getattr(state, name, None)) is not None), None)
