"""The elementwise update in compiled code: decay, step, division, limit, rounding and noise (ROSE-3.1, ROSE-6)."""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba.extending import overload

from rose_kernels.llvm.bits import sign_mask, xor
from rose_kernels.llvm.compilation import compiled, indices
from rose_kernels.llvm.memory import prefetch, prefetch_l2, words_at
from rose_kernels.llvm.storage import itemsize_of, load, store
from rose_kernels.parallel.tables import NEAREST, PORTABLE
from rose_kernels.rule.division import can_multiply, divide, has_reciprocal, value_at, with_reciprocal
from rose_kernels.rule.gate import denominator
from rose_kernels.rule.noise import CHUNK, fill_noise, noise_buffer

__all__ = ["update_buffers", "update_elements", "update_scalar"]

_TO_NEAREST: Final = -1
# Rows shorter than this are updated several at a time. The limit is higher for 16-bit parameters, whose update in
# stages costs more per call.
_SHORT: Final = 32
_SHORT_16: Final = 128
# Prefetch for this many elements at a time, this many bytes ahead. The hardware prefetcher stops at the end of a page.
_GROUP: Final = np.uintp(32)
_AHEAD: Final = 2048


class UpdateBuffers(NamedTuple):
    """Buffers of one thread, each for one chunk of elements."""

    noise: Any
    means: Any
    divisors: Any  # a tuple: divisors and their reciprocals
    values: Any
    slopes: Any


@compiled
def update_buffers(operation):
    """Return new `UpdateBuffers` for an operation dtype."""
    return UpdateBuffers(
        noise_buffer(),
        np.empty(CHUNK, operation),
        (np.empty(CHUNK, operation), np.empty(CHUNK, operation)),
        np.empty(CHUNK, np.float32),
        np.empty(CHUNK, np.float32),
    )


@compiled
def update_scalar(tensor, param_storage, grad_storage, operation, buffers):
    """Update a parameter of rank 0 (ROSE-6.2)."""
    x, g = words_at(tensor.param, 1, param_storage), words_at(tensor.grad, 1, grad_storage)
    slope = load(xor(g[0], sign_mask(tensor.maximize, grad_storage)), operation)
    sign = operation(1.0) if slope > 0.0 else operation(-1.0)
    sign = operation(0.0) if slope == 0.0 else sign
    change = sign * operation(tensor.negative_lr)
    step = slope if math.isnan(slope) else _limited(change, (operation(tensor.limit),))
    noise = np.int64(_TO_NEAREST)
    if tensor.noise != NEAREST:
        noise = np.int64(_noise_words(tensor, buffers.noise, 0, 1)[0])
    x[0] = store(load(x[0], operation) * operation(tensor.decay) + step, noise, x[0])


@compiled
def update_elements(tensor, start, stop, means, ranges, param_storage, grad_storage, operation, buffers):
    """Update the elements `start` to `stop`; `means` and `ranges` begin with the row of element `start`.

    A long row is updated by itself, with one mean and one divisor. Short rows are updated several at a time, with a
    mean and a divisor for each element.
    """
    length, first_row = tensor.length, start // tensor.length
    row, column = first_row, start - first_row * length
    x_size, g_size = itemsize_of(param_storage), itemsize_of(grad_storage)
    multiplies = can_multiply(grad_storage, operation)
    dense = tensor.param_stride_bytes == length * x_size and tensor.grad_stride_bytes == length * g_size
    many_rows = dense and length < (_SHORT if x_size > 2 else _SHORT_16)
    while start < stop:
        mean, divisor = operation(means[row - first_row]), _divisor(tensor, ranges[row - first_row], operation)
        # A long row without a reciprocal takes the path of short rows. So there are three loops to compile, not four.
        broadcast = many_rows or (multiplies and not has_reciprocal(divisor, operation(tensor.negative_lr)))
        count = stop - start if many_rows else min(stop - start, length - column)
        count = min(count, CHUNK) if broadcast or x_size == 2 else count  # the size of the buffers
        x = words_at(tensor.param + row * tensor.param_stride_bytes + column * x_size, count, param_storage)
        g = words_at(tensor.grad + row * tensor.grad_stride_bytes + column * g_size, count, grad_storage)
        if broadcast:
            have_reciprocals = _broadcast_rows(
                tensor, row - first_row, column, count, means, ranges, multiplies, operation, buffers
            )
            if multiplies and have_reciprocals:
                _update_chunk(tensor, x, g, start, buffers.means, buffers.divisors, grad_storage, operation, buffers)
            else:
                _update_chunk(
                    tensor, x, g, start, buffers.means, buffers.divisors[:1], grad_storage, operation, buffers
                )
        elif multiplies:
            divisors = with_reciprocal(divisor, operation)
            _update_chunk(tensor, x, g, start, mean, divisors, grad_storage, operation, buffers)
        else:
            _update_chunk(tensor, x, g, start, mean, (divisor,), grad_storage, operation, buffers)
        start, column = start + count, column + count
        if many_rows:
            row, column = row + column // length, column % length
        elif column == length:
            row, column = row + 1, 0


@compiled
def _divisor(tensor, range_, operation):
    trust, mean = operation(tensor.trust), operation(tensor.mean_range)
    return denominator(operation(range_), tensor.gated != 0, trust, mean, operation)


@compiled
def _broadcast_rows(tensor, row, column, count, means, ranges, multiplies, operation, buffers):
    """Write the mean and the divisor of each of `count` elements to the buffers, from one column of a row on.

    Return whether all divisors have a reciprocal. The reciprocals are written too if the update multiplies.
    """
    done, all_have, negative_lr = 0, True, operation(tensor.negative_lr)
    while done < count:
        mean, divisor = operation(means[row]), _divisor(tensor, ranges[row], operation)
        stop = min(count, done + tensor.length - column)
        for i in indices(done, stop):
            buffers.means[i], buffers.divisors[0][i] = mean, divisor
        if multiplies:
            all_have = all_have and has_reciprocal(divisor, negative_lr)
            _, reciprocal = with_reciprocal(divisor, operation)
            for i in indices(done, stop):
                buffers.divisors[1][i] = reciprocal
        done, row, column = stop, row + 1, 0
    return all_have


def _update_chunk(
    tensor: Any, x: Any, g: Any, start: Any, means: Any, divisors: Any, grad_storage: Any, operation: Any, buffers: Any
) -> Any:
    """Update the elements x by the gradient g; `start` is the index of the first in the whole tensor.

    `means` and `divisors` are scalars for all elements, or arrays with a value for each, as in `division.divide`.
    """
    raise NotImplementedError


@overload(_update_chunk)
def _compiled_update_chunk(tensor, x, g, start, means, divisors, grad_storage, operation, buffers):
    def at_once(tensor, x, g, start, means, divisors, grad_storage, operation, buffers):
        factors = operation(tensor.negative_lr), operation(tensor.decay)
        mask = sign_mask(tensor.maximize, grad_storage)
        if tensor.limit < np.inf:
            _update_words(x, g, mask, means, divisors, factors, (operation(tensor.limit),), operation)
        else:
            _update_words(x, g, mask, means, divisors, factors, (), operation)

    def in_stages(tensor, x, g, start, means, divisors, grad_storage, operation, buffers):
        factors = operation(tensor.negative_lr), operation(tensor.decay)
        _widen(x, g, sign_mask(tensor.maximize, grad_storage), buffers)
        values, slopes = buffers.values[: x.size], buffers.slopes
        if tensor.limit < np.inf:
            _update_values(values, slopes, means, divisors, factors, (operation(tensor.limit),), operation)
        else:
            _update_values(values, slopes, means, divisors, factors, (), operation)
        if tensor.noise == NEAREST:
            for i in indices(0, x.size):
                x[i] = store(values[i], _TO_NEAREST, x[i])
        else:
            noise = _noise_words(tensor, buffers.noise, start, x.size)
            for i in indices(0, x.size):
                x[i] = store(values[i], noise[i], x[i])

    # LLVM vectorizes a loop poorly if it mixes 16-bit words and float64. Each stage mixes neighbouring widths only.
    return in_stages if x.dtype.bitwidth == 16 else at_once


@compiled
def _update_words(x, g, mask, means, divisors, factors, limits, operation):
    """Update the elements of a parameter of 32 or 64 bits."""
    groups = np.uintp(x.size) // _GROUP
    for group in indices(0, groups):
        first = group * _GROUP
        prefetch(x, first, _GROUP, _AHEAD)
        prefetch(g, first, _GROUP, _AHEAD)
        for i in indices(0, _GROUP):
            _update_word(x, g, first + i, mask, means, divisors, factors, limits, operation)
    for i in indices(groups * _GROUP, x.size):
        _update_word(x, g, i, mask, means, divisors, factors, limits, operation)


@compiled
def _update_word(x, g, i, mask, means, divisors, factors, limits, operation):
    """Update element i of a parameter of 32 or 64 bits."""
    value, slope = load(x[i], operation), load(xor(g[i], mask), operation)
    x[i] = store(_updated(value, slope, i, means, divisors, factors, limits), _TO_NEAREST, x[i])


@compiled
def _widen(x, g, mask, buffers):
    """Write the float32 values of a 16-bit parameter and its gradient to the buffers."""
    prefetch_l2(x, 0, x.size, _AHEAD)
    prefetch_l2(g, 0, g.size, _AHEAD)
    for i in indices(0, x.size):
        buffers.values[i], buffers.slopes[i] = load(x[i], np.float32), load(xor(g[i], mask), np.float32)


@compiled
def _update_values(values, slopes, means, divisors, factors, limits, operation):
    """Update the values of a 16-bit parameter in float32."""
    for i in indices(0, values.size):
        value, slope = operation(values[i]), operation(slopes[i])
        values[i] = np.float32(_updated(value, slope, i, means, divisors, factors, limits))


@compiled
def _updated(value, slope, i, means, divisors, factors, limits):
    """Return an element after decay and step, before it is rounded to storage (ROSE-3.1, ROSE-6.1, ROSE-6.4).

    `factors` are the negative lr and the decay. `limits` is a tuple with the largest change, or empty.
    """
    negative_lr, decay = factors
    return value * decay + _limited(divide((slope - value_at(means, i)) * negative_lr, divisors, i), limits)


def _limited(change: Any, limits: Any) -> Any:
    """Return a change of at most the limit in magnitude, if there is one (ROSE-6.4). NaN stays NaN."""
    raise NotImplementedError


@overload(_limited)
def _compiled_limited(change, limits):
    if len(limits) == 0:
        return lambda change, limits: change
    return lambda change, limits: max(min(change, limits[0]), -limits[0])


@compiled
def _noise_words(tensor, buffer, start, count):
    """Return the noise words of elements `start` to `start + count`: generated now, or drawn before."""
    words = buffer.view(np.uint16)
    if tensor.noise == PORTABLE:
        first = fill_noise(buffer, start, count, tensor.key0, tensor.key1)
        return words[first : first + count]
    drawn = words_at(tensor.noise_address + 4 * (start - tensor.noise_start), count, np.int32)
    for i in indices(0, count):
        words[i] = np.uint16(drawn[i])
    return words[:count]
