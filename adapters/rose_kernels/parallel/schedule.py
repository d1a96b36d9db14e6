"""The tickets of a batch, which are blocks of rows, phase by phase; and the queues that threads take them from."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from rose_kernels.layout import Layout
from rose_kernels.parallel import tables

__all__ = ["Wave", "in_queues", "waves"]

# A ticket of so many elements is long beside the taking of it, and what it reads twice stays in the cache.
BLOCK: Final = 2**16
# Whole tensors are put together up to so many elements.
BUNDLE: Final = 2**14
# Of so many rows the means and ranges are kept, 8 MiB; of tensors that have more each phase measures anew.
KEPT_ROWS: Final = 2**19
ROWS_NOT_KEPT: Final = 2**13
# The sums of the gate over more rows than this are divide among threads.
GATE_ROWS: Final = 2**14
# The table of tickets stays small.
WAVE_ELEMENTS: Final = 2**28


class Wave(NamedTuple):
    """Tensors that are updated together, from one to before another, with their tickets."""

    start: int
    stop: int
    size: int  # elements of all
    tickets: np.ndarray  # by phase, tensor and place
    pending: np.ndarray  # of each tensor and phase, its tickets
    first_row: np.ndarray
    first_part: np.ndarray
    first_draft: np.ndarray
    kept_rows: int
    parts: int
    drafts: int
    block: int
    rows_not_kept: int


def waves(layouts: Sequence[Layout]) -> Iterator[Wave]:
    """Divide a batch into waves whose working memory is bounded, whatever the tensors."""
    start = rows = elements = 0
    for number, layout in enumerate(layouts):
        kept = _kept_rows(layout)
        if number > start and (rows + kept > KEPT_ROWS or elements + layout.size > WAVE_ELEMENTS):
            yield _wave(layouts, start, number)
            start, rows, elements = number, 0, 0
        rows, elements = rows + kept, elements + layout.size
    if len(layouts) > start:
        yield _wave(layouts, start, len(layouts))


def _wave(layouts: Sequence[Layout], start: int, stop: int) -> Wave:
    own = layouts[start:stop]
    kept = np.asarray([_kept_rows(layout) for layout in own])
    parts = np.asarray([layout.rows if layout.length > BLOCK else 0 for layout in own])
    drafts = np.asarray([n * -(-layout.length // BLOCK) for n, layout in zip(parts, own, strict=True)])
    phases = [_phases(layout) if layout.size > BLOCK else {} for layout in own]
    pending = np.zeros((len(own), tables.PHASES), np.int64)
    for t, tickets in enumerate(phases):
        for phase, pairs in tickets.items():
            pending[t, phase] = len(pairs)
    return Wave(
        start=start,
        stop=stop,
        size=sum(layout.size for layout in own),
        tickets=np.concatenate([*_large(phases), *_bundles(own)]),
        pending=pending,
        first_row=np.where(kept > 0, np.cumsum(kept) - kept, -1),
        first_part=np.where(parts > 0, np.cumsum(parts) - parts, -1),
        first_draft=int(parts.sum()) * tables.PART + (np.cumsum(drafts) - drafts) * tables.DRAFT,
        kept_rows=int(kept.sum()),
        parts=int(parts.sum()),
        drafts=int(drafts.sum()),
        block=BLOCK,
        rows_not_kept=0 if kept.all() else ROWS_NOT_KEPT,
    )


def in_queues(tickets: np.ndarray, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide the tickets of a wave, or some of them, among lanes, one for each thread.

    A lane has the same part of a tensor in every phase: what a thread has read of a gradient may be in its cache still.
    Returned are the tickets, which are given by phase and tensor, those of a queue side by side, and the queues, as
    `tables.LANE` tells.
    """
    tensors, phases = tickets["tensor"], tickets["phase"]
    firsts = np.flatnonzero(np.diff(phases, prepend=-1) | np.diff(tensors, prepend=-1))
    counts = np.diff(firsts, append=len(tickets))
    part = (np.arange(len(tickets)) - np.repeat(firsts, counts)) * lanes // np.repeat(counts, counts)
    # Tensors of few tickets do not all begin with the first lane.
    queue = (part + tensors) % lanes * (tables.LANE // 2) + phases
    ends = np.cumsum(np.bincount(queue, minlength=lanes * (tables.LANE // 2)))
    return tickets[np.argsort(queue, kind="stable")], np.stack([np.append(0, ends[:-1]), ends], axis=1).ravel()


def _kept_rows(layout: Layout) -> int:
    """Return of how many rows the means and ranges are kept: of all, or of none; of long ones always."""
    return layout.rows if layout.rows <= KEPT_ROWS or layout.length > BLOCK else 0


def _phases(layout: Layout) -> dict[int, np.ndarray]:
    """Return the tickets of each phase of a large tensor, in the order of the phases, as pairs of start and stop."""
    blocks = _blocks(layout)
    phases = {tables.EXTREMA: blocks}
    if layout.length > BLOCK and layout.centered:
        phases[tables.FOLD] = blocks
    if layout.gated and layout.rows > GATE_ROWS:
        rows = GATE_ROWS if _kept_rows(layout) else ROWS_NOT_KEPT
        phases[tables.RANGES] = phases[tables.DEVIATIONS] = _cut(layout.rows, rows)
    return phases | {tables.UPDATE: blocks}


def _blocks(layout: Layout) -> np.ndarray:
    if layout.length > BLOCK:
        in_row = _cut(layout.length, BLOCK)
        return np.concatenate([in_row + row * layout.length for row in range(layout.rows)])
    rows = BLOCK // layout.length
    return _cut(layout.size, (rows if _kept_rows(layout) else min(rows, ROWS_NOT_KEPT)) * layout.length)


def _cut(length: int, step: int) -> np.ndarray:
    starts = np.arange(0, length, step)
    return np.stack([starts, np.minimum(starts + step, length)], axis=1)


def _large(phases: Sequence[dict[int, np.ndarray]]) -> Iterator[np.ndarray]:
    """Yield the tickets of each phase of each large tensor."""
    for phase in range(tables.PHASES):
        for t, tickets in enumerate(phases):
            if phase in tickets:
                yield _tickets(t, phase, tickets[phase])


def _bundles(layouts: Sequence[Layout]) -> Iterator[np.ndarray]:
    """Bundle small tensors that follow each other."""
    pairs: list[tuple[int, int]] = []
    elements = 0
    for t, layout in enumerate(layouts):
        if layout.size > BLOCK:
            continue
        if pairs and pairs[-1][1] == t and elements + layout.size <= BUNDLE:
            pairs[-1] = pairs[-1][0], t + 1
            elements += layout.size
        else:
            pairs.append((t, t + 1))
            elements = layout.size
    yield _tickets(0, tables.WHOLE, np.asarray(pairs, np.int64).reshape(-1, 2))


def _tickets(tensor: int, phase: int, pairs: np.ndarray) -> np.ndarray:
    tickets = np.empty(len(pairs), tables.TICKET)
    tickets["tensor"], tickets["phase"] = tensor, phase
    tickets["start"], tickets["stop"] = pairs[:, 0], pairs[:, 1]
    return tickets
