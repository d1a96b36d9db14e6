"""The statistics of rows in compiled code: `rose_core.statistics`, for slices that are contiguous (ROSE-4).

A row is read once, for its extrema and its plain sum. If all its elements are multiples of the last place of its first
s, that sum is exact in whatever order, and is the sum of the one fold that is not 0 (ROSE-7.2); of few rows it is not,
and these are folded.
"""

import math
from typing import Any, Final

import numpy as np
from numba.extending import overload

from rose_kernels.llvm.bits import bits_of, cast_like, magnitude_key, order_key, xor
from rose_kernels.llvm.compilation import compiled, indices
from rose_kernels.llvm.memory import prefetch_l2, words_at
from rose_kernels.llvm.storage import itemsize_of, key_type, load
from rose_kernels.rule.scan import quantum, survey
from rose_kernels.rule.summation import constants_of, first_sigma, fold, fold_sums_of, last_place, split, total

__all__ = [
    "fold_row",
    "limits",
    "mean_and_range",
    "measure_rows",
    "sigma_of_row",
    "strip_buffers",
    "survey_in_pieces",
]

# So many rows at most are measured together.
_STRIP: Final = 64
# Rows shorter than this leave most of a vector empty: those of a strip are turned into columns.
_SHORT: Final = 40
# Longer rows are measured in pieces of so many elements.
_PIECE: Final = 2048
_PIECE_SCALE: Final = constants_of(_PIECE)[0]
# The extrema of nothing, as ordered integers.
_LARGEST, _SMALLEST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@compiled
def limits(low_key, high_key, flip, operation):
    """Return the smallest and the largest element in the operation dtype, NaN both if any element is (ROSE-4.1)."""
    low, high = _of_key(low_key, flip, operation), _of_key(high_key, flip, operation)
    if math.isnan(low) or math.isnan(high):
        return operation(np.nan), operation(np.nan)
    return low, high


@compiled
def _of_key(key, like, operation):
    """Return the float of an ordered integer, read as a storage word of the type of `like`."""
    return load(cast_like(order_key(cast_like(key, like)), like), operation)


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
def fold_row(words, flip, operation, sigma, constants):
    """Return the sums of the folds of a row, or of a part of one."""
    _, ratio, folds = constants
    return _fold_sums(words, flip, operation, words.size, sigma, ratio, folds)


@compiled
def survey_in_pieces(words, flip, operation, word, constants, low_key, high_key):
    """Find the extrema of a long row, or of a part of one, and the sums of its folds on the way.

    Returned are the extrema, joined with those that are given, the first s to which these lead, and the sums with it.

    NOTE: [drafts] The sums need the extrema of the whole row. But those of what came before mostly lead to the same s,
    so the sums are made with that while a piece is in the cache, and made again if it was another.
    """
    scale, ratio, _ = constants
    sigma, sums = np.nan, (np.int64(0), np.int64(0), np.int64(0))
    for start in range(0, words.size, _PIECE):
        piece = words[start : start + _PIECE]
        low, high, least, plain = survey(piece, flip)
        low_key, high_key = min(low_key, low), max(high_key, high)
        smallest, largest = limits(low_key, high_key, flip, operation)
        now = sigma_of_row(smallest, largest, scale)
        if bits_of(now) != bits_of(sigma):
            sigma, sums = now, fold_row(words[:start], flip, operation, now, constants)
        unit = quantum(least, word)
        # What is exact has nothing beyond the second fold, unless the row has more than 2**32 elements.
        if unit >= last_place(sigma * (_PIECE_SCALE / scale)) and unit >= last_place(sigma * ratio):
            more = split(plain, piece.size, sigma, ratio)
        else:
            more = fold_row(piece, flip, operation, sigma, constants)
        sums = sums[0] + more[0], sums[1] + more[1], sums[2] + more[2]
    return low_key, high_key, sigma, sums


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
    """Return room for a strip: its columns, and of each row the keys, the ends, the sum, the s and sums of folds."""
    columns, keys = np.empty(_STRIP * (_SHORT - 1), word), _keys(word)
    ends, sums, sigmas = np.empty((2, _STRIP), operation), np.empty(_STRIP, np.float64), np.empty(_STRIP, np.float64)
    return columns, keys, ends, sums, sigmas, np.empty((2, _STRIP), np.int64)


@compiled
def measure_rows(address, pitch, rows, length, flip, centered, constants, operation, word, means, ranges, buffers):
    """Write the mean and the range of each row; the first lies at `address`, each next `pitch` bytes on.

    `constants` are those of the folds of a row (`folds.constants_of`). Rows are measured in strips, which stay in the
    cache for those that must be folded; all that is one value a row is computed for a strip at once.
    """
    columns, keys, ends, sums, sigmas, fold_sums = buffers
    is_long = centered and length > _PIECE
    strip = 1 if is_long else min(_STRIP, rows)
    for start in range(0, rows, strip):
        count = min(strip, rows - start)
        place = address + start * pitch
        if is_long:
            words = words_at(place, length, word)
            means[start], ranges[start] = _measure_long_row(words, flip, constants, operation, word)
            continue
        in_columns = length < _SHORT and count == _STRIP
        if in_columns:
            _survey_columns(columns, place, pitch, length, flip, word, keys, sums)
        else:
            for row in range(count):
                words = words_at(place + row * pitch, length, word)
                keys[0, row], keys[1, row], keys[2, row], sums[row] = survey(words, flip)
        all_exact = _find_sigmas(keys, count, flip, constants[0], operation, word, ends, sigmas)
        if centered and not all_exact:
            if in_columns:
                _fold_columns(columns, length, sigmas, constants, operation, ends[1], sums, fold_sums)
            else:
                _fold_rows(place, pitch, length, count, flip, keys, sigmas, constants, operation, word, ends[1], sums)
        for row in indices(0, count):
            low, high, mean64 = ends[0, row], ends[1, row], sums[row] / np.float64(length)
            means[start + row], ranges[start + row] = mean_and_range(low, high, mean64, centered, operation)


@compiled
def _measure_long_row(words, flip, constants, operation, word):
    """Return the mean and the range of a row that is centered in pieces."""
    # Its folds are two, which may be split (NOTE: [what is settled]): beyond `schedule.BLOCK` a row is cut in parts.
    low_key, high_key, sigma, sums = survey_in_pieces(words, flip, operation, word, constants, _LARGEST, _SMALLEST)
    low, high = limits(low_key, high_key, flip, operation)
    mean64 = total(sums, words.size, sigma, constants[1], constants[2], np.float64(high)) / np.float64(words.size)
    return mean_and_range(low, high, mean64, True, operation)


@compiled
def _find_sigmas(keys, count, flip, scale, operation, word, ends, sigmas):
    """Write the ends of each row and the s of its first fold; return whether all sums are exact."""
    all_exact = True
    for row in indices(0, count):
        low, high = limits(keys[0, row], keys[1, row], flip, operation)
        ends[0, row], ends[1, row], sigmas[row] = low, high, sigma_of_row(low, high, scale)
        all_exact &= _is_exact(keys[2, row], sigmas[row], word)
    return all_exact


@compiled
def _is_exact(least, sigma, word):
    """Tell whether the sum of a row, in whatever order, is exact: its first fold leaves nothing of any element."""
    return quantum(least, word) >= last_place(sigma)


@compiled
def _fold_rows(address, pitch, length, count, flip, keys, sigmas, constants, operation, word, highs, sums):
    """Write the sums that are not exact yet."""
    _, ratio, folds = constants
    for row in range(count):
        if math.isnan(sigmas[row]):
            sums[row] = np.nan
        elif not _is_exact(keys[2, row], sigmas[row], word):
            words = words_at(address + row * pitch, length, word)
            own = fold_row(words, flip, operation, sigmas[row], constants)
            sums[row] = total(own, length, sigmas[row], ratio, folds, np.float64(highs[row]))


def _keys(word: Any) -> Any:
    """Return room for three ordered integers of each row of a strip."""
    raise NotImplementedError


@overload(_keys)
def _compiled_keys(word):
    key = key_type(word.instance_type)
    return lambda word: np.empty((3, _STRIP), key)


@compiled
def _survey_columns(columns, address, pitch, length, flip, word, keys, sums):
    """Transpose a strip, so that what belongs to different rows lies side by side, and look at its rows (`survey`)."""
    lows, highs, leasts = keys[0], keys[1], keys[2]
    for i in indices(0, length):
        column = columns[i * np.uintp(_STRIP) : (i + np.uintp(1)) * np.uintp(_STRIP)]
        place = address + np.int64(i) * itemsize_of(word)
        prefetch_l2(words_at(address, 1, word), i * _STRIP, _STRIP, _STRIP * pitch)
        for row in indices(0, _STRIP):
            column[row] = xor(words_at(place + np.int64(row) * pitch, 1, word)[0], flip)
        if i == 0:
            sums[:] = 0.0
            for row in indices(0, _STRIP):
                lows[row] = highs[row] = order_key(column[row])
                leasts[row] = magnitude_key(column[row])
        for row in indices(0, _STRIP):
            key = order_key(column[row])
            lows[row], highs[row] = min(lows[row], key), max(highs[row], key)
            leasts[row] = min(leasts[row], magnitude_key(column[row]))
        for row in indices(0, _STRIP):
            sums[row] += load(column[row], np.float64)


@compiled
def _fold_columns(columns, length, sigmas, constants, operation, highs, sums, fold_sums):
    """Write the sums of all rows of a strip, each of which has two folds."""
    _, ratio, folds = constants
    first, second = fold_sums[0], fold_sums[1]
    first[:] = 0
    second[:] = 0
    for i in indices(0, length):
        column = columns[i * np.uintp(_STRIP) : (i + np.uintp(1)) * np.uintp(_STRIP)]
        for row in indices(0, _STRIP):
            x, sigma = np.float64(load(column[row], operation)), sigmas[row]
            word, rest = fold(x, sigma)
            first[row] += word
            second[row] += bits_of(rest + sigma * ratio)
    for row in indices(0, _STRIP):
        own = first[row], second[row], np.int64(0)
        sums[row] = total(own, length, sigmas[row], ratio, folds, np.float64(highs[row]))
