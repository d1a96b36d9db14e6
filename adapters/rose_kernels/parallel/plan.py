"""A plan: the tables and the compiled kernel for a list of tensors of one kind, built once and run at every step."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from rose_kernels.entry import entry_point
from rose_kernels.layout import Kind, Layout
from rose_kernels.parallel import tables
from rose_kernels.parallel.schedule import Batch, batches, into_queues
from rose_kernels.parallel.threads import Threads
from rose_kernels.rule.summation import fold_constants

__all__ = ["LaunchPlan"]

Queued = tuple[np.ndarray, np.ndarray]
"""Tasks, and the queues that hold them (`schedule.into_queues`)."""

# A batch of fewer elements than this runs in the calling thread: a helper would start too late.
_SINGLE_THREADED: Final = 2**15
# Noise is drawn for this many elements at a time, 4 MiB.
_DRAWN_ELEMENTS: Final = 2**20


class LaunchPlan:
    """The update of tensors of one kind.

    Attributes
    ----------
    tensors : array of `tables.TENSOR`
        A record for each tensor. The caller sets the fields of a step before each run.
    """

    def __init__(self, layouts: Sequence[Layout], kind: Kind) -> None:
        self._run_tasks = entry_point(kind)
        self._batches = list(batches(layouts))
        self._initial = [_initial_state(batch) for batch in self._batches]
        self._queued: dict[tuple[int, int], Queued] = {}  # by the start of a batch and the number of its tasks
        self.tensors = _table(layouts)
        for batch in self._batches:
            records = self.tensors[batch.start : batch.stop]
            records["index"] = np.arange(len(records))
            records["first_row"], records["first_partial"] = batch.first_row, batch.first_partial
            records["first_speculative"], records["block"] = batch.first_speculative, batch.block

    def run(self, threads: Threads) -> None:
        """Update all tensors."""
        for batch, initial in zip(self._batches, self._initial, strict=True):
            queued = self._cached_queues(batch, len(batch.tasks), threads)
            # The workspace is an argument, not a variable: it is freed before the next batch allocates.
            self._run(batch, _workspace(batch, initial), queued, threads)

    def run_drawing(self, draw: Callable[[int, int], tuple[int, Any]], threads: Threads) -> None:
        """Update the only tensor of the plan with noise that `draw` returns, in the order of the elements.

        `draw(start, stop)` returns the address of int32 noise words for these elements, and an object that owns them.
        """
        (batch,), (initial,) = self._batches, self._initial
        workspace, first = _workspace(batch, initial), int(np.searchsorted(batch.tasks["phase"], tables.UPDATE))
        self._run(batch, workspace, self._cached_queues(batch, first, threads), threads)
        for tasks, start, stop in _draws(batch, batch.tasks[first:]):
            # The noise is an argument, not a variable: it is freed before the next is drawn.
            self._run_drawn(batch, workspace, tasks, start, draw(start, stop), threads)

    def _run_drawn(
        self,
        batch: Batch,
        workspace: tuple[np.ndarray, ...],
        tasks: np.ndarray,
        start: int,
        drawn: tuple[int, Any],
        threads: Threads,
    ) -> None:
        """Run tasks of UPDATE with noise drawn from element `start` on."""
        self.tensors["noise_address"], self.tensors["noise_start"] = drawn[0], start
        self._run(batch, workspace, into_queues(tasks, _thread_count(batch, tasks, threads)), threads)

    def _cached_queues(self, batch: Batch, count: int, threads: Threads) -> Queued:
        """Return the first `count` tasks of a batch in queues, cached until the number of threads changes."""
        tasks = batch.tasks[:count]
        thread_count = _thread_count(batch, tasks, threads)
        queued = self._queued.get((batch.start, count))
        if queued is None or len(queued[1]) != thread_count * tables.QUEUE_SIZE:
            queued = self._queued[batch.start, count] = into_queues(tasks, thread_count)
        return queued

    def _run(self, batch: Batch, workspace: tuple[np.ndarray, ...], queued: Queued, threads: Threads) -> None:
        tasks, queues = queued
        work = functools.partial(
            self._run_tasks,
            self.tensors[batch.start : batch.stop],
            tasks,
            queues.copy(),
            np.zeros(1, np.int64),
            *workspace,
            batch.recomputed_rows,
        )
        threads.run(work, len(queues) // tables.QUEUE_SIZE)


def _table(layouts: Sequence[Layout]) -> np.ndarray:
    """Return a record for each tensor, with its layout and its fold constants."""
    tensors = np.zeros(len(layouts), tables.TENSOR)
    for index, field in enumerate(Layout._fields):
        tensors[field] = [layout[index] for layout in layouts]
    for prefix, counts in (("", tensors["length"]), ("gate_", tensors["rows"])):
        constants = np.reshape([fold_constants(int(n)) for n in counts], (-1, 3)).T
        for field, values in zip(("scale", "ratio", "folds"), constants, strict=True):
            tensors[prefix + field] = values
    return tensors


def _thread_count(batch: Batch, tasks: np.ndarray, threads: Threads) -> int:
    """Return the number of threads that run these tasks of a batch."""
    return 1 if batch.size < _SINGLE_THREADED else max(1, min(threads.count, len(tasks)))


def _draws(batch: Batch, updates: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield the tasks of UPDATE in runs of about `_DRAWN_ELEMENTS`, each with its first element and its end."""
    if updates["phase"][0] == tables.WHOLE:
        yield updates, 0, batch.size
        return
    starts, stops = updates["start"], updates["stop"]
    first = 0
    while first < len(updates):
        last = first + max(1, int(np.searchsorted(stops[first:], starts[first] + _DRAWN_ELEMENTS, side="right")))
        yield updates[first:last], int(starts[first]), int(stops[last - 1])
        first = last


def _workspace(batch: Batch, initial: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return new arrays `shared`, `partials`, `means` and `ranges` for one run of a batch."""
    shared, partials = initial
    return shared.copy(), partials.copy(), np.empty(batch.stored_rows), np.empty(batch.stored_rows)


def _initial_state(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays `shared` and `partials` as they are before any task has run."""
    smallest, largest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    shared = np.zeros((batch.stop - batch.start, tables.SHARED_SIZE), np.int64)
    shared[:, tables.PENDING : tables.OPEN] = batch.pending
    shared[:, [tables.OPEN + tables.MEASURE, tables.OPEN + tables.WHOLE]] = 1
    shared[:, tables.MIN_RANGE] = largest
    partials = np.zeros((batch.partial_rows, tables.PARTIAL_SIZE), np.int64)
    partials[:, tables.LOW], partials[:, tables.HIGH] = largest, smallest
    speculative = np.zeros(batch.speculative * tables.SPECULATIVE_SIZE, np.int64)
    return shared.ravel(), np.concatenate([partials.ravel(), speculative])
