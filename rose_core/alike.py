"""Arrays that differ in nothing but their values, read as one array of all their slices: many take the calls of one."""

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from rose_core.hyperparameters import Hyperparameters
from rose_core.namespace import Array, array_namespace, kind
from rose_core.partition import Block
from rose_core.rounding import ComputeDtype

__all__ = ["Alike", "alike"]


class _Update(Protocol):
    """One parameter's part of a step, checked and ready to be done."""

    @property
    def param(self) -> Any: ...
    @property
    def grad(self) -> Any: ...
    @property
    def options(self) -> Hyperparameters: ...
    @property
    def factor(self) -> float: ...
    @property
    def compute(self) -> ComputeDtype: ...
    @property
    def noise(self) -> Any: ...


U = TypeVar("U", bound=_Update)


def alike(updates: Sequence[U]) -> list[list[U]]:
    """Return updates in lists of those that can be done together, for only values and noise differ.

    Their parameters lie apart.
    """
    groups: dict[Hashable, list[U]] = {}
    for update in updates:
        arrays = update.param.shape, kind(update.param), kind(update.grad)
        rule = id(update.options), update.factor, update.compute, update.noise is None
        groups.setdefault((arrays, rule), []).append(update)
    return list(groups.values())


class Alike(NamedTuple):
    """One array or more of one shape, dtype, library and device.

    They are read as one of rank 2 or more, with a row for each of their slices (ROSE-1.2); a scalar has one row, too.
    """

    arrays: Sequence[Array]

    @property
    def one(self) -> Array:
        """One of the arrays, which stands for all."""
        return self.arrays[0]

    @property
    def slice_elements(self) -> int:
        """How many elements a slice has."""
        shape = self.one.shape
        return math.prod(shape[1:] if len(shape) > 1 else shape)

    @property
    def within_slices(self) -> tuple[int, ...]:
        """The axes that are reduced to one value a slice."""
        return tuple(range(1, max(2, self.one.ndim)))

    def rows(self, block: Block) -> Any:
        """Return a block, a view where it is of one array."""
        first, last = block.arrays.start, block.arrays.stop
        if last - first == 1:
            part = self.arrays[first][block.index]
            return part if part.ndim > 1 else array_namespace(part).reshape(part, (1, -1))
        own, xp = self.arrays[first:last], array_namespace(self.one)
        return xp.concat(own, axis=0) if self.one.ndim > 1 else xp.reshape(xp.stack(own, axis=0), (last - first, -1))

    def split(self, block: Block, rows: Any) -> Iterator[tuple[Any, tuple[slice, ...], Any]]:
        """Return each array that a block is of, the index of the block in it, and its part of the rows."""
        xp, own = array_namespace(rows), self.arrays[block.arrays]
        if len(own) > 1:
            for array, part in zip(own, xp.unstack(xp.reshape(rows, (-1, *self.one.shape))), strict=True):
                yield array, block.index, part
        else:
            yield own[0], block.index, rows if self.one.ndim > 1 else xp.reshape(rows, (-1,) * self.one.ndim)
