"""Deviations of slices, their means and ranges, and the sign of the gradient (ROSE-1, ROSE-4)."""

import math
from collections.abc import Sequence
from typing import Final

from rose_spec.deviations.deviation import known_as
from rose_spec.floats import sub
from rose_spec.oracle import Rule

__all__ = ["SLICES"]


class SlicesAlongLastAxis(Rule):
    def slices(self, values: list[float], shape: tuple[int, ...]) -> list[list[float]]:
        count = 1 if len(shape) == 1 else shape[-1]
        return [values[i::count] for i in range(count)]

    def join(self, rows: list[list[float]], shape: tuple[int, ...]) -> list[float]:  # noqa: ARG002
        return [value for column in zip(*rows, strict=True) for value in column]


class OneSlice(Rule):
    def slices(self, values: list[float], shape: tuple[int, ...]) -> list[list[float]]:  # noqa: ARG002
        return [values]


class MaximizeIgnored(Rule):
    def orient(self, g: list[float]) -> list[float]:
        return g


class MaximizeAfterStatistics(Rule):
    def orient(self, g: list[float]) -> list[float]:
        return g

    def quotient(self, value: float, denominator: float) -> float:
        return super().quotient(-value if self.options.maximize else value, denominator)

    def advance_scalar(self, x: list[float], g: list[float]) -> list[float]:
        return super().advance_scalar(x, [-v for v in g] if self.options.maximize else g)


class NanSkipped(Rule):
    def extrema(self, row: list[float]) -> tuple[float, float]:
        return super().extrema([v for v in row if not math.isnan(v)] or row)


class NotCentralized(Rule):
    def centralizes(self, shape: tuple[int, ...]) -> bool:  # noqa: ARG002
        return False


class VectorsCentralized(Rule):
    def centralizes(self, shape: tuple[int, ...]) -> bool:  # noqa: ARG002
        return self.options.centralize


class CentralizedAfterRange(Rule):
    def center_extrema(self, low: float, high: float, mean: float) -> tuple[float, float]:  # noqa: ARG002
        return low, high


class MeanOfMagnitudes(Rule):
    def row_mean(self, row: list[float]) -> float:
        return super().row_mean([abs(v) for v in row])


class MeanNotClipped(Rule):
    def clip(self, mean: float, low: float, high: float) -> float:  # noqa: ARG002
        return mean


class MaxMinusMin(Rule):
    def range(self, low: float, high: float) -> float:
        return self.rc(sub(high, low, self.operation))


class MagnitudeRange(Rule):
    def range(self, low: float, high: float) -> float:
        return max(abs(low), abs(high))


class RangeOfTensor(Rule):
    def ranges(self, extrema: Sequence[tuple[float, float]]) -> list[float]:
        lows, highs = zip(*extrema, strict=True)
        low, high = (math.nan, math.nan) if any(map(math.isnan, lows)) else (min(lows), max(highs))
        return super().ranges([(low, high)] * len(extrema))


SLICES: Final = (
    known_as("slices-along-last-axis", "slices are along the last axis", "ROSE-1.2", SlicesAlongLastAxis),
    known_as("one-slice", "the whole tensor is one slice", "ROSE-1.2", OneSlice),
    known_as("maximize-ignored", "maximize is ignored", "ROSE-1.3", MaximizeIgnored),
    known_as(
        "maximize-after-statistics", "maximize negates the step, not the gradient", "ROSE-1.3", MaximizeAfterStatistics
    ),
    known_as("nan-skipped", "the extrema ignore NaN", "ROSE-4.1", NanSkipped),
    known_as("not-centralized", "slices are never centralized", "ROSE-4.2", NotCentralized),
    known_as("vectors-centralized", "rank 1 is centralized too", "ROSE-4.2", VectorsCentralized),
    known_as(
        "centralized-after-range",
        "slices are centralized after their range is taken",
        "ROSE-4.2",
        CentralizedAfterRange,
    ),
    known_as("mean-of-magnitudes", "the mean is taken over |g|", "ROSE-4.2", MeanOfMagnitudes),
    known_as("mean-not-clipped", "the mean is not clipped to the extrema of its slice", "ROSE-4.2", MeanNotClipped),
    known_as("max-minus-min", "the range is max - min, as in revision 1.0.0", "ROSE-4.3", MaxMinusMin),
    known_as("magnitude-range", "the range is the largest |g|", "ROSE-4.3", MagnitudeRange),
    known_as("range-of-tensor", "all slices use the range of the whole tensor", "ROSE-4.3", RangeOfTensor),
)
