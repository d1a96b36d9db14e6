"""Arrays split into parts, like chunks and shards, and the stages of a sum over all parts (ROSE-7.4)."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from rose_core.summation import Extrema, Folds, extrema, fold_sigmas, fold_sums, sum_of_folds

__all__ = ["combined_extrema", "combined_folds", "shuffled_parts", "sum_of_parts"]


def shuffled_parts(rng: np.random.Generator, x: np.ndarray, axis: int) -> list[np.ndarray]:
    """Return the elements along an axis in random order, cut into parts of random sizes."""
    count = x.shape[axis]
    cuts = rng.integers(1, count + 1, rng.integers(0, 8)) if rng.random() < 0.7 else np.arange(1, count)
    parts = np.split(np.take(x, rng.permutation(count), axis=axis), np.unique(cuts), axis=axis)
    return [part for part in parts if part.size]


def sum_of_parts(parts: Sequence[Any], axis: int) -> Any:
    """Return the sum over an axis of all parts. Only extrema and fold sums are combined."""
    ends = combined_extrema([extrema(x, (axis,)) for x in parts])
    sigmas = fold_sigmas(ends, sum(x.shape[axis] for x in parts))
    return sum_of_folds(combined_folds([fold_sums(x, sigmas, (axis,)) for x in parts]))


def combined_extrema(parts: Sequence[Extrema]) -> Extrema:
    """Return the extrema over all parts, as an all-reduce does."""
    xp = array_namespace(parts[0][0])
    lows, highs = zip(*parts, strict=True)
    return functools.reduce(xp.minimum, lows), functools.reduce(xp.maximum, highs)


def combined_folds(parts: Sequence[Folds]) -> Folds:
    """Return the sum of each fold over all parts, as an all-reduce does."""
    return tuple(functools.reduce(operator.add, fold) for fold in zip(*parts, strict=True))
