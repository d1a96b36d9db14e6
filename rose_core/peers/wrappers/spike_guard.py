"""A guard against spikes of the gradient norm, and against norms that are not finite."""

from dataclasses import dataclass
from typing import Any, ClassVar

from rose_core.namespace import array_namespace
from rose_core.peers.arithmetic import clipped_to_norm, squares_of
from rose_core.peers.base import At, Total
from rose_core.peers.options import choice, number, optional
from rose_core.peers.states import map_leaves
from rose_core.peers.wrappers.wrapper import Wrapper, WrapperState

__all__ = ["SpikeGuard"]


@dataclass(frozen=True, kw_only=True)
class SpikeGuard(Wrapper):
    """Clips or skips steps whose gradient norm is large. A step whose norm is not finite is skipped whole.

    The norm is not finite if an element is infinite or NaN, or if the norm is larger than all float64 numbers.

    A skipped step leaves the parameter and the state as they are, without weight decay. Only the number of the step
    advances. Put the guard outside of other wrappers.

    rollfast differs: NaN passes its guard, and its skipped steps still decay the parameter.

    Parameters
    ----------
    rule : Rule
        The rule.
    max_norm : float or None
        A larger l2 norm of the gradient is a spike, > 0. None: only norms that are not finite are skipped.
    on_spike : str
        "clip" scales the gradient of a spike down to `max_norm`, and "skip" skips the step.
    scope : str
        "global": the norm is that of the gradients of all parameters, and all of them are skipped together. "tensor":
        each parameter has its own.

    Examples
    --------
    >>> import numpy as np
    >>> from rose_core.peers import SGD
    >>> rule, weight = SpikeGuard(SGD(), max_norm=1.0), np.zeros(2)
    >>> rule.update(np.asarray([3.0, 4.0]), rule.init(weight), weight, step=1)[0].round(4).tolist()
    [0.6, 0.8]
    >>> rule.update(np.asarray([3.0, float("nan")]), rule.init(weight), weight, step=1)[0].tolist()
    [0.0, 0.0]
    """

    max_norm: float | None = optional(number(1.0, above=0.0))
    on_spike: str = choice("clip", "skip")
    scope: str = choice("global", "tensor")

    takes_own_steps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scope == "global" and self.rule.reads_total:
            raise ValueError(
                f"scope='global' is not allowed around {self.rule!r}, which reads a norm over all parameters, too"
            )

    @property
    def is_elementwise(self) -> bool:
        return False

    @property
    def reads_total(self) -> bool:
        return self.scope == "global" or self.rule.reads_total

    @property
    def has_own_step(self) -> bool:
        return True

    def summand(self, g: Any, state: WrapperState, x: Any, at: At) -> Total | None:
        return squares_of(g) if self.scope == "global" else super().summand(g, state, x, at)

    def compute(self, g: Any, state: WrapperState, x: Any, at: At) -> tuple[Any, WrapperState]:
        g, is_taken = self._guarded(g, at)
        direction, inner = self.rule.compute(g, state.rule, x, at)
        return array_namespace(x).where(is_taken, direction, 0.0), _chosen(is_taken, inner, state)

    def advance(self, g: Any, state: WrapperState, x: Any, at: At, decay: float) -> tuple[Any, WrapperState]:
        g, is_taken = self._guarded(g, at)
        stepped, inner = self.rule.advance(g, state.rule, x, at, decay)
        return array_namespace(x).where(is_taken, stepped, x), _chosen(is_taken, inner, state)

    def _guarded(self, g: Any, at: At) -> tuple[Any, Any]:
        """Return the gradient that the rule reads, and whether the step is taken."""
        is_global = self.scope == "global" and at.total is not None
        norm = (at.total if is_global and at.total else squares_of(g)).l2
        is_taken = array_namespace(g).isfinite(norm)  # it is NaN if an element is NaN or infinite
        if self.max_norm is None:
            return g, is_taken
        if self.on_spike == "skip":
            return g, is_taken & (norm <= self.max_norm)
        return clipped_to_norm(g, norm, self.max_norm), is_taken


def _chosen(is_taken: Any, new: Any, old: WrapperState) -> WrapperState:
    xp = array_namespace(is_taken)
    return WrapperState(map_leaves(lambda leaf, before: xp.where(is_taken, leaf, before), new, old.rule))
