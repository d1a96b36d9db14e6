"""The loop of a thread: it takes tickets until there are none."""

from typing import Final

import numpy as np

from rose_kernels.llvm import atomics
from rose_kernels.llvm.compilation import compiled
from rose_kernels.llvm.memory import unmanaged
from rose_kernels.parallel.tables import DEVIATIONS, EXTREMA, FOLD, LANE, OPEN, PENDING, RANGES, SHARED, UPDATE, WHOLE
from rose_kernels.parallel.tasks import measure, measure_part, note_ranges, proceed, sum_ranges
from rose_kernels.rule.statistics import strip_buffers
from rose_kernels.rule.update import update_buffers, update_elements, update_scalar

__all__ = ["work"]

_LATEST_FIRST: Final = (UPDATE, DEVIATIONS, RANGES, FOLD, EXTREMA, WHOLE)
_LATER: Final = -1
_NONE: Final = -2
# After so many vain looks for a ticket the processor is left to another thread.
_LOOKS: Final = 100


@compiled
def work(
    tensors, tickets, queues, lane, shared, parts, means, ranges, rows_not_kept, param_storage, grad_storage, operation
):
    """Do tickets until there are none; `lane` holds how many threads have begun, each of which has the next lane.

    What is its `own` a thread writes for itself alone.
    """
    own = update_buffers(operation), strip_buffers(grad_storage, operation), np.empty((2, rows_not_kept), np.float64)
    arrays = queues, lane, shared, parts, means, ranges, own
    _take_tickets(tensors, tickets, arrays, param_storage, grad_storage, operation)


@compiled
def _take_tickets(tensors, tickets, arrays, param_storage, grad_storage, operation):
    queues, lane, shared, parts, means, ranges, own = unmanaged(arrays)
    own_lane, looks = atomics.add(lane, 0, 1), 0
    while True:
        number = _take(tickets, queues, own_lane, shared)
        if number == _NONE:
            return
        if number == _LATER:
            looks += 1
            if looks % _LOOKS == 0:
                atomics.yield_processor()
            continue
        ticket = tickets[number]
        if ticket.phase == WHOLE:
            for t in range(ticket.start, ticket.stop):
                tensor, phase, size = tensors[t], np.int64(EXTREMA), tensors[t].rows * tensors[t].length
                if tensor.rank == 0:
                    update_scalar(tensor, param_storage, grad_storage, operation, own[0])
                    continue
                _do(
                    tensor,
                    phase,
                    size * 0,
                    size,
                    shared,
                    parts,
                    means,
                    ranges,
                    own,
                    param_storage,
                    grad_storage,
                    operation,
                )
                proceed(tensor, phase, shared, parts, means, ranges, grad_storage, operation)
                phase += UPDATE
                _do(
                    tensor,
                    phase,
                    size * 0,
                    size,
                    shared,
                    parts,
                    means,
                    ranges,
                    own,
                    param_storage,
                    grad_storage,
                    operation,
                )
            continue
        tensor, phase, start, stop = tensors[ticket.tensor], ticket.phase, ticket.start, ticket.stop
        _do(tensor, phase, start, stop, shared, parts, means, ranges, own, param_storage, grad_storage, operation)
        if atomics.add(shared, tensor.number * SHARED + PENDING + phase, -1) == 1:
            proceed(tensor, phase, shared, parts, means, ranges, grad_storage, operation)


@compiled
def _take(tickets, queues, own_lane, shared):
    """Take a ticket whose phase is open, and return its number, or whether there may be one later.

    A thread looks into its own lane first, then into those of others, which may be slow or not there; and in each for
    the latest phase first. No thread looks for ever: of the tickets that are left, one of the earliest tensor's
    earliest phase heads its queue, and waits only for tickets that are taken.
    """
    answer, lanes = np.int64(_NONE), queues.size // LANE
    for turn in range(lanes):
        lane = (own_lane + turn) % lanes
        for phase in _LATEST_FIRST:
            place = lane * LANE + 2 * phase
            number = atomics.load(queues, place)
            if number >= queues[place + 1]:
                continue
            answer = np.int64(_LATER)
            is_open = atomics.load(shared, tickets[number].tensor * SHARED + OPEN + phase)
            if is_open and atomics.compare_exchange(queues, place, number, number + 1):
                return number
    return answer


@compiled
def _do(tensor, phase, start, stop, shared, parts, means, ranges, own, param_storage, grad_storage, operation):
    """Do a ticket of a tensor; its rows are measured again where their means and ranges are not kept."""
    if phase == FOLD or (phase == EXTREMA and tensor.first_part >= 0):
        measure_part(tensor, phase, start, stop, parts, grad_storage, operation)
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
        measure(tensor, row, rows, means, ranges, grad_storage, operation, strip)
    if phase == EXTREMA:
        note_ranges(tensor, ranges, shared)
    elif phase == UPDATE:
        update_elements(tensor, start, stop, means, ranges, param_storage, grad_storage, operation, elements)
    else:
        sum_ranges(tensor, phase, ranges, shared)
