"""Clipping of directions by their root mean square."""

from typing import Any

from rose_core.namespace import array_namespace
from rose_core.peers.arithmetic import at_least, at_most, mean_of, root

__all__ = ["clipped_by_rms"]


def clipped_by_rms(x: Any, max_rms: float, max_abs: float | None = None) -> Any:
    """Scale all elements down to a root mean square of at most `max_rms`, then clip them to `max_abs`."""
    xp, rms = array_namespace(x), root(mean_of(x * x))
    one = xp.ones_like(rms)
    x = x * xp.where(rms > max_rms, max_rms * one / xp.where(rms > max_rms, rms, one), one)
    return x if max_abs is None else at_least(at_most(x, max_abs), -max_abs)
