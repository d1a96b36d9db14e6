"""The phases of a tensor, a ticket at a time, and what follows when all tickets of one are done.

EXTREMA measures rows; of rows that are longer than a ticket it finds the extrema, and FOLD their sums. RANGES and
DEVIATIONS are the sums of the gate, UPDATE the rest. What tickets find is combined by atomic operations on integers.
"""

import math

import numpy as np

from rose_kernels.llvm import atomics
from rose_kernels.llvm.bits import bits_of, float_of, sign_mask
from rose_kernels.llvm.compilation import compiled, indices
from rose_kernels.llvm.memory import words_at
from rose_kernels.llvm.storage import itemsize_of
from rose_kernels.parallel.tables import (
    DEVIATION_SUMS,
    DEVIATIONS,
    DRAFT,
    EXTREMA,
    FOLD,
    HIGH,
    HIGH_RANGE,
    LOW,
    LOW_RANGE,
    OPEN,
    PART,
    PENDING,
    RANGE_SUMS,
    RANGES,
    SHARED,
    SUMS,
    UPDATE,
)
from rose_kernels.rule.gate import deviation_term, range_term, trust_factor
from rose_kernels.rule.scan import scan_row
from rose_kernels.rule.statistics import (
    extrema,
    fold_row,
    mean_and_range,
    measure_rows,
    row_sigma,
    scan_in_pieces,
)
from rose_kernels.rule.summation import first_sigma, fold_sums_of, split_is_safe, sum_of_folds

__all__ = ["measure", "measure_part", "note_ranges", "proceed", "sum_ranges"]

_range_sums, _deviation_sums = fold_sums_of(range_term), fold_sums_of(deviation_term)


@compiled
def proceed(tensor, phase, shared, parts, means, ranges, grad_storage, operation):
    """Do what the last ticket of a phase makes ready, and open the next phase that has tickets."""
    place = tensor.number * SHARED
    own = ranges[tensor.first_row : tensor.first_row + tensor.rows] if tensor.first_row >= 0 else ranges[:0]
    if phase == EXTREMA and tensor.first_part >= 0:
        if tensor.centered != 0:
            atomics.publish(shared, place + OPEN + FOLD)
            return
        phase = FOLD
    if phase == FOLD:
        _finish_parts(tensor, parts, means[tensor.first_row :], own, grad_storage, operation)
        note_ranges(tensor, own, shared)
    if phase <= FOLD and tensor.gated != 0:
        tensor.highest_range = float_of(shared[place + HIGH_RANGE])
        phase = RANGES
        if shared[place + PENDING + phase] > 0:
            atomics.publish(shared, place + OPEN + phase)
            return
        sum_ranges(tensor, phase, own, shared)
    if phase == RANGES:
        _find_mean_range(tensor, shared)
        phase = DEVIATIONS
        if shared[place + PENDING + phase] > 0:
            atomics.publish(shared, place + OPEN + phase)
            return
        sum_ranges(tensor, phase, own, shared)
    if phase == DEVIATIONS:
        variance = _mean_of_sums(tensor, shared, DEVIATION_SUMS, tensor.highest_deviation)
        tensor.mean_range, tensor.trust = trust_factor(tensor.mean64, variance, operation)
    if phase < UPDATE:
        atomics.publish(shared, place + OPEN + UPDATE)


@compiled
def measure(tensor, row, rows, means, ranges, grad_storage, operation, buffers):
    """Write the means and ranges of some rows."""
    flip = sign_mask(tensor.maximize, grad_storage)
    address, stride_bytes, centered = (
        tensor.grad + row * tensor.grad_stride_bytes,
        tensor.grad_stride_bytes,
        tensor.centered != 0,
    )
    constants = _constants(tensor)
    measure_rows(
        address,
        stride_bytes,
        rows,
        tensor.length,
        flip,
        centered,
        constants,
        operation,
        grad_storage,
        means,
        ranges,
        buffers,
    )


@compiled
def _constants(tensor):
    return tensor.scale, tensor.ratio, tensor.folds


@compiled
def measure_part(tensor, phase, start, stop, parts, grad_storage, operation):
    """Find the extrema of a part of a row, or add the sums of its folds to those of the others.

    The sums that are kept from the first to the second phase are a draft, see NOTE: [drafts].
    """
    flip = sign_mask(tensor.maximize, grad_storage)
    row = start // tensor.length
    column = start - row * tensor.length
    address = tensor.grad + row * tensor.grad_stride_bytes + column * itemsize_of(grad_storage)
    words, part = words_at(address, stop - start, grad_storage), (tensor.first_part + row) * PART
    tickets = (tensor.length + tensor.block - 1) // tensor.block
    draft = tensor.first_draft + (row * tickets + column // tensor.block) * DRAFT
    if phase == EXTREMA:
        if tensor.centered != 0:
            low_key, high_key = _draft(tensor, words, flip, parts, part, draft, grad_storage, operation)
        else:
            low_key, high_key, _, _ = scan_row(words, flip)
        atomics.minimum(parts, part + LOW, np.int64(low_key))
        atomics.maximum(parts, part + HIGH, np.int64(high_key))
        return
    low, high = extrema(parts[part + LOW], parts[part + HIGH], flip, operation)
    sigma = row_sigma(low, high, tensor.scale)
    if parts[draft] != bits_of(sigma):
        _keep(parts, draft, sigma, fold_row(words, flip, operation, sigma, _constants(tensor)))
    for k in range(3):
        atomics.add(parts, part + SUMS + k, parts[draft + 1 + k])


@compiled
def _draft(tensor, words, flip, parts, part, draft, grad_storage, operation):
    """Find the extrema of a part of a row, and of those measured before, and make its draft on the way."""
    low_key, high_key = parts[part + LOW], parts[part + HIGH]
    low_key, high_key, sigma, sums = scan_in_pieces(
        words, flip, operation, grad_storage, _constants(tensor), low_key, high_key
    )
    _keep(parts, draft, sigma, sums)
    return low_key, high_key


@compiled
def _keep(parts, draft, sigma, sums):
    parts[draft] = bits_of(sigma)
    parts[draft + 1], parts[draft + 2], parts[draft + 3] = sums


@compiled
def _finish_parts(tensor, parts, means, ranges, grad_storage, operation):
    """Write the mean and the range of each row that was measured in parts."""
    flip, centered, length = sign_mask(tensor.maximize, grad_storage), tensor.centered != 0, tensor.length
    for row in range(tensor.rows):
        part = (tensor.first_part + row) * PART
        low, high = extrema(parts[part + LOW], parts[part + HIGH], flip, operation)
        mean64 = 0.0
        if centered:
            sums = parts[part + SUMS], parts[part + SUMS + 1], parts[part + SUMS + 2]
            sigma = row_sigma(low, high, tensor.scale)
            if not split_is_safe(sums, length, sigma, tensor.ratio, tensor.folds):
                words = words_at(tensor.grad + row * tensor.grad_stride_bytes, length, grad_storage)
                sums = fold_row(words, flip, operation, sigma, _constants(tensor))
            mean64 = sum_of_folds(sums, length, sigma, tensor.ratio, tensor.folds, np.float64(high)) / length
        means[row], ranges[row] = mean_and_range(low, high, mean64, centered, operation)


@compiled
def note_ranges(tensor, ranges, shared):
    """Note the smallest and the largest range, which are not below 0, as words; any NaN is the largest."""
    if tensor.gated == 0:
        return
    low = high = np.int64(bits_of(ranges[0]))
    for i in indices(0, ranges.size):
        word = np.int64(bits_of(ranges[i])) & np.int64(0x7FFFFFFFFFFFFFFF)  # a NaN may have a sign
        low, high = min(low, word), max(high, word)
    atomics.minimum(shared, tensor.number * SHARED + LOW_RANGE, low)
    atomics.maximum(shared, tensor.number * SHARED + HIGH_RANGE, high)


@compiled
def _gate_sigma(tensor, highest):
    """Return the s of the first fold of the ranges, or of their squared deviations, of which none is below 0."""
    return first_sigma(highest, tensor.gate_scale) if math.isfinite(highest) else np.nan


@compiled
def sum_ranges(tensor, phase, ranges, shared):
    """Add the folds of some rows' ranges, or of their squared deviations, to those of the other rows."""
    if phase == RANGES:
        place, sigma = RANGE_SUMS, _gate_sigma(tensor, tensor.highest_range)
        sums = _range_sums(ranges, 0.0, 0.0, ranges.size, sigma, tensor.gate_ratio, tensor.gate_folds)
    else:
        place, sigma, mean64 = DEVIATION_SUMS, _gate_sigma(tensor, tensor.highest_deviation), tensor.mean64
        sums = _deviation_sums(ranges, mean64, 0.0, ranges.size, sigma, tensor.gate_ratio, tensor.gate_folds)
    for k in range(3):
        atomics.add(shared, tensor.number * SHARED + place + k, sums[k])


@compiled
def _mean_of_sums(tensor, shared, place, highest):
    place += tensor.number * SHARED
    sums = shared[place], shared[place + 1], shared[place + 2]
    sigma = _gate_sigma(tensor, highest)
    return sum_of_folds(sums, tensor.rows, sigma, tensor.gate_ratio, tensor.gate_folds, highest) / tensor.rows


@compiled
def _find_mean_range(tensor, shared):
    """Find the mean range, and the largest squared deviation: that of the largest range or of the smallest."""
    high, low = tensor.highest_range, float_of(shared[tensor.number * SHARED + LOW_RANGE])
    mean64 = _mean_of_sums(tensor, shared, RANGE_SUMS, high)
    above, below = (high - mean64) * (high - mean64), (low - mean64) * (low - mean64)
    tensor.mean64 = mean64
    tensor.highest_deviation = max(below, above)
