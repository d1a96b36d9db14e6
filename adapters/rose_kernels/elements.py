"""The elementwise update in compiled code: `rose_core.update.advance` and what it stands between (ROSE-6)."""

import math
from typing import Any, Final

import numpy as np
from numba import types
from numba.extending import overload

from rose_kernels.compilation import compiled, indices
from rose_kernels.gate import denominator
from rose_kernels.noise import CHUNK, fill_noise, noise_buffer
from rose_kernels.tables import NEAREST, PORTABLE
from rose_kernels.words import flip_of, load, size_of, store, words_at, xor

__all__ = ["advance_elements", "advance_scalar", "element_buffers"]

_TO_NEAREST: Final = -1
# Rows shorter than this are updated many at a time, with a mean and a denominator for each element.
_SHORT: Final = 32


@compiled
def element_buffers(operation):
    """Return room for a chunk: its noise, the mean and the denominator of each element, its values and slopes."""
    spread = np.empty(CHUNK, operation), np.empty(CHUNK, operation)
    return noise_buffer(), *spread, np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)


@compiled
def advance_scalar(tensor, param_word, grad_word, operation, buffers):
    """Update a parameter of rank 0 (ROSE-6.2)."""
    x, g = words_at(tensor.param, 1, param_word), words_at(tensor.grad, 1, grad_word)
    slope = load(xor(g[0], flip_of(tensor.negated, grad_word)), operation)
    sign = operation(1.0) if slope > 0.0 else operation(-1.0)
    sign = operation(0.0) if slope == 0.0 else sign
    step = slope if math.isnan(slope) else sign * operation(tensor.rate)
    noise = np.int64(_TO_NEAREST)
    if tensor.noise != NEAREST:
        noise = np.int64(_noise_of(tensor, buffers[0], 0, 1)[0])
    x[0] = store(load(x[0], operation) * operation(tensor.decay) + step, noise, x[0])


@compiled
def advance_elements(tensor, start, stop, means, ranges, param_word, grad_word, operation, buffers):
    """Update the elements from one to before another; `means` and `ranges` begin with the row of the first."""
    length, first_row = tensor.length, start // tensor.length
    dense = tensor.param_pitch == length * size_of(param_word) and tensor.grad_pitch == length * size_of(grad_word)
    many_rows = dense and length < _SHORT
    longest = length if size_of(param_word) > 2 else CHUNK  # what the buffers hold
    row, place = first_row, start - first_row * length
    while start < stop:
        count = min(CHUNK, stop - start) if many_rows else min(longest, stop - start, length - place)
        x = words_at(tensor.param + row * tensor.param_pitch + place * size_of(param_word), count, param_word)
        g = words_at(tensor.grad + row * tensor.grad_pitch + place * size_of(grad_word), count, grad_word)
        if many_rows:
            _spread(tensor, row - first_row, place, count, means, ranges, operation, buffers)
            _advance(tensor, x, g, start, buffers[1], buffers[2], grad_word, operation, buffers)
        else:
            mean, divisor = operation(means[row - first_row]), _divisor(tensor, ranges[row - first_row], operation)
            _advance(tensor, x, g, start, mean, divisor, grad_word, operation, buffers)
        start, place = start + count, place + count
        if many_rows:
            row, place = row + place // length, place % length
        elif place == length:
            row, place = row + 1, 0


@compiled
def _divisor(tensor, range_, operation):
    trust, mean = operation(tensor.trust), operation(tensor.mean_range)
    return denominator(operation(range_), tensor.gated != 0, trust, mean, operation)


@compiled
def _spread(tensor, row, place, count, means, ranges, operation, buffers):
    """Write the mean and the denominator of each element of some short rows, the first row from a place on."""
    done = 0
    while done < count:
        mean, divisor = operation(means[row]), _divisor(tensor, ranges[row], operation)
        stop = min(count, done + tensor.length - place)
        for i in indices(done, stop):
            buffers[1][i], buffers[2][i] = mean, divisor
        done, row, place = stop, row + 1, 0


def _advance(  # the compiled one is below
    tensor: Any, x: Any, g: Any, start: Any, means: Any, divisors: Any, grad_word: Any, operation: Any, buffers: Any
) -> Any:
    """Update elements, of which `start` is the place of the first in the whole tensor."""
    raise NotImplementedError


@overload(_advance)
def _compiled_advance(tensor, x, g, start, means, divisors, grad_word, operation, buffers):
    def at_once(tensor, x, g, start, means, divisors, grad_word, operation, buffers):
        rate, decay = operation(tensor.rate), operation(tensor.decay)
        flip = flip_of(tensor.negated, grad_word)
        for i in indices(0, x.size):
            slope = load(xor(g[i], flip), operation)
            x[i] = store(_advanced(load(x[i], operation), slope, i, means, divisors, rate, decay), _TO_NEAREST, x[i])

    def in_stages(tensor, x, g, start, means, divisors, grad_word, operation, buffers):
        _widen(x, g, flip_of(tensor.negated, grad_word), buffers)
        values, slopes = buffers[3], buffers[4]
        rate, decay = operation(tensor.rate), operation(tensor.decay)
        for i in indices(0, x.size):
            value, slope = operation(values[i]), operation(slopes[i])
            values[i] = np.float32(_advanced(value, slope, i, means, divisors, rate, decay))
        if tensor.noise == NEAREST:
            for i in indices(0, x.size):
                x[i] = store(values[i], _TO_NEAREST, x[i])
        else:
            noise = _noise_of(tensor, buffers[0], start, x.size)
            for i in indices(0, x.size):
                x[i] = store(values[i], noise[i], x[i])

    # A loop over words of 16 bits and floats of 64 makes poor vectors; those over neighbouring widths do not.
    return in_stages if x.dtype.bitwidth == 16 else at_once


@compiled
def _widen(x, g, flip, buffers):
    """Write the float32 of each element of a parameter of 16-bit words, and of its gradient, which is not wider."""
    for i in indices(0, x.size):
        buffers[3][i], buffers[4][i] = load(x[i], np.float32), load(xor(g[i], flip), np.float32)


@compiled
def _advanced(value, slope, i, means, divisors, rate, decay):
    """Return an element decayed and stepped, not yet rounded; `rate` is -lr (ROSE-3.1, ROSE-6.1)."""
    return value * decay + ((slope - _at(means, i)) * rate) / _at(divisors, i)


def _at(values: Any, i: Any) -> Any:
    """Return the i-th of an array of values, or the one value of all."""
    raise NotImplementedError


@overload(_at)
def _compiled_at(values, i):
    if isinstance(values, types.Array):
        return lambda values, i: values[i]
    return lambda values, i: values


@compiled
def _noise_of(tensor, buffer, start, count):
    """Return the noise of so many elements from one on, drawn already or drawn now."""
    words = buffer.view(np.uint16)
    if tensor.noise == PORTABLE:
        place = fill_noise(buffer, start, count, tensor.key0, tensor.key1)
        return words[place : place + count]
    drawn = words_at(tensor.words + 4 * (start - tensor.words_start), count, np.int32)
    for i in indices(0, count):
        words[i] = np.uint16(drawn[i])
    return words[:count]
