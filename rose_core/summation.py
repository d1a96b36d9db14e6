"""Sums that do not depend on the order of their summands, in the stages they are made of (ROSE-7).

What is summed may lie in parts, which are blocks of an array or shards on several devices: their `extrema` are
joined, and from the `magnitude` everyone has the same `fold_sigmas`; their `fold_sums` are joined, and give the
`folded_sum`. Besides these only the number of summands crosses between parts (ROSE-7.4).
"""

import functools
import math
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any, SupportsIndex

from rose_core.namespace import (
    Array,
    OperationDtype,
    array_namespace,
    divided,
    dtype_name,
    floating_dtype,
    has_float64,
    quiet,
    widen,
)
from rose_core.scratch import Scratch

__all__ = [
    "Extrema",
    "Folds",
    "exact_mean",
    "exact_sum",
    "extrema",
    "fold_sigmas",
    "fold_sums",
    "folded_sum",
    "joined_extrema",
    "joined_folds",
    "magnitude",
    "to_summand",
]

Extrema = tuple[Any, Any]
"""The smallest and the largest value, NaN if there is one."""

Folds = tuple[Any, ...]
"""One array for each fold of a sum, the largest first; every other one has the opposite sign."""


@quiet
def exact_sum(x: Array, /, *, axis: SupportsIndex | Sequence[SupportsIndex] | None) -> Any:
    """Sum in float64 with the same bits for every order of the summands.

    Parameters
    ----------
    x : array of float64, float32, float16 or bfloat16
        The summands.
    axis : int, sequence of int, or None
        The axes to sum over; None for all. Negative axes count from the end.

    Returns
    -------
    array of float64
        The shape of `x` without `axis`.

    Raises
    ------
    TypeError
        If `x` is not an array of one of these dtypes.
    ValueError
        If an axis is out of range or given twice.

    Notes
    -----
    ROSE-7.2. The summands are split into folds whose partial sums are all exact. What is lost
    in their mean is below 2**-60 of the largest. The sum of no summands is +0, a sum with infinity or NaN is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.asarray([1e16, 1.0, -1e16, 1.0], dtype=np.float64)
    >>> float(exact_sum(x, axis=0)), float(exact_sum(x[::-1], axis=0))
    (2.0, 2.0)
    """
    floating_dtype(x, "x")
    xp = array_namespace(x)
    axes = _normalized_axes(axis, x.ndim)
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    kept_shape = tuple(x.shape[i] for i in kept)
    count = math.prod(x.shape[i] for i in axes)
    summands = xp.reshape(xp.permute_dims(widen(x, _summand_dtype(x)), kept + axes), (*kept_shape, count))
    if count == 0 or 0 in kept_shape:
        return xp.sum(summands, axis=-1)
    last = (len(kept),)
    sigmas = fold_sigmas(magnitude(extrema(summands, last)), count)
    return xp.reshape(folded_sum(fold_sums(summands, sigmas, last)), kept_shape)


def to_summand(x: Array, scratch: Scratch | None = None) -> Any:
    """Return an array that is held in an operation dtype in the dtype it is summed in; it may lie in the `scratch`."""
    return x if dtype_name(x) == "float64" else (scratch.widen if scratch else widen)(x, _summand_dtype(x))


def extrema(x: Array, axis: tuple[int, ...]) -> Extrema:
    """Return the extrema over `axis`, which keeps the size 1."""
    xp = array_namespace(x)
    return xp.min(x, axis=axis, keepdims=True), xp.max(x, axis=axis, keepdims=True)


def joined_extrema(parts: Iterable[Extrema]) -> Extrema:
    """Return the extrema of all parts together."""
    return functools.reduce(_wider, parts)


def magnitude(ends: Extrema) -> Any:
    """Return the largest absolute value of what has these extrema."""
    low, high = ends
    xp = array_namespace(low)
    return xp.maximum(xp.abs(low), xp.abs(high))


def fold_sigmas(largest: Array, count: int) -> Folds:
    """Return what cuts `count` summands, the largest absolute value being given, into folds (ROSE-7.2).

    A device without float64 has no folds, and sums as it does (ROSE-12.2).
    """
    largest = to_summand(largest)
    if dtype_name(largest) != "float64":
        return ()
    level = max(2, (count - 1).bit_length())
    xp = array_namespace(largest)
    last_place = largest - xp.nextafter(largest, xp.zeros_like(largest))
    sigmas = [last_place * (1.5 * 2.0 ** (level + 52))]
    for _ in range(1 if level <= 20 else 2):
        sigmas.append(sigmas[-1] * 2.0 ** (level - 54))
    return tuple(sigmas)


def fold_sums(x: Array, sigmas: Folds, axis: tuple[int, ...], scratch: Scratch | None = None) -> Folds:
    """Return the sum of each fold over `axis`, which keeps the size 1; `x` has the dtype of a summand.

    What is made besides may lie in the `scratch`.
    """
    xp = array_namespace(x)
    if not sigmas:
        return (xp.sum(x, axis=axis, keepdims=True),)
    *others, last = sigmas
    sums: list[Any] = []
    rest = x
    for place, sigma in enumerate(others):
        # The next two lines are not `rest`: they round it to a multiple of sigma's last place.
        fold = scratch.add(rest, sigma, place=place) if scratch else rest + sigma
        fold -= sigma
        sums.append(xp.sum(fold, axis=axis, keepdims=True))
        fold -= rest
        rest = fold  # negated, which no rounding minds: made in place, less memory is touched
    rest += last
    rest -= last
    return *sums, xp.sum(rest, axis=axis, keepdims=True)


def joined_folds(parts: Iterable[Folds]) -> Folds:
    """Return the sums of each fold of all parts together; they are exact, so that any order will do."""
    return functools.reduce(_added, parts)


def folded_sum(sums: Folds) -> Any:
    """Return the sum whose folds have these sums, added from the last one (ROSE-7.2)."""
    return functools.reduce(lambda total, fold: fold - total, reversed(sums))


def exact_mean(sums: Folds, count: int) -> Any:
    """Return the mean of `count` summands in the dtype of their sums, which are given by folds."""
    return divided(folded_sum(sums), float(count))


def _summand_dtype(x: Array) -> OperationDtype:
    """Return the dtype that sums are made in: float64, or float32 on a device without (ROSE-12.2)."""
    return "float64" if has_float64(x) else "float32"


def _wider(one: Extrema, other: Extrema) -> Extrema:
    xp = array_namespace(one[0])
    return xp.minimum(one[0], other[0]), xp.maximum(one[1], other[1])


def _added(one: Folds, other: Folds) -> Folds:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _normalized_axes(axis: SupportsIndex | Sequence[SupportsIndex] | None, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    try:
        axes = tuple(index(i) for i in ((axis,) if isinstance(axis, SupportsIndex) else axis))
    except TypeError:
        raise TypeError(f"axis must be None, an integer or a sequence of integers, got {axis!r}") from None
    if not all(-ndim <= i < ndim for i in axes):
        raise ValueError(f"axis must lie in [{-ndim}, {ndim}) for an array of rank {ndim}, got {axis!r}")
    axes = tuple(i % ndim for i in axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis must not name an axis twice, got {axis!r}")
    return axes
