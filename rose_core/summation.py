"""Reproducible sums: sums with the same bits in every order of their summands (ROSE-7).

A sum has three stages. `extrema` give the largest magnitude, from which `fold_sigmas` follow. With these,
`fold_sums` splits the summands into folds whose sums are exact. `sum_of_folds` adds them up.

Summands may lie in parts: chunks of an array, or shards on several devices. Then each part runs the stages, and the
extrema and the fold sums of all parts are combined between them. Nothing else is exchanged (ROSE-7.4).
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

from rose_core.namespace import (
    Array,
    array_namespace,
    as_float64,
    convert,
    detached,
    floating_dtype,
    has_float64,
    quiet,
)

__all__ = [
    "Extrema",
    "Folds",
    "extrema",
    "fold_sigmas",
    "fold_sums",
    "mean_of_folds",
    "reproducible_mean",
    "reproducible_sum",
    "sum_of_folds",
]

Extrema = tuple[Any, Any]
"""The smallest and the largest value; both are NaN if any value is."""

Folds = tuple[Any, ...]
"""One array for each fold, the largest fold first."""


@quiet
def reproducible_sum(x: Array, /, *, axis: SupportsIndex | Sequence[SupportsIndex] | None) -> Any:
    """Sum in float64, with the same bits in every order of the summands.

    Parameters
    ----------
    x : array of float64, float32, float16 or bfloat16
        The summands.
    axis : int, sequence of int, or None
        The axes to sum over; None is all of them. Negative axes count from the end.

    Returns
    -------
    array of float64
        The sums, in the shape of `x` without `axis`.

    Raises
    ------
    TypeError
        If `x` is not an array of one of these dtypes.
    ValueError
        If an axis is out of range or given twice.

    Notes
    -----
    ROSE-7.2. The sum keeps all bits down to about 2**-64 of the largest summand and cuts off the rest: a mean
    loses less than 2**-60 of it. The sum of no summands is +0. A sum with an infinity or a NaN is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.asarray([1e16, 1.0, -1e16, 1.0], dtype=np.float64)
    >>> float(reproducible_sum(x, axis=0)), float(reproducible_sum(x[::-1], axis=0))
    (2.0, 2.0)
    """
    floating_dtype(x, "x")
    axes = _normalized_axes(axis, x.ndim)
    kept_shape = tuple(length for i, length in enumerate(x.shape) if i not in axes)
    xp, count = array_namespace(x), math.prod(x.shape[i] for i in axes)
    (x,) = detached(x)
    summands = convert(x, "float64" if has_float64(x) else "float32")
    if 0 in x.shape or not axes:
        return xp.sum(summands, axis=axes) + 0.0 if axes else summands + 0.0
    sums = fold_sums(summands, fold_sigmas(extrema(summands, axes), count), axes)
    return xp.reshape(sum_of_folds(sums), kept_shape)


def reproducible_mean(x: Array, axis: int) -> Any:
    """Return the mean over an axis of a float64 array. The axis keeps the size 1."""
    sigmas = fold_sigmas(extrema(x, (axis,)), x.shape[axis])
    return mean_of_folds(fold_sums(x, sigmas, (axis,)), x.shape[axis])


def extrema(x: Array, axes: tuple[int, ...]) -> Extrema:
    """Return the extrema over `axes`, which keep the size 1."""
    xp = array_namespace(x)
    return xp.min(x, axis=axes, keepdims=True), xp.max(x, axis=axes, keepdims=True)


def fold_sigmas(ends: Extrema, count: int) -> Folds:
    """Return the s of each fold, for `count` summands with these extrema (ROSE-7.2).

    A device without float64 has no folds, and sums in an order of its choice (ROSE-12.2).
    """
    low, high = ends
    xp = array_namespace(low)
    m = as_float64(xp.maximum(xp.abs(low), xp.abs(high)))
    if m.dtype != xp.float64:
        return ()
    level = max(2, int(count - 1).bit_length())
    p = (m - xp.nextafter(m, xp.zeros_like(m))) * 2.0**52
    sigmas = [1.5 * 2.0**level * p]
    for _ in range(1 if level <= 20 else 2):
        sigmas.append(sigmas[-1] * 2.0 ** (level - 54))
    return tuple(sigmas)


def fold_sums(x: Array, sigmas: Folds, axes: tuple[int, ...]) -> Folds:
    """Return the sum of each fold of a float64 array over `axes`, which keep the size 1 (ROSE-7.2)."""
    xp = array_namespace(x)
    if not sigmas:
        return (xp.sum(x, axis=axes, keepdims=True),)
    r, q, sums = x, None, []
    for s in sigmas:
        r = r if q is None else r - q
        q = (r + s) - s
        sums.append(xp.sum(q, axis=axes, keepdims=True))
    return tuple(sums)


def sum_of_folds(sums: Folds) -> Any:
    """Add up the sums of the folds: S_1 + S_2, or S_1 + (S_2 + S_3) (ROSE-7.2)."""
    return functools.reduce(operator.add, reversed(sums))


def mean_of_folds(sums: Folds, count: int) -> Any:
    """Return the mean of `count` summands, given the sum of each fold."""
    total = sum_of_folds(sums)
    return total / array_namespace(total).full_like(total, float(count))  # NOTE: [divisors are arrays]


def _normalized_axes(axis: SupportsIndex | Sequence[SupportsIndex] | None, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    try:
        axes = tuple(operator.index(i) for i in ((axis,) if isinstance(axis, SupportsIndex) else axis))
    except TypeError:
        raise TypeError(f"axis must be None, an integer or a sequence of integers, got {axis!r}") from None
    if not all(-ndim <= i < ndim for i in axes):
        raise ValueError(f"axis must lie in [{-ndim}, {ndim}) for an array of rank {ndim}, got {axis!r}")
    axes = tuple(i % ndim for i in axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis must not name an axis twice, got {axis!r}")
    return axes
