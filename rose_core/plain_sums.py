"""Slices whose plain sum is exact, whatever its order, so that they need no folds (ROSE-7.2)."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from rose_core.alike import Alike
from rose_core.gradient import Gradient, of_all_slices
from rose_core.namespace import (
    array_namespace,
    as_light_array,
    block_elements,
    dtype_name,
    has_float64,
    has_light_arrays,
)
from rose_core.partition import Block, number_of_slices
from rose_core.summation import Extrema, Folds, fold_sigmas, fold_sums, magnitude, to_summand

__all__ = ["are_likely_exact", "extrema_and_folds"]

# Of fewer elements the calls cost more than the folds; of longer slices most have an element that is too small.
_FEWEST: Final = 2**12
_LONGEST: Final = 2**12
# Fewer elements are not divided among threads, so that the library whose calls cost least is the best to fold them.
_LIGHT: Final = 2**15

# The bits of a word, those of its fraction, and the bias of its exponent.
_FORMATS: Final = {"float32": (32, 23, 127), "bfloat16": (16, 7, 127), "float16": (16, 10, 15)}


def are_likely_exact(stored: Alike, run: Sequence[Sequence[Block]]) -> bool:
    """Tell whether to try plain sums of slices that lie in one block each.

    On a GPU it would have to be waited for which are not exact.
    """
    one, count = stored.one, stored.slice_elements
    elements = (run[-1][0].slices.stop - run[0][0].slices.start) * count
    worthwhile = len(run[0]) == 1 and count <= _LONGEST and elements >= _FEWEST and dtype_name(one) in _FORMATS
    return worthwhile and has_light_arrays(one) and has_float64(one)


def extrema_and_folds(gradient: Gradient, run: Sequence[Sequence[Block]]) -> tuple[Extrema, Folds]:
    """Return what `Gradient.extrema` and `Gradient.folds` do, for which most slices are looked at once.

    NOTE: [exact plain sums] The last place of the first sigma is u = 2**(level + e - 52), where no element is beyond
    2**(e + 1), and 2**level not below their number. If all elements are multiples of u, so is every partial sum, and
    none is beyond 2**53 u: float64 has them. The folds have the same sum, for the first holds all of every element.
    """
    stored, count = gradient.stored, gradient.stored.slice_elements
    low, high, sums, least = _survey(gradient, run)
    ends = gradient.rounded_extrema((low, high))
    sigmas = fold_sigmas(magnitude(ends), count)
    exact = sigmas[0] / (1.5 * 2.0**52) <= _quanta(least, dtype_name(stored.one))
    inexact = np.nonzero(~exact.reshape(-1))[0]
    if 2 * len(inexact) > len(sums):  # to read all of them again costs less than to gather so many
        return ends, gradient.folds(run, sigmas)
    folds = (sums, *(np.zeros_like(sums) for _ in sigmas[1:]))
    at_once = block_elements(stored.one) // count
    for some in (inexact[i : i + at_once] for i in range(0, len(inexact), at_once)):
        parts = _folds_of_some(gradient, some + run[0][0].slices.start, tuple(sigma[some] for sigma in sigmas))
        for whole, part in zip(folds, parts, strict=True):
            whole[some] = as_light_array(part)
    return ends, folds


def _survey(gradient: Gradient, run: Sequence[Sequence[Block]]) -> Sequence[Any]:
    """Return the extrema of each slice as it is stored, its plain sum, and its least magnitude word."""
    axes, xp = gradient.stored.within_slices, array_namespace(gradient.stored.one)

    def of_group(group: Sequence[Block]) -> tuple[Any, ...]:
        stored = gradient.stored.rows(*group)
        sums = xp.sum(gradient.summands(stored), axis=axes, keepdims=True)
        least = xp.min(gradient.magnitude_words(stored), axis=axes, keepdims=True)
        return *gradient.stored_extrema(stored), sums, least

    return of_all_slices(run, of_group)


def _quanta(least: Any, dtype: str) -> Any:
    """Return the last place of the least elements, given by their magnitude words, or half of it if it is subnormal.

    All elements of a slice are multiples of that of the least one, and stay so when they are rounded to C.
    """
    bits, fraction, bias = _FORMATS[dtype]
    exponent = (least.astype(np.int64) + (2 ** (bits - 1) + 1)) >> (fraction + 1)
    return np.ldexp(np.ones(least.shape), (exponent - (bias + fraction)).astype(np.int32))


def _folds_of_some(gradient: Gradient, slices: Any, sigmas: Folds) -> Folds:
    """Return the folds of the sums of some slices, given by their numbers, which ascend."""
    stored = gradient.stored
    if len(slices) * stored.slice_elements < _LIGHT:
        stored = Alike([as_light_array(array) for array in stored.arrays])
    rows = _rows(stored, slices)
    own = tuple(map(array_namespace(rows).asarray, sigmas))
    return fold_sums(to_summand(gradient.rounded(rows)), own, stored.within_slices)


def _rows(stored: Alike, slices: Any) -> Any:
    """Return some slices of arrays of rank 2 or more, given by their numbers, which ascend."""
    xp, count = array_namespace(stored.one), number_of_slices(stored.one.shape)
    own = np.searchsorted(slices, np.arange(len(stored.arrays) + 1) * count)
    rows = [
        xp.take(array, xp.asarray(slices[start:stop] - number * count), axis=0)
        for number, (array, start, stop) in enumerate(zip(stored.arrays, own, own[1:], strict=False))
        if start < stop
    ]
    return rows[0] if len(rows) == 1 else xp.concat(rows, axis=0)
