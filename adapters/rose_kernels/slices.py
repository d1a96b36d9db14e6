"""The statistics of rows in compiled code: `rose_core.statistics`, for slices that are contiguous (ROSE-4)."""

import math
from typing import Any

import numpy as np
from numba.extending import overload

from rose_kernels.compilation import compiled, indices
from rose_kernels.folds import first_sigma, fold_sums_of, last_place, total
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
    words_at,
    xor,
)

__all__ = ["SHORT", "extrema", "fold_row", "limits", "mean_and_range", "measure_rows", "sigma_of_row"]

# Rows shorter than this leave most of a vector empty: of these so many at once are measured side by side.
SHORT = 72
STRIP = 64


@compiled
def extrema(words, flip):
    """Return the smallest and the largest element as ordered integers, and the most remote (`words.remoteness`)."""
    low = high = ordered(xor(words[0], flip))
    least = remoteness(words[0])
    for i in indices(1, words.size):
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
def _term(words, flip, operation, i):
    return np.float64(load(xor(words[i], flip), operation))


_fold_sums = fold_sums_of(_term)


@compiled
def fold_row(words, flip, operation, sigma, ratio, folds):
    """Return the sums of the folds of a row, or of a part of one."""
    return _fold_sums(words, flip, operation, words.size, sigma, ratio, folds)


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
def measure_rows(address, pitch, rows, length, flip, centered, fold, operation, word, means, ranges):
    """Write the mean and the range of each row; the first lies at `address`, each next `pitch` bytes on.

    `fold` is the scale, the ratio and the number of the folds of a row.
    """
    done = 0
    if length < SHORT:
        done = _measure_strips(address, pitch, rows, length, flip, centered, fold, operation, word, means, ranges)
    for row in range(done, rows):
        words = words_at(address + row * pitch, length, word)
        low_key, high_key, least = extrema(words, flip)
        low, high = limits(low_key, high_key, flip, operation)
        mean64 = 0.0
        if centered:
            quantum = quantum_of(_least_magnitude(least, word, operation), word)
            mean64 = _mean_of_row(words, flip, operation, low, high, quantum, fold)
        means[row], ranges[row] = mean_and_range(low, high, mean64, centered, operation)


@compiled
def _mean_of_row(words, flip, operation, low, high, quantum, fold):
    """Return the mean of a row, of whose elements each is a multiple of `quantum`, unless that is 0."""
    scale, ratio, folds = fold
    sigma = sigma_of_row(low, high, scale)
    if math.isnan(sigma):
        return np.nan
    if quantum >= last_place(sigma):
        folds = 1  # which leaves nothing of any element
    sums = fold_row(words, flip, operation, sigma, ratio, folds)
    return total(sums, words.size, sigma, ratio, folds, np.float64(high)) / np.float64(words.size)


@compiled
def _measure_strips(address, pitch, rows, length, flip, centered, fold, operation, word, means, ranges):
    """Measure short rows side by side, as many as make whole strips, and return how many; they have two folds."""
    strips = rows // STRIP
    if strips == 0:
        return 0
    scale, ratio, _ = fold
    columns = np.empty(STRIP * SHORT, word)
    low_keys, high_keys = _keys(word), _keys(word)
    lows, highs, sigmas = np.empty(STRIP, operation), np.empty(STRIP, operation), np.empty(STRIP, np.float64)
    first, second = np.empty(STRIP, np.int64), np.empty(STRIP, np.int64)
    for strip in range(strips):
        start = strip * STRIP
        _load_strip(columns, address + start * pitch, pitch, length, flip, word, low_keys, high_keys)
        for row in indices(0, STRIP):
            lows[row], highs[row] = limits(low_keys[row], high_keys[row], flip, operation)
        if centered:
            for row in indices(0, STRIP):
                sigmas[row] = sigma_of_row(lows[row], highs[row], scale)
            _fold_strip(columns, length, sigmas, ratio, operation, first, second)
        for row in indices(0, STRIP):
            mean64 = 0.0
            if centered:
                sums = first[row], second[row], np.int64(0)
                mean64 = total(sums, length, sigmas[row], ratio, 2, np.float64(highs[row])) / np.float64(length)
            place = np.uintp(start) + row
            means[place], ranges[place] = mean_and_range(lows[row], highs[row], mean64, centered, operation)
    return strips * STRIP


def _keys(word: Any) -> Any:
    """Return room for an ordered integer of each row of a strip."""
    raise NotImplementedError


@overload(_keys)
def _compiled_keys(word):
    key = np.dtype(f"i{word.instance_type.bitwidth // 8}").type
    return lambda word: np.empty(STRIP, key)


@compiled
def _load_strip(columns, address, pitch, length, flip, word, lows, highs):
    """Transpose some rows, so that what belongs to different rows lies side by side, and find their extrema."""
    for i in indices(0, length):
        column = columns[i * np.uintp(STRIP) : (i + np.uintp(1)) * np.uintp(STRIP)]
        place = address + np.int64(i) * size_of(word)
        for row in indices(0, STRIP):
            column[row] = xor(words_at(place + np.int64(row) * pitch, 1, word)[0], flip)
        if i == 0:
            for row in indices(0, STRIP):
                lows[row] = highs[row] = ordered(column[row])
        for row in indices(0, STRIP):
            key = ordered(column[row])
            lows[row], highs[row] = min(lows[row], key), max(highs[row], key)


@compiled
def _fold_strip(columns, length, sigmas, ratio, operation, first, second):
    first[:] = 0
    second[:] = 0
    for i in indices(0, length):
        column = columns[i * np.uintp(STRIP) : (i + np.uintp(1)) * np.uintp(STRIP)]
        for row in indices(0, STRIP):
            x, sigma = np.float64(load(column[row], operation)), sigmas[row]
            raised = x + sigma
            first[row] += as_word(raised)
            second[row] += as_word((x - (raised - sigma)) + sigma * ratio)
