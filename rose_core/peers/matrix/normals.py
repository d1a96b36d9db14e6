"""Portable random numbers that are nearly normal, from the portable noise words, by exact operations."""

import math
from typing import Any, Final

import numpy as np

from rose_core.namespace import Array, array_namespace, convert
from rose_core.peers.base import At

__all__ = ["normal_draws", "uniform_draw"]

_WORDS: Final = 12
_MEAN: Final = _WORDS * 65535 / 2


def normal_draws(at: At, start: int, shape: tuple[int, ...], like: Array) -> Any:
    """Return independent random numbers with mean 0 and variance 1 - 2**-32, in float64.

    Parameters
    ----------
    at : At
        The step, whose words are drawn.
    start : int
        The number of words that earlier draws of this step may take.
    shape : tuple of int
        The shape of the result.
    like : array
        An array of the library, and on the device to return the numbers in.

    Notes
    -----
    A number is ``(w_1 + ... + w_12 - 393210) / 65536`` for 12 uniform words in [0, 2**16). This is exact, so it has
    the same bits on every library. The sum of 12 uniform numbers has the mean, the variance and the symmetry of the
    normal distribution. Its kurtosis is 2.9 in place of 3, and its magnitude is at most 6.
    """
    xp = array_namespace(like)
    words = xp.reshape(at.draw(_WORDS * math.prod(shape), like, start), (*shape, _WORDS))
    return (convert(xp.sum(words, axis=-1), "float64") - _MEAN) * 2.0**-16


def uniform_draw(at: At, start: int) -> float:
    """Return a multiple of 2**-32 in [0, 1), uniformly at random."""
    low, high = map(int, at.draw(2, np.empty(0), start))
    return (low + 65536 * high) / 2**32
