"""Clipping of directions by their root mean square."""

from typing import Any

from rose_core.peers.arithmetic import at_least, at_most, clipped_to_norm, rms

__all__ = ["clipped_by_rms"]


def clipped_by_rms(x: Any, max_rms: float, max_abs: float | None = None) -> Any:
    """Scale each array along axis 0 to a root mean square of at most `max_rms`, then clip elements to `max_abs`."""
    x = clipped_to_norm(x, rms(x, tuple(range(1, x.ndim))), max_rms)
    return x if max_abs is None else at_least(at_most(x, max_abs), -max_abs)
