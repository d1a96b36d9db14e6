"""The gate over all slices: ranges to trust to denominators, the second of the three phases (ROSE-5)."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from rose_core.namespace import Array, array_namespace, square_root
from rose_core.rounding import ComputeDtype, round_to_compute, to_compute
from rose_core.summation import (
    Extrema,
    Folds,
    exact_mean,
    extrema,
    fold_sigmas,
    fold_sums,
    joined_extrema,
    joined_folds,
    to_summand,
)

__all__ = [
    "Gate",
    "by_gradient",
    "denominators",
    "deviation_folds",
    "gate",
    "gate_of_moments",
    "gated_ranges",
    "largest_deviation",
    "range_extrema",
    "range_folds",
]

# A row has the ranges of one gradient.
_OF_ALL_SLICES: Final = (1,)


class Gate(NamedTuple):
    """The mean of all ranges and the trust factor of each gradient, in C and in the shape (gradients, 1)."""

    mean: Any
    trust: Any


def gate(
    parts: Iterable[Array], shape: Sequence[int], *, stabilize: bool, compute: ComputeDtype, gradients: int = 1
) -> Gate | None:
    """Return the gates of some gradients of this shape, None if they have none (ROSE-5.1).

    Their ranges, held in the operation dtype, lie in parts, those of more gradients than one in one part, and are
    iterated over thrice. Who has not all of them follows these lines, and joins what each stage returns with that
    of the others.
    """
    if not stabilize or len(shape) < 2:
        return None
    count = shape[0]
    ends = joined_extrema(range_extrema(by_gradient(part, gradients)) for part in parts)
    sigmas = fold_sigmas(ends[1], count)
    folds = joined_folds(range_folds(by_gradient(part, gradients), sigmas) for part in parts)
    mean64 = exact_mean(folds, count)
    sigmas = fold_sigmas(largest_deviation(ends, mean64), count)
    folds = joined_folds(deviation_folds(by_gradient(part, gradients), mean64, sigmas) for part in parts)
    return gate_of_moments(mean64, exact_mean(folds, count), compute)


def by_gradient(range_: Array, gradients: int) -> Any:
    """Return the ranges of some gradients in one row for each."""
    return array_namespace(range_).reshape(range_, (gradients, -1))


def range_extrema(range_: Array) -> Extrema:
    """Return the extrema of the ranges, which are not negative."""
    return extrema(range_, _OF_ALL_SLICES)


def range_folds(range_: Array, sigmas: Folds) -> Folds:
    """Return the folds of the sum of the ranges (ROSE-5.2)."""
    return fold_sums(to_summand(range_), sigmas, _OF_ALL_SLICES)


def largest_deviation(ends: Extrema, mean64: Array) -> Any:
    """Return the largest squared deviation: rounding is monotonic, so it is that of an extremum of the ranges."""
    low, high = (_squared_deviation(end, mean64) for end in ends)
    return array_namespace(low).maximum(low, high)


def deviation_folds(range_: Array, mean64: Array, sigmas: Folds) -> Folds:
    """Return the folds of the sum of the squared deviations from the mean (ROSE-5.2)."""
    return fold_sums(_squared_deviation(range_, mean64), sigmas, _OF_ALL_SLICES)


def gate_of_moments(mean64: Array, variance64: Array, compute: ComputeDtype) -> Gate:
    """Return the mean, and the trust: near 1 where the ranges agree, near 0 where they differ (ROSE-5.3)."""
    xp = array_namespace(mean64)
    mean, std = to_compute(mean64, compute), to_compute(square_root(variance64), compute)
    total = round_to_compute(std + mean, compute)
    return Gate(mean, round_to_compute(mean / xp.where(mean == 0.0, xp.ones_like(total), total), compute))


def denominators(range_: Array, through: Gate | None, compute: ComputeDtype) -> Any:
    """Return the denominator of each slice, in the shape of `range_`: 1 where the gate leaves 0 (ROSE-5.5)."""
    xp = array_namespace(range_)
    denominator = gated_ranges(range_, through, compute)
    return xp.where(denominator == 0.0, xp.ones_like(denominator), denominator)


def gated_ranges(range_: Array, through: Gate | None, compute: ComputeDtype) -> Any:
    """Return what the gate makes of the ranges, in their shape, the ranges themselves without one (ROSE-5.1)."""
    if through is None:
        return range_
    blended = _blend(by_gradient(range_, through.mean.shape[0]), through, compute)
    return array_namespace(blended).reshape(blended, range_.shape)


def _squared_deviation(range_: Array, mean64: Array) -> Any:
    deviation = to_summand(range_) - mean64
    return deviation * deviation


def _blend(range_: Array, through: Gate, compute: ComputeDtype) -> Any:
    """Interpolate from the mean (trust 0) to the slice's own range (trust 1) (ROSE-5.4)."""
    xp = array_namespace(range_)
    mean, trust = through
    distance = range_ - mean
    from_mean = mean + trust * distance
    from_range = range_ - distance * (1.0 - trust)
    return round_to_compute(xp.where(trust < 0.5, from_mean, from_range), compute)
