"""A step in blocks: the three phases in their order, over a parameter of any size in temporaries of a fixed one."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from rose_core.advance import advance, advance_by_sign
from rose_core.decay import apply_decay
from rose_core.gate import Gate, denominators, gate
from rose_core.gradient import Gradient
from rose_core.hyperparameters import Hyperparameters
from rose_core.namespace import (
    AddScaledQuotient,
    Array,
    array_namespace,
    as_array_beside,
    block_elements,
    dtype_name,
    keep_freed_memory,
    narrows_in_writing,
    quiet,
    scaled_quotient_adder,
)
from rose_core.partition import Block, partition
from rose_core.rounding import ComputeDtype, to_compute, to_storage
from rose_core.statistics import center, measure

__all__ = ["NoiseSource", "Step", "updated_blocks"]

# Of more slices on a CPU the statistics would take more than 4 MiB.
_KEPT_SLICES: Final = 2**18

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

    The values have the dtype of the parameter, or one that writing them rounds to it, which saves a pass. Each
    block may be written before the next one is asked for, unless `grad` shares memory with `param`.

    `size` is how many elements a block has at most. The slices are measured a fourth as many at a time, or as many as
    one block has. Up to twice as many, as many where these are beyond `_KEPT_SLICES`, their statistics are kept;
    of more slices each phase measures them anew.
    """
    if 0 in param.shape:  # ROSE-1.4
        yield (slice(None),) * param.ndim, array_namespace(param).zeros_like(param)
        return
    size = block_elements(param) if size is None else size
    groups = partition(param.shape, size)
    if len(groups) > 1:
        keep_freed_memory(param)
    step = Step(param, Gradient(grad, compute, options.maximize), options, factor, noise)
    runs = _runs(groups, size // 4)
    measured: Iterable[tuple[Any, Any]] = _Again(lambda: map(step.measured, runs))
    if groups[-1][-1].slices.stop <= min(2 * size, max(size, _KEPT_SLICES)):
        measured = list(measured)
    through = step.gate(measured)
    for run, (light_mean, range_) in zip(runs, measured, strict=True):
        mean, denominator = (as_array_beside(x, param) for x in (light_mean, step.denominators(range_, through)))
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


@dataclass(frozen=True)
class Step:
    """The phases of a step, each on one block or on a run of groups of blocks."""

    param: Array
    gradient: Gradient
    options: Hyperparameters
    factor: float
    noise: NoiseSource | None

    @property
    def compute(self) -> ComputeDtype:
        """The compute dtype, which the gradient knows."""
        return self.gradient.compute

    @functools.cached_property
    def _add_scaled_quotient(self) -> AddScaledQuotient:
        return scaled_quotient_adder(self.param, self.gradient.stored)

    @quiet
    def measured(self, run: Sequence[Sequence[Block]]) -> tuple[Any, Any]:
        """Return the mean and the range of each slice, None where it has none."""
        if self.param.ndim == 0:
            return None, None
        return measure(self.gradient, run, centralize=self.options.centralize)

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
        """Return the new values of a block, which to write rounds them if they are not rounded."""
        compute, part = self.gradient.compute, self.param[block.index]
        x = apply_decay(to_compute(part, compute, copy=True), self.factor, compute)
        g = self.gradient.values(block, copy=True)
        if denominator is None:
            x = array_namespace(x).reshape(advance_by_sign(x, g, lr=self.options.lr, compute=compute), ())
        else:
            g = center(g, mean, compute)
            x = advance(x, g, denominator, lr=self.options.lr, compute=compute, add=self._add_scaled_quotient)
        if narrows_in_writing(x, part):
            return x
        words = self.noise and array_namespace(part).reshape(self.noise(block.start, block.stop), part.shape)
        return to_storage(x, dtype_name(part), words)


def _runs(groups: Iterable[Sequence[Block]], slices: int) -> list[list[Sequence[Block]]]:
    """Return the groups in runs of at most so many slices, or of one group."""
    runs: list[list[Sequence[Block]]] = []
    for group in groups:
        if runs and group[-1].slices.stop - runs[-1][0][0].slices.start <= slices:
            runs[-1].append(group)
        else:
            runs.append([group])
    return runs


def _rows(x: Array | None, rows: slice) -> Any:
    return x if x is None or x.shape[0] == rows.stop - rows.start else x[rows, ...]
