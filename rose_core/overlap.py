"""Which arrays share memory, by the addresses between which they lie."""

import functools
from typing import NamedTuple

import numpy as np

__all__ = ["Memory", "Sharing", "sharing"]

Memory = tuple[tuple[int, ...], tuple[int, ...]]
"""The first addresses of some arrays, and how many bytes each takes from there."""


class Sharing(NamedTuple):
    """Which arrays share memory, or lie between the elements of others.

    Attributes
    ----------
    params : the places of the parameters that do so with another one, so that the order of their updates matters.
    grads : the places of the gradients that do so with a parameter, or go around an empty one.
    """

    params: tuple[int, ...]
    grads: tuple[int, ...]


@functools.lru_cache(maxsize=4)  # mostly they lie where they lay in the last step
def sharing(params: Memory, grads: Memory) -> Sharing:
    """Return which of some parameters and of their gradients share memory."""
    starts, extents = np.asarray(params, np.int64)
    order = np.argsort(starts)
    reached = np.maximum.accumulate((starts + extents)[order])  # by the parameters that start no later
    firsts, lengths = np.asarray(grads, np.int64)
    before = np.searchsorted(starts[order], firsts + lengths)  # so many start before a gradient ends
    meets = (before > 0) & (reached[np.maximum(before, 1) - 1] > firsts) & (lengths > 0)
    taken = order[extents[order] > 0]
    joins = starts[taken[1:]] < np.maximum.accumulate((starts + extents)[taken[:-1]])  # what is reached before it
    among = np.unique(np.concatenate([taken[1:][joins], taken[:-1][joins]]))
    return Sharing(tuple(among.tolist()), tuple(np.flatnonzero(meets).tolist()))
