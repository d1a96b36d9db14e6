"""The schedule of a step: tensors in batches, batches as tasks, and tasks in one queue for each thread."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from rose_kernels.layout import Layout
from rose_kernels.parallel import tables

__all__ = ["Batch", "batches", "into_queues"]

# Elements per task. It takes much longer to run a task of this size than to take it, and data that a task reads twice
# stays in the second-level cache.
BLOCK: Final = 2**16
# Small tensors share a task up to this many elements.
BUNDLE: Final = 2**14
# Means and ranges are stored for this many rows per batch, in 8 MiB. A tensor of more rows recomputes them in each
# phase, for RECOMPUTED_ROWS per task.
STORED_ROWS: Final = 2**19
RECOMPUTED_ROWS: Final = 2**13
# The gate of a tensor of more rows than this is divided into tasks.
GATE_ROWS: Final = 2**14
# Elements per batch, which bounds the number of tasks.
BATCH_ELEMENTS: Final = 2**28


class Batch(NamedTuple):
    """Consecutive tensors of a plan that are updated together, and their tasks.

    The arrays `first_row`, `first_partial` and `first_speculative` have one entry for each tensor, as in
    `tables.TENSOR`.
    """

    start: int  # index of the first tensor in the plan, and the end
    stop: int
    size: int  # elements of all tensors
    tasks: np.ndarray  # sorted by phase, then tensor, then start; tasks of WHOLE come last
    pending: np.ndarray  # number of tasks for each tensor and phase
    first_row: np.ndarray
    first_partial: np.ndarray
    first_speculative: np.ndarray
    stored_rows: int  # rows whose means and ranges are stored
    partial_rows: int  # rows longer than a block
    speculative: int  # tasks that have speculative sums
    block: int
    recomputed_rows: int  # rows of a task whose means and ranges are not stored, at most


def batches(layouts: Sequence[Layout]) -> Iterator[Batch]:
    """Yield batches of consecutive tensors, so that the workspace of each is bounded."""
    start = rows = elements = 0
    for index, layout in enumerate(layouts):
        stored = _stored_rows(layout)
        if index > start and (rows + stored > STORED_ROWS or elements + layout.size > BATCH_ELEMENTS):
            yield _batch(layouts, start, index)
            start, rows, elements = index, 0, 0
        rows, elements = rows + stored, elements + layout.size
    if len(layouts) > start:
        yield _batch(layouts, start, len(layouts))


def _batch(layouts: Sequence[Layout], start: int, stop: int) -> Batch:
    layouts = layouts[start:stop]
    stored = np.asarray([_stored_rows(layout) for layout in layouts])
    partial = np.asarray([layout.rows if layout.length > BLOCK else 0 for layout in layouts])
    speculative = np.asarray([n * -(-layout.length // BLOCK) for n, layout in zip(partial, layouts, strict=True)])
    phases = [_phases(layout) if layout.size > BLOCK else {} for layout in layouts]
    return Batch(
        start=start,
        stop=stop,
        size=sum(layout.size for layout in layouts),
        tasks=np.concatenate([*_tasks_of_large(phases), _tasks_of_small(layouts)]),
        pending=_pending(phases),
        first_row=np.where(stored > 0, _offsets(stored), -1),
        first_partial=np.where(partial > 0, _offsets(partial), -1),
        first_speculative=int(partial.sum()) * tables.PARTIAL_SIZE + _offsets(speculative) * tables.SPECULATIVE_SIZE,
        stored_rows=int(stored.sum()),
        partial_rows=int(partial.sum()),
        speculative=int(speculative.sum()),
        block=BLOCK,
        recomputed_rows=0 if stored.all() else RECOMPUTED_ROWS,
    )


def into_queues(tasks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide tasks, sorted by phase and tensor, into one queue for each of `count` threads.

    Return the tasks, sorted by queue and phase, and the array `queues` of `tables`. A queue has the same part of a
    tensor in every phase, because that part of the gradient may still be in the cache of its thread.
    """
    tensors, phases = tasks["tensor"], tasks["phase"]
    firsts = np.flatnonzero(np.diff(phases, prepend=-1) | np.diff(tensors, prepend=-1))
    counts = np.diff(firsts, append=len(tasks))
    part = (np.arange(len(tasks)) - np.repeat(firsts, counts)) * count // np.repeat(counts, counts)
    # The tensor is added so that tensors of few tasks do not all begin with the first queue.
    slot = (part + tensors) % count * (tables.QUEUE_SIZE // 2) + phases
    ends = np.cumsum(np.bincount(slot, minlength=count * (tables.QUEUE_SIZE // 2)))
    return tasks[np.argsort(slot, kind="stable")], np.stack([np.append(0, ends[:-1]), ends], axis=1).ravel()


def _stored_rows(layout: Layout) -> int:
    """Return for how many rows the means and ranges are stored: for all or for none."""
    return layout.rows if layout.rows <= STORED_ROWS or layout.length > BLOCK else 0


def _offsets(counts: np.ndarray) -> np.ndarray:
    """Return the sum of the counts before each."""
    offsets: np.ndarray = np.cumsum(counts) - counts
    return offsets


def _phases(layout: Layout) -> dict[int, np.ndarray]:
    """Return the tasks of each phase of a large tensor, as pairs of start and stop."""
    blocks = _blocks(layout)
    phases = {tables.MEASURE: blocks}
    if layout.length > BLOCK and layout.centered:
        phases[tables.FOLD] = blocks
    if layout.gated and layout.rows > GATE_ROWS:
        rows = GATE_ROWS if _stored_rows(layout) else RECOMPUTED_ROWS
        phases[tables.RANGES] = phases[tables.DEVIATIONS] = _intervals(layout.rows, rows)
    return phases | {tables.UPDATE: blocks}


def _blocks(layout: Layout) -> np.ndarray:
    """Return the blocks of a tensor: whole rows, or parts of one row if a row is longer than `BLOCK`."""
    if layout.length > BLOCK:
        in_row = _intervals(layout.length, BLOCK)
        return np.concatenate([in_row + row * layout.length for row in range(layout.rows)])
    rows = BLOCK // layout.length
    return _intervals(layout.size, (rows if _stored_rows(layout) else min(rows, RECOMPUTED_ROWS)) * layout.length)


def _intervals(length: int, step: int) -> np.ndarray:
    """Return the range from 0 to `length` in pieces of `step`, as pairs of start and stop."""
    starts = np.arange(0, length, step)
    return np.stack([starts, np.minimum(starts + step, length)], axis=1)


def _pending(phases: Sequence[dict[int, np.ndarray]]) -> np.ndarray:
    """Return the number of tasks for each tensor and phase."""
    pending = np.zeros((len(phases), tables.PHASES), np.int64)
    for index, tasks in enumerate(phases):
        for phase, pairs in tasks.items():
            pending[index, phase] = len(pairs)
    return pending


def _tasks_of_large(phases: Sequence[dict[int, np.ndarray]]) -> Iterator[np.ndarray]:
    """Yield the tasks of each phase of each large tensor."""
    for phase in range(tables.PHASES):
        for index, tasks in enumerate(phases):
            if phase in tasks:
                yield _tasks(index, phase, tasks[phase])


def _tasks_of_small(layouts: Sequence[Layout]) -> np.ndarray:
    """Return the tasks of WHOLE, each for one small tensor or several consecutive ones."""
    pairs: list[tuple[int, int]] = []
    elements = 0
    for index, layout in enumerate(layouts):
        if layout.size > BLOCK:
            continue
        if pairs and pairs[-1][1] == index and elements + layout.size <= BUNDLE:
            pairs[-1] = pairs[-1][0], index + 1
            elements += layout.size
        else:
            pairs.append((index, index + 1))
            elements = layout.size
    return _tasks(0, tables.WHOLE, np.asarray(pairs, np.int64).reshape(-1, 2))


def _tasks(tensor: int, phase: int, pairs: np.ndarray) -> np.ndarray:
    tasks = np.empty(len(pairs), tables.TASK)
    tasks["tensor"], tasks["phase"] = tensor, phase
    tasks["start"], tasks["stop"] = pairs[:, 0], pairs[:, 1]
    return tasks
