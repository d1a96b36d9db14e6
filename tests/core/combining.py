"""Other ways to reduce than the core's: in shuffled blocks, and over shards in lock-step (ROSE-7.4)."""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from rose_core.namespace import array_namespace
from rose_core.summation import Reductions

__all__ = ["ShuffledBlocks", "in_lock_step"]

ShardT = TypeVar("ShardT")
ResultT = TypeVar("ResultT")


class ShuffledBlocks(Reductions):
    """Reduces NumPy arrays in random blocks, by random means, and combines the blocks in random order."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def min(self, x: Any, axis: tuple[int, ...]) -> Any:
        return self._reduced(np.minimum, x, axis)

    def max(self, x: Any, axis: tuple[int, ...]) -> Any:
        return self._reduced(np.maximum, x, axis)

    def sum(self, x: Any, axis: tuple[int, ...]) -> Any:
        return self._reduced(np.add, x, axis)

    def _reduced(self, operation: np.ufunc, x: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
        kept = [i for i in range(x.ndim) if i not in axis]
        count = self.count(x, axis)
        rows = np.transpose(x, (*axis, *kept)).reshape(count, -1)[self._rng.permutation(count)]
        cuts = np.sort(self._rng.integers(0, count + 1, self._rng.integers(0, 8)))
        blocks = [self._block(operation, block) for block in np.split(rows, cuts) if len(block)]
        return functools.reduce(operation, blocks).reshape([1 if i in axis else n for i, n in enumerate(x.shape)])

    def _block(self, operation: np.ufunc, block: np.ndarray) -> np.ndarray:
        """Reduce as NumPy does, pairwise where it can, or one row after another."""
        return operation.reduce(block) if self._rng.random() < 0.5 else operation.accumulate(block)[-1]


class _NotCombinedYetError(Exception):
    """A shard has come to a reduction that the others have not reached."""

    def __init__(self, combine: Callable[[Sequence[Any]], Any], local: Any) -> None:
        self.combine, self.local = combine, local


class _ShardReductions(Reductions):
    """The reductions of one shard: the combined results that are there, then a stop at the next."""

    def __init__(self, combined: Iterator[Any]) -> None:
        self._combined = combined

    def count(self, x: Any, axis: tuple[int, ...]) -> Any:
        return self._over_shards(sum, super().count(x, axis))

    def min(self, x: Any, axis: tuple[int, ...]) -> Any:
        minimum = array_namespace(x).minimum
        return self._over_shards(functools.partial(functools.reduce, minimum), super().min(x, axis))

    def max(self, x: Any, axis: tuple[int, ...]) -> Any:
        maximum = array_namespace(x).maximum
        return self._over_shards(functools.partial(functools.reduce, maximum), super().max(x, axis))

    def sum(self, x: Any, axis: tuple[int, ...]) -> Any:
        return self._over_shards(functools.partial(functools.reduce, operator.add), super().sum(x, axis))

    def _over_shards(self, combine: Callable[[Sequence[Any]], Any], local: Any) -> Any:
        for result in self._combined:
            return result
        raise _NotCombinedYetError(combine, local)


def in_lock_step(run: Callable[[ShardT, Reductions], ResultT], shards: Sequence[ShardT]) -> list[ResultT]:
    """Run each shard with reductions over all of them, without threads.

    The core is pure, so a shard can be run again from its beginning: the k-th run gets the combined results
    of its first k reductions and stops at the next one, leaving its local result behind.
    """
    combined: list[Any] = []
    while True:
        outcomes = [_run_until_stopped(run, shard, combined) for shard in shards]
        stops = [outcome for outcome in outcomes if isinstance(outcome, _NotCombinedYetError)]
        if not stops:
            return outcomes
        assert len(stops) == len(shards), "one shard asks for a reduction that another does not"
        combined.append(stops[0].combine([stop.local for stop in stops]))


def _run_until_stopped(run: Callable[[ShardT, Reductions], Any], shard: ShardT, combined: Sequence[Any]) -> Any:
    try:
        return run(shard, _ShardReductions(iter(combined)))
    except _NotCombinedYetError as stop:
        return stop
