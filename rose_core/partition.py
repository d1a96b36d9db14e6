"""Which blocks arrays are worked on in: contiguous ranges of their elements in C order."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product

__all__ = ["Block", "number_of_slices", "partition"]


@dataclass(frozen=True)
class Block:
    """One block of an array, or several arrays of one shape.

    Attributes
    ----------
    index : what selects it from an array, as a view of the same rank.
    slices : the slices (ROSE-1.2) that it is or is part of, those of all arrays being numbered.
    start, stop : its range of the flattened array, or of each of them.
    arrays : the array that it is of, or those of which it is all.
    """

    index: tuple[slice, ...]
    slices: slice
    start: int
    stop: int
    arrays: slice


def number_of_slices(shape: Sequence[int]) -> int:
    """Return how many slices an array has; a scalar counts as one."""
    return shape[0] if len(shape) > 1 else 1


def partition(shape: Sequence[int], size: int, arrays: int = 1) -> tuple[tuple[Block, ...], ...]:
    """Return the blocks of so many arrays of one shape, of at most `size` elements each, in C order.

    They are grouped by slices: a group is one block of whole slices, or all the blocks of one slice.
    """
    return _partition(tuple(map(int, shape)), size, arrays)  # a tracer's symbols, too, are numbers then


@functools.lru_cache(maxsize=256)  # the shapes of a model come again at every step
def _partition(shape: tuple[int, ...], size: int, arrays: int) -> tuple[tuple[Block, ...], ...]:
    blocks = _blocks_of_arrays(shape, size, arrays)
    return tuple(tuple(group) for _, group in groupby(blocks, key=lambda block: block.slices.start))


def _blocks_of_arrays(shape: tuple[int, ...], size: int, arrays: int) -> Iterator[Block]:
    """Take as many arrays to a block as fit in, or cut each into blocks."""
    elements, slices = math.prod(shape), number_of_slices(shape)
    pieces = -(-arrays // max(1, size // elements))
    at_once = -(-arrays // pieces)
    blocks = list(_blocks(shape, size))
    for first in range(0, arrays, at_once):
        last = min(first + at_once, arrays)
        for block in blocks:
            own = slice(first * slices + block.slices.start, (last - 1) * slices + block.slices.stop)
            yield replace(block, slices=own, arrays=slice(first, last))


def _blocks(shape: tuple[int, ...], size: int) -> Iterator[Block]:
    """Cut one axis of an array into ranges, those after it being taken whole, those before it one by one."""
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
            yield Block(index[: len(shape)], slices, start, stop, slice(0, 1))
