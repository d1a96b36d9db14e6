"""The loop that every thread runs: take a task, run it, until none is left.

Each thread has a queue, which holds the tasks of each phase in the order of the tensors. A thread takes tasks from its
queue first, then from the others, so that a slow or missing thread delays nobody. In a queue it looks at the latest
phase first. So a gradient is read again while it is in the cache, and few tensors are in progress at a time.

NOTE: [no deadlock] A thread waits only for a phase to open. Of the tasks not yet taken, consider the first tensor, and
its first phase. One of its tasks is the first in a section of a queue, because tasks of earlier tensors are all taken.
The phase waits only for earlier phases of this tensor, whose tasks are taken too: threads are running them. When they
finish, the phase opens, and every thread that searches the queues finds the task.
"""

from typing import Final

import numpy as np
from numba import njit

from rose_kernels.llvm import atomics
from rose_kernels.llvm.compilation import compiled
from rose_kernels.llvm.memory import unmanaged
from rose_kernels.llvm.subnormals import keep_subnormals, restore_mode
from rose_kernels.parallel.tables import (
    DEVIATIONS,
    FOLD,
    MEASURE,
    OPEN,
    PENDING,
    QUEUE_SIZE,
    RANGES,
    SHARED_SIZE,
    UPDATE,
    WHOLE,
)
from rose_kernels.parallel.tasks import ThreadBuffers, finish_phase, run_task
from rose_kernels.rule.statistics import strip_buffers
from rose_kernels.rule.update import update_buffers, update_scalar

__all__ = ["run_tasks"]

_LATEST_FIRST: Final = (UPDATE, DEVIATIONS, RANGES, FOLD, MEASURE, WHOLE)
# Returned in place of the index of a task: all phases with tasks are closed, or no task is left.
_WAIT: Final = -1
_FINISHED: Final = -2
# Failed searches for a task before the thread yields its processor.
_SPINS: Final = 100


@compiled
def run_tasks(
    tensors,
    tasks,
    queues,
    threads_started,
    shared,
    partials,
    means,
    ranges,
    recomputed_rows,
    param_storage,
    grad_storage,
    operation,
):
    """Run tasks until none is left; every thread calls this with the same arrays, described in `tables`.

    `threads_started` has one element, by which each thread finds the index of its queue.
    """
    buffers = ThreadBuffers(
        update_buffers(operation), strip_buffers(grad_storage, operation), np.empty((2, recomputed_rows), np.float64)
    )
    arrays = queues, threads_started, shared, partials, means, ranges, buffers
    mode = keep_subnormals()
    _run_until_finished(tensors, tasks, arrays, param_storage, grad_storage, operation)
    restore_mode(mode)


@compiled
def _run_until_finished(tensors, tasks, arrays, param_storage, grad_storage, operation):
    queues, threads_started, shared, partials, means, ranges, buffers = unmanaged(arrays)
    queue, spins = atomics.add(threads_started, 0, 1), 0
    while True:
        index = _take_task(tasks, queues, queue, shared)
        if index == _FINISHED:
            return
        if index == _WAIT:
            spins += 1
            if spins % _SPINS == 0:
                atomics.yield_processor()
            continue
        task = tasks[index]
        if task.phase == WHOLE:
            for t in range(task.start, task.stop):
                _run_all_phases(
                    tensors[t], shared, partials, means, ranges, buffers, param_storage, grad_storage, operation
                )
            continue
        tensor, phase, start, stop = tensors[task.tensor], task.phase, task.start, task.stop
        run_task(
            tensor, phase, start, stop, shared, partials, means, ranges, buffers, param_storage, grad_storage, operation
        )
        if atomics.add(shared, tensor.index * SHARED_SIZE + PENDING + phase, -1) == 1:
            finish_phase(tensor, phase, shared, partials, means, ranges, grad_storage, operation)


@njit(inline="always")
def _run_all_phases(tensor, shared, partials, means, ranges, buffers, param_storage, grad_storage, operation):
    """Update a small tensor in one thread."""
    # Neither the phases nor `start` are literals: Numba would compile a copy of `run_task` for each literal argument.
    measure, update, start = np.int64(MEASURE), np.int64(UPDATE), np.int64(0)
    stop = tensor.rows * tensor.length
    if tensor.rank == 0:
        update_scalar(tensor, param_storage, grad_storage, operation, buffers.update)
        return
    run_task(
        tensor, measure, start, stop, shared, partials, means, ranges, buffers, param_storage, grad_storage, operation
    )
    finish_phase(tensor, measure, shared, partials, means, ranges, grad_storage, operation)
    run_task(
        tensor, update, start, stop, shared, partials, means, ranges, buffers, param_storage, grad_storage, operation
    )


@compiled
def _take_task(tasks, queues, first_queue, shared):
    """Take a task whose phase is open and return its index, or `_WAIT` or `_FINISHED`; see NOTE: [no deadlock]."""
    answer, count = np.int64(_FINISHED), queues.size // QUEUE_SIZE
    for turn in range(count):
        queue = (first_queue + turn) % count
        for phase in _LATEST_FIRST:
            section = queue * QUEUE_SIZE + 2 * phase
            index = atomics.load(queues, section)
            if index >= queues[section + 1]:
                continue
            answer = np.int64(_WAIT)
            is_open = atomics.load(shared, tasks[index].tensor * SHARED_SIZE + OPEN + phase)
            if is_open and atomics.compare_exchange(queues, section, index, index + 1):
                return index
    return answer
