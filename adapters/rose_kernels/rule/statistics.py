"""The statistics of rows in compiled code (ROSE-4): the mean and the range of each row, which is contiguous in memory.

NOTE: [plain sums] A row is read once, by `scan_row`, which also adds its elements in no particular order. If all
elements are multiples of the ulp of the first s, no addition rounds and the first fold leaves no rest. Then the plain
sum is the first fold sum, the second is 0, and the plain sum is the reproducible sum (ROSE-7.2). That holds for most
rows of float32 and of 16-bit dtypes. Only the other rows are read again, and folded.

NOTE: [strips] Rows are measured in strips of up to 64. Values that a row has once, such as its extrema and its range,
are computed for the whole strip in one vector loop. Rows that must be folded are still in the cache. Rows too short for
vector loops are transposed: element i of all rows of a strip forms a column, and vector lanes hold different rows.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba.extending import overload

from rose_kernels.llvm.bits import bits_of, cast_like, magnitude_key, order_key, xor
from rose_kernels.llvm.compilation import compiled, indices
from rose_kernels.llvm.memory import prefetch_l2, words_at
from rose_kernels.llvm.storage import itemsize_of, key_type, load
from rose_kernels.rule.scan import scan_row, smallest_ulp
from rose_kernels.rule.summation import (
    first_sigma,
    fold,
    fold_constants,
    fold_sums_of,
    split_exact_sum,
    sum_of_folds,
    ulp,
)

__all__ = [
    "extrema",
    "fold_row",
    "mean_and_range",
    "measure_rows",
    "row_sigma",
    "scan_in_pieces",
    "strip_buffers",
]

# Rows per strip.
_STRIP: Final = 64
# Rows shorter than this are transposed, because they would leave most of a vector empty.
_SHORT: Final = 40
# Longer rows are scanned in pieces of this many elements.
_PIECE: Final = 2048
_PIECE_SCALE: Final = fold_constants(_PIECE)[0]
# The extrema of no elements, as order keys.
_NO_LOW, _NO_HIGH = np.iinfo(np.int64).max, np.iinfo(np.int64).min


class StripBuffers(NamedTuple):
    """Buffers of one thread for one strip."""

    columns: Any
    keys: Any  # the keys of `scan_row`: low, high, smallest magnitude
    ends: Any  # low and high as floats
    sums: Any
    sigmas: Any
    fold_sums: Any


@compiled
def strip_buffers(storage, operation):
    """Return new `StripBuffers` for a storage type and an operation dtype."""
    columns, keys = np.empty(_STRIP * (_SHORT - 1), storage), _empty_keys(storage)
    ends, sums, sigmas = np.empty((2, _STRIP), operation), np.empty(_STRIP, np.float64), np.empty(_STRIP, np.float64)
    return StripBuffers(columns, keys, ends, sums, sigmas, np.empty((2, _STRIP), np.int64))


def _empty_keys(storage: Any) -> Any:
    """Return an array for three keys of each row of a strip."""
    raise NotImplementedError


@overload(_empty_keys)
def _compiled_empty_keys(storage):
    key = key_type(storage.instance_type)
    return lambda storage: np.empty((3, _STRIP), key)


@compiled
def extrema(low_key, high_key, mask, operation):
    """Return the smallest and the largest element from their order keys; both are NaN if any element is (ROSE-4.1).

    `mask` is the `sign_mask` of the elements; only its type matters here.
    """
    low, high = _from_key(low_key, mask, operation), _from_key(high_key, mask, operation)
    if math.isnan(low) or math.isnan(high):
        return operation(np.nan), operation(np.nan)
    return low, high


@compiled
def _from_key(key, like, operation):
    """Return the float with this order key, which was stored as words of the same type as `like`."""
    return load(cast_like(order_key(cast_like(key, like)), like), operation)


@compiled
def row_sigma(low, high, scale):
    """Return the s of the first fold of a row from its extrema, or NaN if one of them is not finite."""
    magnitude = max(abs(np.float64(low)), abs(np.float64(high)))
    return first_sigma(magnitude, scale) if math.isfinite(magnitude) else np.nan


@compiled
def _element_term(words, mask, operation, i):
    return np.float64(load(xor(words[i], mask), operation))


_fold_sums = fold_sums_of(_element_term)


@compiled
def fold_row(words, mask, operation, sigma, constants):
    """Return the fold sums of a row or a part of it; `constants` are the fold constants of the whole row."""
    _, ratio, folds = constants
    return _fold_sums(words, mask, operation, words.size, sigma, ratio, folds)


@compiled
def mean_and_range(low, high, mean64, centered, operation):
    """Return the mean of a row, 0 unless it is centered, and its range (ROSE-4.2, ROSE-4.3)."""
    mean = operation(0.0)
    if centered:
        mean = operation(mean64)
        mean = max(mean, low)
        mean = min(mean, high)
        mean = mean + operation(0.0)  # -0 becomes +0
        low, high = low - mean, high - mean
    return mean, abs(high) - low


@compiled
def scan_in_pieces(words, mask, operation, storage, constants, low_key, high_key):
    """Scan a long row, or a part of one, and compute its fold sums in the same pass.

    Return the extrema, combined with the keys that are given, then the s that follows from them, and the fold sums.

    NOTE: [speculative sums] The s of a row follows from the extrema of the whole row, which are known at its end. But
    mostly the elements before lead to the same s. So each piece is folded with the s known so far, while it is in the
    cache. If a piece changes s, the elements before it are folded again.
    """
    scale, ratio, _ = constants
    sigma, sums = np.nan, (np.int64(0), np.int64(0), np.int64(0))
    for start in range(0, words.size, _PIECE):
        piece = words[start : start + _PIECE]
        low, high, least, plain = scan_row(piece, mask)
        low_key, high_key = min(low_key, low), max(high_key, high)
        smallest, largest = extrema(low_key, high_key, mask, operation)
        new_sigma = row_sigma(smallest, largest, scale)
        if bits_of(new_sigma) != bits_of(sigma):
            sigma, sums = new_sigma, fold_row(words[:start], mask, operation, new_sigma, constants)
        unit = smallest_ulp(least, storage)
        # First condition: the plain sum of the piece is exact. Second: it has no third fold, which fails only in rows
        # of more than 2**32 elements.
        if unit >= ulp(sigma * (_PIECE_SCALE / scale)) and unit >= ulp(sigma * ratio):
            added = split_exact_sum(plain, piece.size, sigma, ratio)
        else:
            added = fold_row(piece, mask, operation, sigma, constants)
        sums = sums[0] + added[0], sums[1] + added[1], sums[2] + added[2]
    return low_key, high_key, sigma, sums


@compiled
def measure_rows(
    address, stride_bytes, rows, length, mask, centered, constants, operation, storage, means, ranges, buffers
):
    """Write the mean and the range of each row to `means` and `ranges`.

    The first row is at `address`, each next one `stride_bytes` further. `constants` are the fold constants of a row,
    and `buffers` are `StripBuffers`.
    """
    columns, keys, ends, sums, sigmas, fold_sums = buffers
    is_long = centered and length > _PIECE
    strip = 1 if is_long else min(_STRIP, rows)
    for start in range(0, rows, strip):
        count = min(strip, rows - start)
        first = address + start * stride_bytes
        if is_long:
            words = words_at(first, length, storage)
            means[start], ranges[start] = _measure_long_row(words, mask, constants, operation, storage)
            continue
        in_columns = length < _SHORT and count == _STRIP
        if in_columns:
            _scan_columns(columns, first, stride_bytes, length, mask, storage, keys, sums)
        else:
            for row in range(count):
                words = words_at(first + row * stride_bytes, length, storage)
                keys[0, row], keys[1, row], keys[2, row], sums[row] = scan_row(words, mask)
        all_exact = _find_sigmas(keys, count, mask, constants[0], operation, storage, ends, sigmas)
        if centered and not all_exact:
            if in_columns:
                _fold_columns(columns, length, sigmas, constants, operation, ends[1], sums, fold_sums)
            else:
                _fold_rows(
                    first, stride_bytes, length, count, mask, keys, sigmas, constants, operation, storage, ends[1], sums
                )
        for row in indices(0, count):
            low, high, mean64 = ends[0, row], ends[1, row], sums[row] / np.float64(length)
            means[start + row], ranges[start + row] = mean_and_range(low, high, mean64, centered, operation)


@compiled
def _measure_long_row(words, mask, constants, operation, storage):
    """Return the mean and the range of a long row that is centered."""
    # It has two folds, so the split is safe: rows longer than `schedule.BLOCK` are divided among tasks instead.
    low_key, high_key, sigma, sums = scan_in_pieces(words, mask, operation, storage, constants, _NO_LOW, _NO_HIGH)
    low, high = extrema(low_key, high_key, mask, operation)
    total = sum_of_folds(sums, words.size, sigma, constants[1], constants[2], np.float64(high))
    return mean_and_range(low, high, total / np.float64(words.size), True, operation)


@compiled
def _find_sigmas(keys, count, mask, scale, operation, storage, ends, sigmas):
    """Write the extrema and the s of each row of a strip, and return whether all plain sums are exact."""
    all_exact = True
    for row in indices(0, count):
        low, high = extrema(keys[0, row], keys[1, row], mask, operation)
        ends[0, row], ends[1, row], sigmas[row] = low, high, row_sigma(low, high, scale)
        all_exact &= _is_exact(keys[2, row], sigmas[row], storage)
    return all_exact


@compiled
def _is_exact(least, sigma, storage):
    """Tell whether the plain sum of a row is exact, from its smallest magnitude key (NOTE: [plain sums])."""
    return smallest_ulp(least, storage) >= ulp(sigma)


@compiled
def _fold_rows(address, stride_bytes, length, count, mask, keys, sigmas, constants, operation, storage, highs, sums):
    """Overwrite the plain sums that are not exact by reproducible sums."""
    _, ratio, folds = constants
    for row in range(count):
        if math.isnan(sigmas[row]):
            sums[row] = np.nan
        elif not _is_exact(keys[2, row], sigmas[row], storage):
            words = words_at(address + row * stride_bytes, length, storage)
            fold_sums = fold_row(words, mask, operation, sigmas[row], constants)
            sums[row] = sum_of_folds(fold_sums, length, sigmas[row], ratio, folds, np.float64(highs[row]))


@compiled
def _scan_columns(columns, address, stride_bytes, length, mask, storage, keys, sums):
    """Transpose a strip into `columns`, and write what `scan_row` returns for each row to `keys` and `sums`."""
    lows, highs, leasts = keys[0], keys[1], keys[2]
    for i in indices(0, length):
        column = columns[i * np.uintp(_STRIP) : (i + np.uintp(1)) * np.uintp(_STRIP)]
        element = address + np.int64(i) * itemsize_of(storage)
        prefetch_l2(words_at(address, 1, storage), i * _STRIP, _STRIP, _STRIP * stride_bytes)
        for row in indices(0, _STRIP):
            column[row] = xor(words_at(element + np.int64(row) * stride_bytes, 1, storage)[0], mask)
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
    """Overwrite the sums of all rows of a transposed strip by reproducible sums; short rows have two folds."""
    _, ratio, folds = constants
    first, second = fold_sums[0], fold_sums[1]
    first[:] = 0
    second[:] = 0
    for i in indices(0, length):
        column = columns[i * np.uintp(_STRIP) : (i + np.uintp(1)) * np.uintp(_STRIP)]
        for row in indices(0, _STRIP):
            x, sigma = np.float64(load(column[row], operation)), sigmas[row]
            bits, rest = fold(x, sigma)
            first[row] += bits
            second[row] += bits_of(rest + sigma * ratio)
    for row in indices(0, _STRIP):
        row_sums = first[row], second[row], np.int64(0)
        sums[row] = sum_of_folds(row_sums, length, sigmas[row], ratio, folds, np.float64(highs[row]))
