"""Which blocks an array is worked on in: contiguous ranges of its elements in C order."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product

__all__ = ["Block", "partition"]


@dataclass(frozen=True)
class Block:
    """One block of an array.

    Attributes
    ----------
    index : what selects it, as a view of the same rank.
    slices : the slices (ROSE-1.2) that it is or is part of.
    start, stop : its range of the flattened array.
    """

    index: tuple[slice, ...]
    slices: slice
    start: int
    stop: int


def partition(shape: Sequence[int], size: int) -> tuple[tuple[Block, ...], ...]:
    """Return the blocks of an array, of at most `size` elements each, in C order and grouped by slices.

    A group is one block of whole slices, or all the blocks of one slice.
    """
    return _partition(tuple(map(int, shape)), size)  # a tracer's symbols, too, are numbers then


@functools.lru_cache(maxsize=256)  # the shapes of a model come again at every step
def _partition(shape: tuple[int, ...], size: int) -> tuple[tuple[Block, ...], ...]:
    return tuple(tuple(group) for _, group in groupby(_blocks(shape, size), key=lambda block: block.slices.start))


def _blocks(shape: tuple[int, ...], size: int) -> Iterator[Block]:
    """Cut one axis into ranges, those after it being taken whole, those before it one by one."""
    axis, inner = len(shape) - 1, 1
    while axis > 0 and inner * shape[axis] <= size:
        inner *= shape[axis]
        axis -= 1
    length = shape[axis] if shape else 1
    pieces = -(-length // max(1, size // inner))
    step = -(-length // pieces)  # blocks of about one length
    for number, outer in enumerate(product(*map(range, shape[: max(axis, 0)]))):
        for first in range(0, length, step):
            last = min(first + step, length)
            index = (*(slice(i, i + 1) for i in outer), slice(first, last), *[slice(None)] * (len(shape) - axis - 1))
            slices = index[0] if len(shape) > 1 else slice(0, 1)
            start, stop = ((number * length + end) * inner for end in (first, last))
            yield Block(index[: len(shape)], slices, start, stop)
