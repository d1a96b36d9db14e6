"""Which blocks an array is worked on in: contiguous ranges of its elements in C order."""

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
    start, stop : its range of the flattened array.
    """

    index: tuple[slice, ...]
    start: int
    stop: int


def partition(shape: Sequence[int], size: int) -> list[list[Block]]:
    """Return the blocks of an array, at most `size` elements each, in C order and grouped by slices (ROSE-1.2).

    A group is one block of whole slices, or all the blocks of one slice.
    """
    blocks = _blocks(shape, size)
    if len(shape) < 2:
        return [list(blocks)]
    return [list(group) for _, group in groupby(blocks, key=lambda block: block.index[0].start)]


def _blocks(shape: Sequence[int], size: int) -> Iterator[Block]:
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
            yield Block(index[: len(shape)], (number * length + first) * inner, (number * length + last) * inner)
