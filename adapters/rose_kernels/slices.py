"""The statistics of rows in compiled code: `rose_core.statistics`, for slices that are contiguous (ROSE-4)."""

import math
from typing import Any, Final

import numpy as np
from numba.extending import overload

from rose_kernels.compilation import compiled, indices
from rose_kernels.folds import first_sigma, fold_sums_of, last_place, sums_of_nothing, total
from rose_kernels.memory import prefetch_far, words_at
from rose_kernels.words import (
    add,
    and_,
    as_word,
    flip_of,
    load,
    ordered,
    quantum_of,
    remoteness,
    size_of,
    xor,
)

__all__ = [
    "extrema",
    "fold_row",
    "limits",
    "mean_and_range",
    "measure_rows",
    "quantum_of_row",
    "sigma_of_row",
    "strip_buffers",
]

# So many rows at most are measured together.
_STRIP: Final = 64
# While so many elements are summed, as many are asked for of the memory that comes next.
_GROUP: Final = 256
# Rows shorter than this leave most of a vector empty: those of a strip are turned into columns.
_SHORT: Final = 40
# So many elements at most are measured together, which stay in the first-level cache.
_STRIP_ELEMENTS: Final = _STRIP * _SHORT


@compiled
def extrema(words, flip):
    """Return the smallest and the largest element as ordered integers, and the most remote (`words.remoteness`)."""
    low = high = ordered(xor(words[0], flip))
    least = remoteness(words[0])
    for i in indices(0, words.size):
        key = ordered(xor(words[i], flip))
        low, high = min(low, key), max(high, key)
        least = min(least, remoteness(words[i]))
    return low, high, least


@compiled
def _least_magnitude(least, word, operation):
    """Return the magnitude of the most remote element, 0 if all are 0."""
    sign = flip_of(1, word)
    return np.float64(load(add(xor(sign, least), 1), operation))


@compiled
def limits(low_key, high_key, flip, operation):
    """Return the smallest and the largest element in the operation dtype, NaN both if any element is (ROSE-4.1)."""
    none = and_(flip, 0)
    low, high = _of_key(low_key, none, operation), _of_key(high_key, none, operation)
    if math.isnan(low) or math.isnan(high):
        return operation(np.nan), operation(np.nan)
    return low, high


@compiled
def _of_key(key, none, operation):
    return load(xor(none, ordered(xor(none, key))), operation)


@compiled
def sigma_of_row(low, high, scale):
    """Return the s of the first fold of a row, NaN if the row has no finite sum."""
    magnitude = max(abs(np.float64(low)), abs(np.float64(high)))
    return first_sigma(magnitude, scale) if math.isfinite(magnitude) else np.nan


@compiled
def _element_term(words, flip, operation, i):
    return np.float64(load(xor(words[i], flip), operation))


_fold_sums = fold_sums_of(_element_term)


@compiled
def fold_row(words, flip, operation, sigma, ratio, folds, quantum, ahead):
    """Return the sums of the folds of a row, or of a part of one, whose elements are multiples of `quantum` or 0.

    A fold that leaves nothing of any element is the last that is worth making. What lies `ahead` bytes behind the row
    is asked for on the way.
    """
    needed = folds
    if quantum >= last_place(sigma):
        needed = np.int64(1)
    elif folds == 3 and quantum >= last_place(sigma * ratio):
        needed = np.int64(2)
    first = second = third = np.int64(0)
    for start in range(0, words.size, _GROUP):
        group = words[start : start + _GROUP]
        prefetch_far(group, 0, group.size, ahead)
        sums = _fold_sums(group, flip, operation, group.size, sigma, ratio, needed)
        first, second, third = first + sums[0], second + sums[1], third + sums[2]
    second_of_nothing, third_of_nothing = sums_of_nothing(words.size, sigma, ratio)
    return first, second if needed >= 2 else second_of_nothing, third if needed == 3 else third_of_nothing


@compiled
def quantum_of_row(least, word, operation):
    """Return a number of which each element is a multiple, from the most remote one; 0 tells nothing."""
    return quantum_of(_least_magnitude(least, word, operation), word)


@compiled
def mean_and_range(low, high, mean64, centered, operation):
    """Return the mean, 0 where nothing is centered, and the range (ROSE-4.2, ROSE-4.3)."""
    mean = operation(0.0)
    if centered:
        mean = operation(mean64)
        mean = max(mean, low)
        mean = min(mean, high)
        mean = mean + operation(0.0)  # -0 becomes +0
        low, high = low - mean, high - mean
    return mean, abs(high) - low


@compiled
def strip_buffers(word, operation):
    """Return room for a strip: its columns, and of each row the keys, the ends, the s of the first fold, the sums."""
    columns, keys = np.empty(_STRIP * (_SHORT - 1), word), _keys(word)
    return (
        columns,
        keys,
        np.empty((2, _STRIP), operation),
        np.empty(_STRIP, np.float64),
        np.empty((3, _STRIP), np.int64),
    )


@compiled
def measure_rows(address, pitch, rows, length, flip, centered, fold, operation, word, means, ranges, buffers):
    """Write the mean and the range of each row; the first lies at `address`, each next `pitch` bytes on.

    `fold` is the scale, the ratio and the number of the folds of a row. Rows are measured in strips, which stay in the
    cache between the search for extrema and the sums; all that is one value a row is computed for a strip at once.
    """
    columns, keys, ends, sigmas, sums = buffers
    strip = min(_STRIP, max(1, _STRIP_ELEMENTS // length), rows)
    for start in range(0, rows, strip):
        count = min(strip, rows - start)
        place = address + start * pitch
        in_columns = length < _SHORT and count == _STRIP
        if in_columns:
            _load_columns(columns, place, pitch, length, flip, word, keys)
        else:
            for row in range(count):
                keys[0, row], keys[1, row], keys[2, row] = extrema(words_at(place + row * pitch, length, word), flip)
        _find_sigmas(keys, count, flip, fold[0], operation, ends, sigmas)
        if centered and in_columns:
            _fold_columns(columns, length, sigmas, fold[1], operation, sums)
        elif centered:
            _fold_rows(place, pitch, length, count, flip, keys, sigmas, fold, operation, word, sums)
        _finish(count, length, centered, fold, ends, sigmas, sums, operation, means[start:], ranges[start:])


@compiled
def _find_sigmas(keys, count, flip, scale, operation, ends, sigmas):
    """Write the ends of each row and the s of its first fold."""
    for row in indices(0, count):
        low, high = limits(keys[0, row], keys[1, row], flip, operation)
        ends[0, row], ends[1, row], sigmas[row] = low, high, sigma_of_row(low, high, scale)


@compiled
def _fold_rows(address, pitch, length, count, flip, keys, sigmas, fold, operation, word, sums):
    """Write the sums of the folds of each row."""
    _, ratio, folds = fold
    for row in range(count):
        if math.isnan(sigmas[row]):
            continue
        quantum = quantum_of_row(keys[2, row], word, operation)
        words = words_at(address + np.int64(row) * pitch, length, word)
        own = fold_row(words, flip, operation, sigmas[row], ratio, folds, quantum, count * pitch)
        sums[0, row], sums[1, row], sums[2, row] = own


@compiled
def _finish(count, length, centered, fold, ends, sigmas, sums, operation, means, ranges):
    """Write the mean and the range of each row of a strip."""
    _, ratio, folds = fold
    for row in indices(0, count):
        low, high = ends[0, row], ends[1, row]
        mean64 = 0.0
        if centered:
            own = sums[0, row], sums[1, row], sums[2, row]
            mean64 = total(own, length, sigmas[row], ratio, folds, np.float64(high)) / np.float64(length)
        means[row], ranges[row] = mean_and_range(low, high, mean64, centered, operation)


def _keys(word: Any) -> Any:
    """Return room for three ordered integers of each row of a strip."""
    raise NotImplementedError


@overload(_keys)
def _compiled_keys(word):
    key = np.dtype(f"i{word.instance_type.bitwidth // 8}").type
    return lambda word: np.empty((3, _STRIP), key)


@compiled
def _load_columns(columns, address, pitch, length, flip, word, keys):
    """Transpose a strip, so that what belongs to different rows lies side by side, and find the extrema."""
    lows, highs = keys[0], keys[1]
    for i in indices(0, length):
        column = columns[i * np.uintp(_STRIP) : (i + np.uintp(1)) * np.uintp(_STRIP)]
        place = address + np.int64(i) * size_of(word)
        prefetch_far(words_at(address, 1, word), i * _STRIP, (i + 1) * _STRIP, _STRIP * pitch)
        for row in indices(0, _STRIP):
            column[row] = xor(words_at(place + np.int64(row) * pitch, 1, word)[0], flip)
        if i == 0:
            for row in indices(0, _STRIP):
                lows[row] = highs[row] = ordered(column[row])
        for row in indices(0, _STRIP):
            key = ordered(column[row])
            lows[row], highs[row] = min(lows[row], key), max(highs[row], key)


@compiled
def _fold_columns(columns, length, sigmas, ratio, operation, sums):
    """Write the sums of the two folds of each row of a strip."""
    first, second = sums[0], sums[1]
    first[:] = 0
    second[:] = 0
    for i in indices(0, length):
        column = columns[i * np.uintp(_STRIP) : (i + np.uintp(1)) * np.uintp(_STRIP)]
        for row in indices(0, _STRIP):
            x, sigma = np.float64(load(column[row], operation)), sigmas[row]
            raised = x + sigma
            first[row] += as_word(raised)
            second[row] += as_word((x - (raised - sigma)) + sigma * ratio)
