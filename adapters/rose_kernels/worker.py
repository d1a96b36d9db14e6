"""The loop of a thread: it takes tickets until there are none."""

import numpy as np

from rose_kernels import atomics
from rose_kernels.compilation import compiled
from rose_kernels.elements import advance_elements, advance_scalar, element_buffers
from rose_kernels.memory import unmanaged
from rose_kernels.phases import measure, measure_part, note_ranges, proceed, sum_ranges
from rose_kernels.slices import strip_buffers
from rose_kernels.tables import DEVIATIONS, EXTREMA, FOLD, OPEN, PENDING, RANGES, SHARED, UPDATE, WHOLE

__all__ = ["work"]


@compiled
def work(
    tensors, tickets, next_ticket, last, shared, parts, means, ranges, rows_not_kept, param_word, grad_word, operation
):
    """Do tickets up to the `last`; `next_ticket` holds the number of the one to take.

    A ticket waits for tickets of lower numbers alone, which some thread has taken, so no thread waits for ever.
    What is its `own` a thread writes for itself alone.
    """
    own = element_buffers(operation), strip_buffers(grad_word, operation), np.empty((2, rows_not_kept), np.float64)
    arrays = next_ticket, shared, parts, means, ranges, own
    _take_tickets(tensors, tickets, last, arrays, param_word, grad_word, operation)


@compiled
def _take_tickets(tensors, tickets, last, arrays, param_word, grad_word, operation):
    next_ticket, shared, parts, means, ranges, own = unmanaged(arrays)
    while True:
        number = atomics.add(next_ticket, 0, 1)
        if number >= last:
            return
        ticket = tickets[number]
        if ticket.phase == WHOLE:
            for t in range(ticket.start, ticket.stop):
                tensor, phase, size = tensors[t], np.int64(EXTREMA), tensors[t].rows * tensors[t].length
                if tensor.rank == 0:
                    advance_scalar(tensor, param_word, grad_word, operation, own[0])
                    continue
                _do(tensor, phase, size * 0, size, shared, parts, means, ranges, own, param_word, grad_word, operation)
                proceed(tensor, phase, shared, parts, means, ranges, grad_word, operation)
                phase += UPDATE
                _do(tensor, phase, size * 0, size, shared, parts, means, ranges, own, param_word, grad_word, operation)
            continue
        tensor, phase = tensors[ticket.tensor], ticket.phase
        place = tensor.number * SHARED + phase
        if phase != EXTREMA:
            atomics.wait_for(shared, place + OPEN)
        start, stop = ticket.start, ticket.stop
        _do(tensor, phase, start, stop, shared, parts, means, ranges, own, param_word, grad_word, operation)
        if atomics.add(shared, place + PENDING, -1) == 1:
            proceed(tensor, phase, shared, parts, means, ranges, grad_word, operation)


@compiled
def _do(tensor, phase, start, stop, shared, parts, means, ranges, own, param_word, grad_word, operation):
    """Do a ticket of a tensor; its rows are measured again where their means and ranges are not kept."""
    if phase == FOLD or (phase == EXTREMA and tensor.first_part >= 0):
        measure_part(tensor, phase, start, stop, parts, grad_word, operation)
        return
    length = np.int64(1) if phase in (RANGES, DEVIATIONS) else tensor.length
    row, rows = start // length, (stop - start + length - 1) // length
    elements, strip, not_kept = own
    if tensor.first_row < 0:
        means, ranges = not_kept[0, :rows], not_kept[1, :rows]
    else:
        place = tensor.first_row + row
        means, ranges = means[place : place + rows], ranges[place : place + rows]
    if phase == EXTREMA or tensor.first_row < 0:
        measure(tensor, row, rows, means, ranges, grad_word, operation, strip)
    if phase == EXTREMA:
        note_ranges(tensor, ranges, shared)
    elif phase == UPDATE:
        advance_elements(tensor, start, stop, means, ranges, param_word, grad_word, operation, elements)
    else:
        sum_ranges(tensor, phase, ranges, shared)
