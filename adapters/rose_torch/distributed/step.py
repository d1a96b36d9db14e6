"""The step of a part of a parameter: the core's stages, each joined with those of the ranks that have the rest."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rose_core.blocks import NoiseSource, Step, Updated
from rose_core.gate import (
    Gate,
    by_gradient,
    deviation_folds,
    gate_of_moments,
    largest_deviation,
    range_extrema,
    range_folds,
)
from rose_core.namespace import Array, as_array_beside, block_elements, keep_freed_memory
from rose_core.noise import noise_at, noise_source
from rose_core.partition import Block, number_of_slices, partition
from rose_core.rounding import operation_dtype
from rose_core.statistics import mean_and_range
from rose_core.summation import Extrema, Folds, exact_mean, fold_sigmas, magnitude
from rose_torch.collectives import Joining, extrema_of_all, folds_of_all

if TYPE_CHECKING:
    from rose_torch.parts import Part

__all__ = ["Statistics", "noise_of_part", "statistics_of_part", "updated_part"]


class Statistics(NamedTuple):
    """The mean (or None) and the denominator of each local slice."""

    mean: Any
    denominator: Any


def statistics_of_part(step: Step, part: "Part") -> Joining[Statistics]:
    """Return the statistics of the local slices, by the lines of the core's `measure` and `gate`."""
    groups = _groups(step.param.one)
    if len(groups) > 1:
        keep_freed_memory(step.param.one)
    ends, folds = _extrema(step, groups), ()
    ends = yield from extrema_of_all(ends, part.within)
    if step.options.centralize and len(part.shape) >= 2:
        folds = _folds(step, groups, fold_sigmas(magnitude(ends), math.prod(part.shape[1:])))
        folds = yield from folds_of_all(folds, part.within)
    mean, range_ = mean_and_range(ends, folds, part.shape, step.compute)
    through = None
    if step.options.stabilize and len(part.shape) >= 2:
        through = yield from _gate_of_all(range_, part, step)
    return Statistics(mean, step.denominators(range_, through))


def updated_part(step: Step, statistics: Statistics) -> Iterator[Updated]:
    """Return, block by block, the local tensor, an index of it, and the values there after the step."""
    mean, denominator = statistics
    for block in chain.from_iterable(_groups(step.param.one)):
        rows = block.slices
        yield from step.updated(block, None if mean is None else mean[rows], denominator[rows])


def noise_of_part(part: "Part", *, seed: int, step: int, index: int, like: Tensor) -> NoiseSource:
    """Return what gives the words of a range of the flattened local elements: those of their places in the whole."""
    offset = part.offset
    if offset is not None:
        words_of = noise_source(seed=seed, step=step, index=index, like=like)
        return lambda _, start, stop: words_of(offset + start, offset + stop)
    words_at = noise_at(seed=seed, step=step, index=index, like=like)
    return lambda _, start, stop: words_at(part.flat_places(start, stop, like.device))


def _groups(local: Array) -> Sequence[Sequence[Block]]:
    return partition(local.shape, block_elements(local)) if 0 not in local.shape else ()


def _extrema(step: Step, groups: Sequence[Sequence[Block]]) -> Extrema:
    """Return the extrema of the local elements of each slice; where there are none, what changes nobody's."""
    if not groups:
        return _nobodys_extrema(step, (number_of_slices(step.param.one.shape), *_ones_within(step)))
    low, high = (as_array_beside(end, step.param.one) for end in step.gradient.extrema(groups))
    return low, high


def _folds(step: Step, groups: Sequence[Sequence[Block]], sigmas: Folds) -> Folds:
    """Return the folds of the sum of the local elements of each slice."""
    if not groups:
        return tuple(map(torch.zeros_like, sigmas))
    return tuple(as_array_beside(sums, step.param.one) for sums in step.gradient.folds(groups, sigmas))


def _gate_of_all(range_: Any, part: "Part", step: Step) -> Joining[Gate]:
    """Return the gate over the slices of all ranks, by the lines of the core's `gate`."""
    range_, count = by_gradient(range_, 1), part.shape[0]
    ends = range_extrema(range_) if range_.numel() else _nobodys_extrema(step, (1, 1))
    ends = yield from extrema_of_all(ends, part.across)
    folds = yield from folds_of_all(range_folds(range_, fold_sigmas(ends[1], count)), part.across)
    mean64 = exact_mean(folds, count)
    sigmas = fold_sigmas(largest_deviation(ends, mean64), count)
    folds = yield from folds_of_all(deviation_folds(range_, mean64, sigmas), part.across)
    return gate_of_moments(mean64, exact_mean(folds, count), step.compute)


def _ones_within(step: Step) -> tuple[int, ...]:
    return (1,) * len(step.param.within_slices)


def _nobodys_extrema(step: Step, shape: tuple[int, ...]) -> Extrema:
    dtype = getattr(torch, operation_dtype(step.compute))
    infinity = torch.full(shape, math.inf, dtype=dtype, device=step.param.one.device)
    return infinity, -infinity
