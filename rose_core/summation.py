"""Sums that do not depend on the order of their summands, and the reductions they are made of (ROSE-7)."""

import math
from collections.abc import Sequence
from operator import index
from typing import Any, Final, SupportsIndex

from rose_core.namespace import Array, array_namespace, floating_dtype, has_float64, quiet, scalar, widen

__all__ = ["LOCAL", "Reductions", "exact_mean", "exact_sum", "folded_sum", "to_summand"]


class Reductions:
    """The four reductions of a phase, over all that belongs together.

    These are local: the whole of what is reduced lies in the array at hand. Where it lies in blocks or
    on several devices, a subclass combines the local results, and nothing else of the rule changes
    (ROSE-7.4). Reduced axes keep the size 1.
    """

    def count(self, x: Array, axis: tuple[int, ...]) -> int:
        """Return how many elements are reduced to one."""
        return math.prod(x.shape[i] for i in axis)

    def min(self, x: Array, axis: tuple[int, ...]) -> Any:
        """Return the smallest element, NaN if there is one."""
        return array_namespace(x).min(x, axis=axis, keepdims=True)

    def max(self, x: Array, axis: tuple[int, ...]) -> Any:
        """Return the largest element, NaN if there is one."""
        return array_namespace(x).max(x, axis=axis, keepdims=True)

    def sum(self, x: Array, axis: tuple[int, ...]) -> Any:
        """Return the sum of elements whose partial sums are all exact, so that any order will do."""
        return array_namespace(x).sum(x, axis=axis, keepdims=True)


LOCAL: Final = Reductions()


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
    summands = xp.reshape(xp.permute_dims(to_summand(x), kept + axes), (*kept_shape, count))
    if count == 0 or 0 in kept_shape:
        return xp.sum(summands, axis=-1)
    return xp.reshape(folded_sum(summands, (len(kept),)), kept_shape)


def exact_mean(
    x: Array, axis: tuple[int, ...], *, magnitude: Array | None = None, reductions: Reductions = LOCAL
) -> Any:
    """Return the mean by an exact sum, in float64; the reduced axes keep the size 1."""
    total = folded_sum(x, axis, magnitude=magnitude, reductions=reductions)
    return total / scalar(total, float(reductions.count(x, axis)))


def to_summand(x: Array) -> Any:
    """Return the array in the dtype it is summed in: float64, or float32 on a device without (ROSE-12.2)."""
    return widen(x, "float64" if has_float64(x) else "float32")


def folded_sum(
    x: Array, axis: tuple[int, ...], *, magnitude: Array | None = None, reductions: Reductions = LOCAL
) -> Any:
    """Return the exact sum of a float64 array (ROSE-7.2); the reduced axes keep the size 1.

    `magnitude` is max |x| over `axis`, where it is known already. An array of a device without float64 is
    summed as it is (ROSE-12.2).
    """
    if not has_float64(x):
        return reductions.sum(x, axis)
    xp = array_namespace(x)
    level = max(2, (reductions.count(x, axis) - 1).bit_length())
    if magnitude is None:
        magnitude = reductions.max(xp.abs(x), axis)
    power = (magnitude - xp.nextafter(magnitude, xp.zeros_like(magnitude))) * 2.0**52
    sigma = power * (1.5 * 2.0**level)
    rest, folds = x, []
    for _ in range(2 if level <= 20 else 3):
        # The next line is not `rest`: it rounds `rest` to a multiple of sigma's last place.
        fold = (rest + sigma) - sigma
        folds.append(reductions.sum(fold, axis))
        rest = rest - fold
        sigma = sigma * 2.0 ** (level - 54)
    first, *others = folds
    return first + (others[0] if len(others) == 1 else others[0] + others[1])


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
