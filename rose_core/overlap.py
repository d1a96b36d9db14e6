"""Which arrays share memory, by the addresses between which they lie."""

import functools
from itertools import pairwise

import numpy as np

__all__ = ["Memory", "lie_apart", "overlapping"]

Memory = tuple[tuple[int, ...], tuple[int, ...]]
"""The first addresses of some arrays, and how many bytes each takes from there."""


def lie_apart(memory: Memory) -> bool:
    """Tell whether arrays share no memory.

    Where parameters do, the order of their updates matters, so that all of a step are done one by one.
    """
    taken = sorted((start, start + extent) for start, extent in zip(*memory, strict=True) if extent > 0)
    return all(stop <= start for (_, stop), (start, _) in pairwise(taken))


@functools.lru_cache(maxsize=4)  # mostly they lie where they lay in the last step
def overlapping(params: Memory, grads: Memory) -> tuple[int, ...]:
    """Return the places of the gradients whose memory meets that of a parameter, or goes around an empty one."""
    starts, extents = np.asarray(params, np.int64)
    order = np.argsort(starts)
    reached = np.maximum.accumulate((starts + extents)[order])  # by the parameters that start no later
    firsts, extents = np.asarray(grads, np.int64)
    before = np.searchsorted(starts[order], firsts + extents)  # so many start before a gradient ends
    meets = (before > 0) & (reached[np.maximum(before, 1) - 1] > firsts) & (extents > 0)
    return tuple(np.flatnonzero(meets).tolist())
