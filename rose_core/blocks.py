"""A step in blocks: the three phases in their order, over parameters of any size in temporaries of a fixed one."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from rose_core.advance import advance, advance_by_sign
from rose_core.alike import Alike
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
    without_history,
)
from rose_core.partition import Block, number_of_slices, partition
from rose_core.rounding import ComputeDtype, to_compute, to_storage
from rose_core.scratch import Scratch
from rose_core.statistics import center, measure

__all__ = ["NoiseSource", "Step", "Updated", "updated_blocks"]

# Of more slices on a CPU the statistics would take more than 4 MiB.
_KEPT_SLICES: Final = 2**18

# Parameters that are alike go through the phases together up to so many elements, or those of a block: what a phase
# costs besides its work is little then, and the gradients may still be in a cache when they are read again.
_TOGETHER: Final = 2**22

# Nor are they more than so many, for there are some views of each.
_MOST_ALIKE: Final = 2**12

# What is found of a group of blocks is kept in small arrays until the end of a run: no more than a few MiB of them.
_MOST_GROUPS: Final = 2**10

NoiseSource = Callable[[slice, int, int], Any]
"""Returns 16-bit words in int32 for a range of some flattened parameters, in rows; of each a range follows another."""

Updated = tuple[Any, tuple[slice, ...], Any]
"""A parameter, an index of it, and the values there after a step."""


def updated_blocks(
    params: Sequence[Array],
    grads: Sequence[Array],
    options: Hyperparameters,
    *,
    factor: float,
    compute: ComputeDtype,
    noise: NoiseSource | None = None,
    size: int | None = None,
) -> Iterator[Updated]:
    """Return, block by block, what a step that is checked already makes of parameters.

    The parameters are alike but for their values, and so are their gradients. Of each block there is a parameter, an
    index of it and the values there, which are valid until the next ones are asked for. They have the dtype of the
    parameter, or one that writing them rounds to it, which saves a pass. They may be written before the next ones are
    asked for, unless a gradient shares memory with a parameter, or two parameters do.

    `size` is how many elements a block has at most. The slices are measured a fourth as many at a time, or as many as
    one block has. Up to twice as many, as many where these are beyond `_KEPT_SLICES`, their statistics are kept;
    of more slices each phase measures them anew.
    """
    shape = params[0].shape
    if 0 in shape:  # ROSE-1.4
        for param in params:
            yield param, (slice(None),) * len(shape), array_namespace(param).zeros_like(param)
        return
    params, grads = [list(map(without_history, arrays)) for arrays in (params, grads)]
    size = block_elements(params[0]) if size is None else size
    elements = math.prod(shape)
    at_once = max(1, min(size // 4 // number_of_slices(shape), max(size, _TOGETHER) // elements, _MOST_ALIKE))
    scratches = [Scratch(min(size, len(params) * elements)) for _ in range(2)]
    for first in range(0, len(params), at_once):
        own = slice(first, first + at_once)
        gradient = Gradient(Alike(grads[own]), compute, options.maximize, scratches[1])
        own_noise = None if noise is None else functools.partial(_noise_from, noise, first)
        yield from _updated(Step(Alike(params[own]), gradient, options, factor, own_noise, scratches[0]), size)


def _noise_from(noise: NoiseSource, first: int, arrays: slice, start: int, stop: int) -> Any:
    """Return the noise of some of those parameters that begin with one of all."""
    return noise(slice(first + arrays.start, first + arrays.stop), start, stop)


def _updated(step: "Step", size: int) -> Iterator[Updated]:
    """Return what a step makes of its parameters; more than one of them have the slices of one run at most."""
    param = step.param.one
    groups = partition(param.shape, size, len(step.param.arrays))
    if len(groups) > 1:
        keep_freed_memory(param)
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
            yield from step.updated(block, _rows(mean, rows), _rows(denominator, rows))


class _Again:
    """What is computed again whenever it is iterated over, since it is too much to be kept."""

    def __init__(self, compute: Callable[[], Iterator[Any]]) -> None:
        self._compute = compute

    def __iter__(self) -> Iterator[Any]:
        return self._compute()


@dataclass(frozen=True)
class Step:
    """The phases of a step, each on one block or on a run of groups of blocks.

    It is that of a parameter, or of some that are alike.
    """

    param: Alike
    gradient: Gradient
    options: Hyperparameters
    factor: float
    noise: NoiseSource | None = None
    scratch: Scratch | None = None

    @property
    def compute(self) -> ComputeDtype:
        """The compute dtype, which the gradient knows."""
        return self.gradient.compute

    @functools.cached_property
    def _add_scaled_quotient(self) -> AddScaledQuotient:
        return scaled_quotient_adder(self.param.one, self.gradient.stored.one)

    @functools.cached_property
    def _narrows_in_writing(self) -> bool:
        return narrows_in_writing(self.param.one)

    @quiet
    def measured(self, run: Sequence[Sequence[Block]]) -> tuple[Any, Any]:
        """Return the mean and the range of each slice, None where it has none."""
        if self.param.one.ndim == 0:
            return None, None
        return measure(self.gradient, run, centralize=self.options.centralize)

    @quiet
    def gate(self, measured: Iterable[tuple[Any, Any]]) -> Gate | None:
        """Return the gate over all slices of each parameter, if there is one."""
        ranges, shape = _Again(lambda: (range_ for _, range_ in measured)), self.param.one.shape
        gradients = len(self.gradient.stored.arrays)
        return gate(ranges, shape, stabilize=self.options.stabilize, compute=self.compute, gradients=gradients)

    @quiet
    def denominators(self, range_: Array | None, through: Gate | None) -> Any:
        """Return the denominator of each slice, None at rank 0."""
        return None if range_ is None else denominators(range_, through, self.compute)

    def updated(self, block: Block, mean: Array | None, denominator: Array | None) -> Iterator[Updated]:
        """Return what the step makes of a block, parameter by parameter."""
        return self.param.split(block, self._updated_rows(block, mean, denominator))

    @quiet
    def _updated_rows(self, block: Block, mean: Array | None, denominator: Array | None) -> Any:
        """Return the new values of a block, which to write rounds them if they are not rounded."""
        compute, part = self.gradient.compute, self.param.rows(block)
        x = apply_decay(to_compute(part, compute, copy=True, scratch=self.scratch), self.factor, compute)
        g = self.gradient.values(block, copy=True)
        if denominator is None:
            x = advance_by_sign(x, g, lr=self.options.lr, compute=compute)
        else:
            g = center(g, mean, compute)
            x = advance(x, g, denominator, lr=self.options.lr, compute=compute, add=self._add_scaled_quotient)
        if self._narrows_in_writing and self.noise is None:
            return x
        return to_storage(x, dtype_name(part), self._words(block, part))

    def _words(self, block: Block, part: Array) -> Any:
        """Return the noise words of a block in its shape, None without noise."""
        if self.noise is None:
            return None
        return array_namespace(part).reshape(self.noise(block.arrays, block.start, block.stop), part.shape)


def _runs(groups: Iterable[Sequence[Block]], slices: int) -> list[list[Sequence[Block]]]:
    """Return the groups in runs of at most so many slices and `_MOST_GROUPS`, or of one group."""
    runs: list[list[Sequence[Block]]] = []
    for group in groups:
        run = runs[-1] if runs else []
        if run and len(run) < _MOST_GROUPS and group[-1].slices.stop - run[0][0].slices.start <= slices:
            run.append(group)
        else:
            runs.append([group])
    return runs


def _rows(x: Array | None, rows: slice) -> Any:
    return x if x is None or x.shape[0] == rows.stop - rows.start else x[rows, ...]
