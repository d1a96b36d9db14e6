"""Arrays in parts, as blocks and shards have them, and a sum by its stages over such parts (ROSE-7.4)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rose_core.summation import extrema, fold_sigmas, fold_sums, folded_sum, joined_extrema, joined_folds, magnitude

__all__ = ["shuffled_parts", "sum_of_parts"]


def shuffled_parts(rng: np.random.Generator, x: np.ndarray, axis: int) -> list[np.ndarray]:
    """Return the elements along an axis in random order and in blocks of random sizes, often of one element."""
    count = x.shape[axis]
    cuts = rng.integers(1, count + 1, rng.integers(0, 8)) if rng.random() < 0.7 else np.arange(1, count)
    parts = np.split(np.take(x, rng.permutation(count), axis=axis), np.unique(cuts), axis=axis)
    return [part for part in parts if part.size]


def sum_of_parts(parts: Sequence[Any], axis: int) -> Any:
    """Return the exact sum over an axis of all parts together; only their extrema and folds are joined."""
    ends = joined_extrema(extrema(x, (axis,)) for x in parts)
    sigmas = fold_sigmas(magnitude(ends), sum(x.shape[axis] for x in parts))
    return folded_sum(joined_folds(fold_sums(x, sigmas, (axis,)) for x in parts))
