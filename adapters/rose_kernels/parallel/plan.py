"""A batch: tensors of one kind that are updated together, with the tables that their kernels read."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from rose_kernels.entry import entry
from rose_kernels.layout import Layout
from rose_kernels.llvm.storage import STORAGE_TYPES
from rose_kernels.parallel import tables
from rose_kernels.parallel.schedule import Wave, in_queues, waves
from rose_kernels.parallel.threads import Threads
from rose_kernels.rule.summation import fold_constants

__all__ = ["Batch"]

Queued = tuple[np.ndarray, np.ndarray]
"""Tickets by queue, and the queues (`schedule.in_queues`)."""

_OPERATIONS: Final = {"fp64": np.float64, "fp32": np.float32}
# Below so many elements another thread comes too late.
_ALONE: Final = 2**15
# So many words are drawn at once, 4 MiB.
_DRAWN: Final = 2**20


class Batch:
    """Tensors whose parameters are of one dtype, and whose gradients are.

    Attributes
    ----------
    tensors : array of `tables.TENSOR`
        A row a tensor; who runs the batch first sets what its step brings.
    """

    def __init__(self, layouts: Sequence[Layout], param_dtype: str, grad_dtype: str, compute: str) -> None:
        self._work = entry(STORAGE_TYPES[param_dtype], STORAGE_TYPES[grad_dtype], _OPERATIONS[compute])
        self._waves = list(waves(layouts))
        self._initial = [_initial(wave) for wave in self._waves]
        self._queued: dict[tuple[int, int], Queued] = {}  # by wave and how many of its tickets
        self.tensors = np.zeros(len(layouts), tables.TENSOR)
        for place, field in enumerate(Layout._fields):
            if field in (tables.TENSOR.names or ()):
                self.tensors[field] = [layout[place] for layout in layouts]
        for prefix, counts in (("", self.tensors["length"]), ("gate_", self.tensors["rows"])):
            constants = np.reshape([fold_constants(int(n)) for n in counts], (-1, 3)).T
            for field, values in zip(("scale", "ratio", "folds"), constants, strict=True):
                self.tensors[prefix + field] = values
        for wave in self._waves:
            own = self.tensors[wave.start : wave.stop]
            own["number"] = np.arange(len(own))
            own["first_row"], own["first_part"] = wave.first_row, wave.first_part
            own["first_draft"], own["block"] = wave.first_draft, wave.block

    def run(self, threads: Threads) -> None:
        """Update all tensors."""
        for wave, initial in zip(self._waves, self._initial, strict=True):
            queued = self._kept(wave, len(wave.tickets), threads)
            # No name here keeps the memory of one wave while that of the next is taken.
            self._run(wave, _working_memory(wave, initial), queued, threads)

    def run_drawing(self, draw: Callable[[int, int], tuple[int, Any]], threads: Threads) -> None:
        """Update the only tensor with noise that is drawn in the order of its elements.

        `draw(start, stop)` returns the address of the int32 words of some elements, and what keeps them there.
        """
        (wave,), (initial,) = self._waves, self._initial
        memory, first = _working_memory(wave, initial), int(np.searchsorted(wave.tickets["phase"], tables.UPDATE))
        self._run(wave, memory, self._kept(wave, first, threads), threads)
        for tickets, start, stop in _drawings(wave, wave.tickets[first:]):
            address, words = draw(start, stop)
            self.tensors["noise_address"], self.tensors["noise_start"] = address, start
            self._run(wave, memory, in_queues(tickets, _lanes(wave, tickets, threads)), threads)
            del words

    def _kept(self, wave: Wave, count: int, threads: Threads) -> Queued:
        """Return the first tickets of a wave in queues, which are kept until the number of threads is another."""
        tickets = wave.tickets[:count]
        lanes = _lanes(wave, tickets, threads)
        queued = self._queued.get((wave.start, count))
        if queued is None or len(queued[1]) != lanes * tables.LANE:
            queued = self._queued[wave.start, count] = in_queues(tickets, lanes)
        return queued

    def _run(self, wave: Wave, memory: tuple[np.ndarray, ...], queued: Queued, threads: Threads) -> None:
        """Do tickets that are in queues."""
        tickets, queues = queued
        work = functools.partial(
            self._work,
            self.tensors[wave.start : wave.stop],
            tickets,
            queues.copy(),
            np.zeros(1, np.int64),
            *memory,
            wave.rows_not_kept,
        )
        threads.run(work, len(queues) // tables.LANE)


def _lanes(wave: Wave, tickets: np.ndarray, threads: Threads) -> int:
    """Return how many threads some tickets are for."""
    return 1 if wave.size < _ALONE else max(1, min(threads.count, len(tickets)))


def _drawings(wave: Wave, updates: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield some of the tickets of the updates at a time, and their elements from one to before another."""
    if updates["phase"][0] == tables.WHOLE:
        yield updates, 0, wave.size
        return
    starts, stops = updates["start"], updates["stop"]
    first = 0
    while first < len(updates):
        last = first + max(1, int(np.searchsorted(stops[first:], starts[first] + _DRAWN, side="right")))
        yield updates[first:last], int(starts[first]), int(stops[last - 1])
        first = last


def _working_memory(wave: Wave, initial: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return what `_initial` does, anew, and the memory of a wave's means and ranges."""
    shared, parts = initial
    return shared.copy(), parts.copy(), np.empty(wave.kept_rows), np.empty(wave.kept_rows)


def _initial(wave: Wave) -> tuple[np.ndarray, np.ndarray]:
    """Return what threads share and the partial results of a wave at its beginning."""
    shared = np.zeros((wave.stop - wave.start, tables.SHARED), np.int64)
    shared[:, tables.PENDING : tables.OPEN] = wave.pending
    shared[:, [tables.OPEN + tables.EXTREMA, tables.OPEN + tables.WHOLE]] = 1  # they wait for nothing
    shared[:, tables.LOW_RANGE] = np.iinfo(np.int64).max
    parts = np.zeros((wave.parts, tables.PART), np.int64)
    parts[:, tables.LOW], parts[:, tables.HIGH] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    parts = np.concatenate([parts.ravel(), np.zeros(wave.drafts * tables.DRAFT, np.int64)])
    return shared.ravel(), parts
