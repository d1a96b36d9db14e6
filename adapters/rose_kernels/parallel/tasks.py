"""The phases of a tensor: the work of a task in each phase, and the work after the last task of a phase.

| phase      | which tensors                 | a task                                                   |
|------------|-------------------------------|----------------------------------------------------------|
| MEASURE    | all                           | computes the mean and the range of each of its rows      |
|            | of rows longer than a block   | finds the extrema of its part of a row                   |
| FOLD       | of these rows, if centered    | adds the fold sums of its part to the sums of the row    |
| RANGES     | gated, of many rows           | adds the fold sums of the ranges of its rows             |
| DEVIATIONS | gated, of many rows           | adds the fold sums of their squared deviations           |
| UPDATE     | all                           | updates its elements                                     |

A phase opens when all tasks of the phase before are done: the thread that finishes the last one calls `finish_phase`.
For a tensor of few rows it also computes the sums of the gate itself.

NOTE: [same bits in any schedule] Tasks combine their results by atomic operations on integers: minima and maxima of
keys, and additions of fold sums. All three are exact in every order. So the bits depend neither on the number of
threads nor on which thread takes which task.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from rose_kernels.llvm import atomics
from rose_kernels.llvm.bits import bits_of, float_of, sign_mask
from rose_kernels.llvm.compilation import compiled, indices
from rose_kernels.llvm.memory import words_at
from rose_kernels.llvm.storage import itemsize_of
from rose_kernels.parallel.tables import (
    DEVIATION_SUMS,
    DEVIATIONS,
    FOLD,
    HIGH,
    LOW,
    MAX_RANGE,
    MEASURE,
    MIN_RANGE,
    OPEN,
    PARTIAL_SIZE,
    PENDING,
    RANGE_SUMS,
    RANGES,
    SHARED_SIZE,
    SPECULATIVE_SIZE,
    SUMS,
    UPDATE,
)
from rose_kernels.rule.gate import deviation_term, range_term, trust_factor
from rose_kernels.rule.scan import scan_row
from rose_kernels.rule.statistics import extrema, fold_row, mean_and_range, measure_rows, row_sigma, scan_in_pieces
from rose_kernels.rule.summation import first_sigma, fold_sums_of, split_is_safe, sum_of_folds
from rose_kernels.rule.update import update_elements

__all__ = ["ThreadBuffers", "finish_phase", "run_task"]

_range_sums, _deviation_sums = fold_sums_of(range_term), fold_sums_of(deviation_term)


class ThreadBuffers(NamedTuple):
    """The buffers of one thread."""

    update: Any  # `UpdateBuffers`
    strip: Any  # `StripBuffers`
    recomputed: Any  # means and ranges of one task, for tensors whose means and ranges are not stored


@compiled
def run_task(
    tensor, phase, start, stop, shared, partials, means, ranges, buffers, param_storage, grad_storage, operation
):
    """Run one task of a tensor, from `start` to `stop` (see `tables.TASK`)."""
    if phase == FOLD or (phase == MEASURE and tensor.first_partial >= 0):
        _measure_part(tensor, phase, start, stop, partials, grad_storage, operation)
        return
    length = np.int64(1) if phase in (RANGES, DEVIATIONS) else tensor.length
    row, rows = start // length, (stop - start + length - 1) // length
    update, strip, recomputed = buffers
    if tensor.first_row < 0:
        means, ranges = recomputed[0, :rows], recomputed[1, :rows]
    else:
        first = tensor.first_row + row
        means, ranges = means[first : first + rows], ranges[first : first + rows]
    if phase == MEASURE or tensor.first_row < 0:
        _measure(tensor, row, rows, means, ranges, grad_storage, operation, strip)
    if phase == MEASURE:
        _combine_range_extrema(tensor, ranges, shared)
    elif phase == UPDATE:
        update_elements(tensor, start, stop, means, ranges, param_storage, grad_storage, operation, update)
    else:
        _add_gate_sums(tensor, phase, ranges, shared)


@compiled
def finish_phase(tensor, phase, shared, partials, means, ranges, grad_storage, operation):
    """Complete a phase after its last task, run the phases that have no tasks, and open the next phase."""
    base = tensor.index * SHARED_SIZE
    tensor_ranges = ranges[tensor.first_row : tensor.first_row + tensor.rows] if tensor.first_row >= 0 else ranges[:0]
    if phase == MEASURE and tensor.first_partial >= 0:
        if tensor.centered != 0:
            atomics.publish(shared, base + OPEN + FOLD)
            return
        phase = FOLD
    if phase == FOLD:
        _finish_long_rows(tensor, partials, means[tensor.first_row :], tensor_ranges, grad_storage, operation)
        _combine_range_extrema(tensor, tensor_ranges, shared)
    if phase <= FOLD and tensor.gated != 0:
        tensor.max_range = float_of(shared[base + MAX_RANGE])
        phase = RANGES
        if shared[base + PENDING + phase] > 0:
            atomics.publish(shared, base + OPEN + phase)
            return
        _add_gate_sums(tensor, phase, tensor_ranges, shared)
    if phase == RANGES:
        _find_mean_range(tensor, shared)
        phase = DEVIATIONS
        if shared[base + PENDING + phase] > 0:
            atomics.publish(shared, base + OPEN + phase)
            return
        _add_gate_sums(tensor, phase, tensor_ranges, shared)
    if phase == DEVIATIONS:
        variance = _mean_of_sums(tensor, shared, DEVIATION_SUMS, tensor.max_deviation)
        tensor.mean_range, tensor.trust = trust_factor(tensor.mean64, variance, operation)
    if phase < UPDATE:
        atomics.publish(shared, base + OPEN + UPDATE)


@compiled
def _measure(tensor, row, rows, means, ranges, grad_storage, operation, buffers):
    """Write the means and ranges of `rows` rows from `row` on."""
    mask = sign_mask(tensor.maximize, grad_storage)
    address, stride_bytes = tensor.grad + row * tensor.grad_stride_bytes, tensor.grad_stride_bytes
    centered, constants, length = tensor.centered != 0, _fold_constants(tensor), tensor.length
    measure_rows(
        address, stride_bytes, rows, length, mask, centered, constants, operation, grad_storage, means, ranges, buffers
    )


@compiled
def _fold_constants(tensor):
    return tensor.scale, tensor.ratio, tensor.folds


@compiled
def _measure_part(tensor, phase, start, stop, partials, grad_storage, operation):
    """Run a task of a row that is longer than a block: its extrema in MEASURE, its fold sums in FOLD.

    MEASURE also stores speculative sums. FOLD uses them if they were made with the s of the row, which is known then.
    """
    mask = sign_mask(tensor.maximize, grad_storage)
    row = start // tensor.length
    column = start - row * tensor.length
    address = tensor.grad + row * tensor.grad_stride_bytes + column * itemsize_of(grad_storage)
    words, partial = words_at(address, stop - start, grad_storage), (tensor.first_partial + row) * PARTIAL_SIZE
    tasks_per_row = (tensor.length + tensor.block - 1) // tensor.block
    speculative = tensor.first_speculative + (row * tasks_per_row + column // tensor.block) * SPECULATIVE_SIZE
    if phase == MEASURE:
        if tensor.centered != 0:
            low_key, high_key = _scan_speculatively(
                tensor, words, mask, partials, partial, speculative, grad_storage, operation
            )
        else:
            low_key, high_key, _, _ = scan_row(words, mask)
        atomics.minimum(partials, partial + LOW, np.int64(low_key))
        atomics.maximum(partials, partial + HIGH, np.int64(high_key))
        return
    low, high = extrema(partials[partial + LOW], partials[partial + HIGH], mask, operation)
    sigma = row_sigma(low, high, tensor.scale)
    if partials[speculative] != bits_of(sigma):
        sums = fold_row(words, mask, operation, sigma, _fold_constants(tensor))
        _store_speculative_sums(partials, speculative, sigma, sums)
    for k in range(3):
        atomics.add(partials, partial + SUMS + k, partials[speculative + 1 + k])


@compiled
def _scan_speculatively(tensor, words, mask, partials, partial, speculative, grad_storage, operation):
    """Return the extrema of a part of a row, combined with those found so far, and store its speculative sums."""
    low_key, high_key = partials[partial + LOW], partials[partial + HIGH]
    low_key, high_key, sigma, sums = scan_in_pieces(
        words, mask, operation, grad_storage, _fold_constants(tensor), low_key, high_key
    )
    _store_speculative_sums(partials, speculative, sigma, sums)
    return low_key, high_key


@compiled
def _store_speculative_sums(partials, speculative, sigma, sums):
    partials[speculative] = bits_of(sigma)
    partials[speculative + 1], partials[speculative + 2], partials[speculative + 3] = sums


@compiled
def _finish_long_rows(tensor, partials, means, ranges, grad_storage, operation):
    """Write the mean and the range of each row that is longer than a block, from the results of its tasks."""
    mask, centered, length = sign_mask(tensor.maximize, grad_storage), tensor.centered != 0, tensor.length
    for row in range(tensor.rows):
        partial = (tensor.first_partial + row) * PARTIAL_SIZE
        low, high = extrema(partials[partial + LOW], partials[partial + HIGH], mask, operation)
        mean64 = 0.0
        if centered:
            sums = partials[partial + SUMS], partials[partial + SUMS + 1], partials[partial + SUMS + 2]
            sigma = row_sigma(low, high, tensor.scale)
            if not split_is_safe(sums, length, sigma, tensor.ratio, tensor.folds):
                words = words_at(tensor.grad + row * tensor.grad_stride_bytes, length, grad_storage)
                sums = fold_row(words, mask, operation, sigma, _fold_constants(tensor))
            mean64 = sum_of_folds(sums, length, sigma, tensor.ratio, tensor.folds, np.float64(high)) / length
        means[row], ranges[row] = mean_and_range(low, high, mean64, centered, operation)


@compiled
def _combine_range_extrema(tensor, ranges, shared):
    """Update the extrema of the ranges of a tensor with these ranges, for the gate.

    No range is below 0, so their bits sort like the floats. A NaN sorts above all, once its sign is cleared.
    """
    if tensor.gated == 0:
        return
    low = high = np.int64(bits_of(ranges[0]))
    for i in indices(0, ranges.size):
        bits = np.int64(bits_of(ranges[i])) & np.int64(0x7FFFFFFFFFFFFFFF)
        low, high = min(low, bits), max(high, bits)
    atomics.minimum(shared, tensor.index * SHARED_SIZE + MIN_RANGE, low)
    atomics.maximum(shared, tensor.index * SHARED_SIZE + MAX_RANGE, high)


@compiled
def _gate_sigma(tensor, highest):
    """Return the s of the first fold of summands that are not negative, from the largest; NaN if it is not finite."""
    return first_sigma(highest, tensor.gate_scale) if math.isfinite(highest) else np.nan


@compiled
def _add_gate_sums(tensor, phase, ranges, shared):
    """Add the fold sums of these ranges, or of their squared deviations, to the sums of the tensor."""
    if phase == RANGES:
        first, sigma = RANGE_SUMS, _gate_sigma(tensor, tensor.max_range)
        sums = _range_sums(ranges, 0.0, 0.0, ranges.size, sigma, tensor.gate_ratio, tensor.gate_folds)
    else:
        first, sigma, mean64 = DEVIATION_SUMS, _gate_sigma(tensor, tensor.max_deviation), tensor.mean64
        sums = _deviation_sums(ranges, mean64, 0.0, ranges.size, sigma, tensor.gate_ratio, tensor.gate_folds)
    for k in range(3):
        atomics.add(shared, tensor.index * SHARED_SIZE + first + k, sums[k])


@compiled
def _mean_of_sums(tensor, shared, first, highest):
    """Return the mean over all rows, from fold sums at index `first` and the largest summand."""
    first += tensor.index * SHARED_SIZE
    sums = shared[first], shared[first + 1], shared[first + 2]
    sigma = _gate_sigma(tensor, highest)
    return sum_of_folds(sums, tensor.rows, sigma, tensor.gate_ratio, tensor.gate_folds, highest) / tensor.rows


@compiled
def _find_mean_range(tensor, shared):
    """Set the mean range of a tensor, and the largest squared deviation from it: at the largest or smallest range."""
    high, low = tensor.max_range, float_of(shared[tensor.index * SHARED_SIZE + MIN_RANGE])
    mean64 = _mean_of_sums(tensor, shared, RANGE_SUMS, high)
    above, below = (high - mean64) * (high - mean64), (low - mean64) * (low - mean64)
    tensor.mean64 = mean64
    tensor.max_deviation = max(below, above)
