"""Clipping of updates: by their root mean square, and then by their amplitude."""

from dataclasses import dataclass
from typing import Any

from rose_core.peers.arithmetic import at_least, at_most, clipped_to_norm, squares_of
from rose_core.peers.base import At, Total
from rose_core.peers.options import choice, number, optional
from rose_core.peers.wrappers.wrapper import Wrapper, WrapperState

__all__ = ["ClipUpdates"]


@dataclass(frozen=True, kw_only=True)
class ClipUpdates(Wrapper):
    """Clips the direction of a rule.

    Parameters
    ----------
    rule : Rule
        The rule.
    max_rms : float or None
        The largest root mean square of a direction, > 0; None is no limit. A larger one is scaled down to it.
    max_abs : float or None
        The largest magnitude of an element after that, > 0; None is no limit.
    mode : str
        "per_tensor_rms", or "global_rms": the root mean square is that of the directions of all parameters.

    Notes
    -----
    With the direction u of the rule::

        direction = u min(1, max_rms / rms(u)), then limited to [-max_abs, max_abs]

    A direction with a NaN stays as it is: NaN passes the limits. `SpikeGuard` skips such a step.

    Examples
    --------
    >>> import numpy as np
    >>> from rose_core.peers import SGD
    >>> rule, weight, grad = ClipUpdates(SGD(), max_abs=2.5), np.zeros(2), np.asarray([6.0, 2.0])
    >>> rule.update(grad, rule.init(weight), weight, step=1)[0].round(4).tolist()
    [2.5, 0.8944]
    """

    max_rms: float | None = optional(number(2.0, above=0.0), default=2.0)
    max_abs: float | None = optional(number(10.0, above=0.0), default=10.0)
    mode: str = choice("per_tensor_rms", "global_rms")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "global_rms" and self.rule.reads_total:
            raise ValueError(
                f"mode='global_rms' is not allowed around {self.rule!r}, which reads a norm over all parameters, too"
            )

    @property
    def is_elementwise(self) -> bool:
        return self.rule.is_elementwise and self.max_rms is None

    @property
    def reads_total(self) -> bool:
        return self.mode == "global_rms" or self.rule.reads_total

    def summand(self, g: Any, state: WrapperState, x: Any, at: At) -> Total | None:
        if self.mode != "global_rms":
            return super().summand(g, state, x, at)
        return squares_of(self.rule.compute(g, state.rule, x, at)[0])

    def compute(self, g: Any, state: WrapperState, x: Any, at: At) -> tuple[Any, WrapperState]:
        u, inner = self.rule.compute(g, state.rule, x, at)
        if self.max_rms is not None:
            total = at.total if self.mode == "global_rms" and at.total is not None else squares_of(u)
            u = clipped_to_norm(u, total.rms, self.max_rms)
        if self.max_abs is not None:
            u = at_most(at_least(u, -self.max_abs), self.max_abs)
        return u, WrapperState(inner)
