"""The elementwise update in compiled code: `rose_core.update.advance` and what it stands between (ROSE-6)."""

import math
from typing import Any, Final

import numpy as np
from numba.extending import overload

from rose_kernels.llvm.bits import sign_mask, xor
from rose_kernels.llvm.compilation import compiled, indices
from rose_kernels.llvm.memory import prefetch, prefetch_l2, words_at
from rose_kernels.llvm.storage import itemsize_of, load, store
from rose_kernels.parallel.tables import NEAREST, PORTABLE
from rose_kernels.rule.division import at, divided, has_reciprocal, multiplies, with_reciprocal
from rose_kernels.rule.gate import denominator
from rose_kernels.rule.noise import CHUNK, fill_noise, noise_buffer

__all__ = ["advance_elements", "advance_scalar", "element_buffers"]

_TO_NEAREST: Final = -1
# Rows shorter than this are updated many at a time, with a mean and divisors for each element; those of words of 16
# bits, which are updated in stages, sooner.
_SHORT: Final = 32
_SHORT_16: Final = 128
# Memory is asked for so many elements at a time, and so many bytes ahead: a processor by itself looks no further than
# the page.
_GROUP: Final = np.uintp(32)
_AHEAD: Final = 2048


@compiled
def element_buffers(operation):
    """Return room for a chunk: its noise, of each element the mean and the divisors, its values and its slopes."""
    return (
        noise_buffer(),
        np.empty(CHUNK, operation),
        (np.empty(CHUNK, operation), np.empty(CHUNK, operation)),
        np.empty(CHUNK, np.float32),
        np.empty(CHUNK, np.float32),
    )


@compiled
def advance_scalar(tensor, param_word, grad_word, operation, buffers):
    """Update a parameter of rank 0 (ROSE-6.2)."""
    x, g = words_at(tensor.param, 1, param_word), words_at(tensor.grad, 1, grad_word)
    slope = load(xor(g[0], sign_mask(tensor.negated, grad_word)), operation)
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
    row, place = first_row, start - first_row * length
    x_size, g_size, multiplying = itemsize_of(param_word), itemsize_of(grad_word), multiplies(grad_word, operation)
    dense = tensor.param_pitch == length * x_size and tensor.grad_pitch == length * g_size
    many_rows = dense and length < (_SHORT if x_size > 2 else _SHORT_16)
    while start < stop:
        mean, divisor = operation(means[row - first_row]), _divisor(tensor, ranges[row - first_row], operation)
        # A long row without a reciprocal is updated like short ones, which spares a fourth copy of the loop.
        spread = many_rows or (multiplying and not has_reciprocal(divisor, operation(tensor.rate)))
        count = stop - start if many_rows else min(stop - start, length - place)
        count = min(count, CHUNK) if spread or x_size == 2 else count  # what the buffers hold
        x = words_at(tensor.param + row * tensor.param_pitch + place * x_size, count, param_word)
        g = words_at(tensor.grad + row * tensor.grad_pitch + place * g_size, count, grad_word)
        if spread:
            have_reciprocals = _spread(
                tensor, row - first_row, place, count, means, ranges, multiplying, operation, buffers
            )
            if multiplying and have_reciprocals:
                _advance(tensor, x, g, start, buffers[1], buffers[2], grad_word, operation, buffers)
            else:
                _advance(tensor, x, g, start, buffers[1], buffers[2][:1], grad_word, operation, buffers)
        elif multiplying:
            _advance(tensor, x, g, start, mean, with_reciprocal(divisor, operation), grad_word, operation, buffers)
        else:
            _advance(tensor, x, g, start, mean, (divisor,), grad_word, operation, buffers)
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
def _spread(tensor, row, place, count, means, ranges, multiplying, operation, buffers):
    """Write the mean and the divisor of each element of some rows, the first row from a place on.

    Return whether all of them have a reciprocal.
    """
    done, all_have, rate = 0, True, operation(tensor.rate)
    while done < count:
        mean, divisor = operation(means[row]), _divisor(tensor, ranges[row], operation)
        stop = min(count, done + tensor.length - place)
        for i in indices(done, stop):
            buffers[1][i], buffers[2][0][i] = mean, divisor
        if multiplying:
            all_have = all_have and has_reciprocal(divisor, rate)
            _, reciprocal = with_reciprocal(divisor, operation)
            for i in indices(done, stop):
                buffers[2][1][i] = reciprocal
        done, row, place = stop, row + 1, 0
    return all_have


def _advance(  # the compiled one is below
    tensor: Any, x: Any, g: Any, start: Any, means: Any, divisors: Any, grad_word: Any, operation: Any, buffers: Any
) -> Any:
    """Update elements, of which `start` is the place of the first in the whole tensor."""
    raise NotImplementedError


@overload(_advance)
def _compiled_advance(tensor, x, g, start, means, divisors, grad_word, operation, buffers):
    def at_once(tensor, x, g, start, means, divisors, grad_word, operation, buffers):
        rate, decay = operation(tensor.rate), operation(tensor.decay)
        flip = sign_mask(tensor.negated, grad_word)
        groups = np.uintp(x.size) // _GROUP
        for group in indices(0, groups):
            first = group * _GROUP
            prefetch(x, first, _GROUP, _AHEAD)
            prefetch(g, first, _GROUP, _AHEAD)
            for place in indices(0, _GROUP):
                _advance_one(x, g, first + place, means, divisors, rate, decay, flip, operation)
        for i in indices(groups * _GROUP, x.size):
            _advance_one(x, g, i, means, divisors, rate, decay, flip, operation)

    def in_stages(tensor, x, g, start, means, divisors, grad_word, operation, buffers):
        _widen(x, g, sign_mask(tensor.negated, grad_word), buffers)
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
def _advance_one(x, g, i, means, divisors, rate, decay, flip, operation):
    """Update an element of 32 bits or more."""
    slope = load(xor(g[i], flip), operation)
    x[i] = store(_advanced(load(x[i], operation), slope, i, means, divisors, rate, decay), _TO_NEAREST, x[i])


@compiled
def _widen(x, g, flip, buffers):
    """Write the float32 of each element of a parameter of 16-bit words, and of its gradient, which is not wider."""
    prefetch_l2(x, 0, x.size, _AHEAD)
    prefetch_l2(g, 0, g.size, _AHEAD)
    for i in indices(0, x.size):
        buffers[3][i], buffers[4][i] = load(x[i], np.float32), load(xor(g[i], flip), np.float32)


@compiled
def _advanced(value, slope, i, means, divisors, rate, decay):
    """Return an element decayed and stepped, not yet rounded; `rate` is -lr (ROSE-3.1, ROSE-6.1)."""
    return value * decay + divided((slope - at(means, i)) * rate, divisors, i)


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
