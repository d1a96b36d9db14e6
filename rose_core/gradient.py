"""Gradients as they are read, block by block: by the statistics of slices as they are stored, by the update widened."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rose_core.alike import Alike
from rose_core.namespace import (
    Array,
    array_namespace,
    as_array_beside,
    as_light_array,
    comparable,
    has_light_arrays,
    magnitude_words,
)
from rose_core.partition import Block
from rose_core.rounding import ComputeDtype, operation_dtype, to_compute
from rose_core.scratch import Scratch
from rose_core.summation import Extrema, Folds, extrema, fold_sums, joined_extrema, joined_folds, to_summand

__all__ = ["Gradient", "of_all_slices"]


class Gradient(NamedTuple):
    """A gradient, or some that are alike, and what it is rounded to.

    What its methods return of a run, consecutive groups of blocks, is one row a slice, in light arrays.
    """

    stored: Alike
    compute: ComputeDtype
    maximize: bool = False
    scratch: Scratch | None = None

    def values(self, block: Block, *, copy: bool = False) -> Any:
        """Return a block in the operation dtype, until the next one is asked for.

        `copy` says whether it must be one that may be written over.
        """
        return self.rounded(self.stored.rows(block), copy=copy, scratch=self.scratch)

    def summands(self, stored: Array) -> Any:
        """Return some of the gradient, as it is stored, in the dtype it is summed in, until the next is asked for."""
        return to_summand(self.rounded(stored, scratch=self.scratch), self.scratch)

    def magnitude_words(self, stored: Array) -> Any:
        """Return the magnitude words of some of the gradient, as it is stored, until the next are asked for."""
        return self.scratch.magnitude_words(stored) if self.scratch else magnitude_words(stored)

    def rounded(self, stored: Array, *, copy: bool = False, scratch: Scratch | None = None) -> Any:
        """Return some of the gradient, as it is stored, in the operation dtype, as `to_compute` does."""
        g = to_compute(stored, self.compute, copy=copy or self.maximize, scratch=scratch)
        if self.maximize:
            g *= -1.0  # ROSE-1.3
        return g

    def extrema(self, run: Sequence[Sequence[Block]]) -> Extrema:
        """Return the extrema of each slice (ROSE-4.1)."""

        def of_group(group: Sequence[Block]) -> Extrema:
            return joined_extrema(self.stored_extrema(self.stored.rows(block)) for block in group)

        low, high = of_all_slices(run, of_group)
        return self.rounded_extrema((low, high))

    def stored_extrema(self, stored: Array) -> Extrema:
        """Return the extrema of each slice of some of the gradient, as it is stored."""
        return extrema(comparable(stored, operation_dtype(self.compute)), self.stored.within_slices)

    def rounded_extrema(self, ends: Extrema) -> Extrema:
        """Return the extrema of slices from those of what is stored: rounding is monotonic."""
        low, high = (to_compute(end, self.compute) for end in ends)
        if has_light_arrays(self.stored.one):  # bfloat16 of torch had none before
            low, high = as_light_array(low), as_light_array(high)
        return (-high, -low) if self.maximize else (low, high)

    def folds(self, run: Sequence[Sequence[Block]], sigmas: Folds) -> Folds:
        """Return the folds of the sum of each slice; `sigmas` are those of the run."""
        axes, first = self.stored.within_slices, run[0][0].slices.start

        def of_group(group: Sequence[Block]) -> Folds:
            rows = slice(group[0].slices.start - first, group[0].slices.stop - first)
            own = tuple(as_array_beside(sigma[rows, ...], self.stored.one) for sigma in sigmas)
            blocks = (self.summands(self.stored.rows(block)) for block in group)
            return joined_folds(fold_sums(summands, own, axes, self.scratch) for summands in blocks)

        return tuple(of_all_slices(run, of_group))


def of_all_slices(
    run: Sequence[Sequence[Block]], of_group: Callable[[Sequence[Block]], Sequence[Array]]
) -> Sequence[Any]:
    """Return what `of_group` returns of each group of a run, joined, one row a slice."""
    parts = list(map(of_group, run))
    if len(run) == 1:
        return [as_light_array(part) for part in parts[0]]
    xp = array_namespace(parts[0][0])
    return [as_light_array(xp.concat(part, axis=0)) for part in zip(*parts, strict=True)]
