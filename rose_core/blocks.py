"""A step in blocks: the three phases in their order, over a parameter of any size in temporaries of a fixed one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from rose_core.advance import advance, advance_by_sign
from rose_core.decay import apply_decay
from rose_core.gate import Gate, denominators, gate
from rose_core.hyperparameters import Hyperparameters
from rose_core.namespace import Array, array_namespace, block_elements, device, dtype_name, keep_freed_memory, quiet
from rose_core.partition import Block, partition
from rose_core.rounding import ComputeDtype, to_compute, to_storage
from rose_core.statistics import center, mean_and_range, slice_sums

__all__ = ["NoiseSource", "Step", "of_all_slices", "updated_blocks"]

NoiseSource = Callable[[int, int], Any]
"""Returns the noise words from `start` to `stop` of the flattened parameter, of which one range follows another."""


def updated_blocks(
    param: Array,
    grad: Array,
    options: Hyperparameters,
    *,
    factor: float,
    compute: ComputeDtype,
    noise: NoiseSource | None,
    size: int | None = None,
) -> Iterator[tuple[tuple[slice, ...], Any]]:
    """Return, block by block, an index of the parameter and the values there after a step that is checked already.

    Each block may be written before the next one is asked for, unless `grad` shares memory with `param`. `size`
    is how many elements a block has at most, and for how many slices at most the statistics are kept.
    """
    if 0 in param.shape:  # ROSE-1.4
        yield (slice(None),) * param.ndim, array_namespace(param).zeros_like(param)
        return
    size = block_elements(param) if size is None else size
    groups = partition(param.shape, size)
    if len(groups) > 1:
        keep_freed_memory(param)
    step = Step(param, grad, options, factor, compute, noise)
    # What is kept of each slice, or computed again for each block, if it is too much.
    runs = [groups] if groups[-1][-1].slices.stop <= size else [[group] for group in groups]
    measured: Iterable[tuple[Any, Any]] = _Again(lambda: map(step.measured, runs))
    if len(runs) == 1:
        measured = list(measured)
    through = step.gate(measured)
    for run, (mean, range_) in zip(runs, measured, strict=True):
        denominator = step.denominators(range_, through)
        first = run[0][0].slices.start
        for block in chain.from_iterable(run):
            rows = slice(block.slices.start - first, block.slices.stop - first)
            yield block.index, step.updated(block, _rows(mean, rows), _rows(denominator, rows))


class _Again:
    """What is computed again whenever it is iterated over, since it is too much to be kept."""

    def __init__(self, compute: Callable[[], Iterator[Any]]) -> None:
        self._compute = compute

    def __iter__(self) -> Iterator[Any]:
        return self._compute()


class Step(NamedTuple):
    """The phases of a step, each on one block or on a run of groups of blocks."""

    param: Array
    grad: Array
    options: Hyperparameters
    factor: float
    compute: ComputeDtype
    noise: NoiseSource | None

    @quiet
    def measured(self, run: Sequence[Sequence[Block]]) -> tuple[Any, Any]:
        """Return the mean and the range of each slice, None where it has none."""
        if self.param.ndim == 0:
            return None, None
        low, high, *folds = of_all_slices(run, self._sums)
        return mean_and_range((low, high), tuple(folds), self.param.shape, self.compute)

    @quiet
    def gate(self, measured: Iterable[tuple[Any, Any]]) -> Gate | None:
        """Return the gate over all slices, if there is one."""
        ranges = _Again(lambda: (range_ for _, range_ in measured))
        return gate(ranges, self.param.shape, stabilize=self.options.stabilize, compute=self.compute)

    @quiet
    def denominators(self, range_: Array | None, through: Gate | None) -> Any:
        """Return the denominator of each slice, None at rank 0."""
        return None if range_ is None else denominators(range_, through, self.compute)

    @quiet
    def updated(self, block: Block, mean: Array | None, denominator: Array | None) -> Any:
        """Return the new values of a block."""
        xp, part = array_namespace(self.param), self.param[block.index]
        x = apply_decay(to_compute(part, self.compute), self.factor, self.compute)
        if denominator is None:
            x = advance_by_sign(x, self.gradient(block), lr=self.options.lr, compute=self.compute)
        else:
            g = center(self.gradient(block), mean, self.compute)
            x = advance(x, g, denominator, lr=self.options.lr, compute=self.compute)
        words = None if self.noise is None else xp.reshape(self.noise(block.start, block.stop), part.shape)
        return xp.reshape(to_storage(x, dtype_name(part), words), part.shape)

    def gradient(self, block: Block) -> Any:
        """Return a block of the gradient in the operation dtype."""
        g = to_compute(self.grad[block.index], self.compute)
        return -g if self.options.maximize else g  # ROSE-1.3

    def _sums(self, group: Sequence[Block]) -> list[Any]:
        """Return the extrema of each slice and the folds of its sum."""
        parts: Iterable[Array] = _Again(lambda: map(self.gradient, group))
        if len(group) == 1:
            parts = list(parts)
        ends, folds = slice_sums(parts, self.param.shape, centralize=self.options.centralize)
        return [*ends, *folds]


def of_all_slices(run: Sequence[Sequence[Block]], of_group: Callable[[Sequence[Block]], Sequence[Array]]) -> list[Any]:
    """Return what `of_group` returns of each group of a run, one row a slice, in arrays that are made once.

    What each block leaves behind would come to lie between its temporaries, so that their memory, in pieces, is
    not used again.
    """
    if len(run) == 1:
        return list(of_group(run[0]))
    first, last = run[0][0].slices.start, run[-1][0].slices.stop
    wholes: list[Any] = []
    for group in run:
        parts = of_group(group)
        wholes = wholes or [_empty((last - first, *part.shape[1:]), part) for part in parts]
        for whole, part in zip(wholes, parts, strict=True):
            whole[group[0].slices.start - first : group[0].slices.stop - first, ...] = part
    return wholes


def _empty(shape: tuple[int, ...], like: Array) -> Any:
    return array_namespace(like).empty(shape, dtype=like.dtype, device=device(like))


def _rows(x: Array | None, rows: slice) -> Any:
    return x if x is None or x.shape[0] == rows.stop - rows.start else x[rows, ...]
