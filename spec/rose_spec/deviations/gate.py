"""Deviations of the gate and of denominators (ROSE-5)."""

from typing import Final

from rose_spec.deviations.deviation import Deviation, known_as
from rose_spec.floats import FLOAT32, FLOAT64, add, cast, div, mul, sqrt, sub
from rose_spec.oracle import Rule

__all__ = ["GATE"]


class NoGate(Rule):
    def stabilizes(self, shape: tuple[int, ...]) -> bool:  # noqa: ARG002
        return False


class OneSliceWithoutGate(Rule):
    def stabilizes(self, shape: tuple[int, ...]) -> bool:
        return super().stabilizes(shape) and shape[0] > 1


class SampleDeviation(Rule):
    def degrees_of_freedom(self, count: int) -> float:
        return count - 1.0


class SampleDeviationGuarded(Rule):
    def degrees_of_freedom(self, count: int) -> float:
        return max(1.0, count - 1.0)


class RootInFloat32(Rule):
    def deviation(self, variance: float) -> float:
        return sqrt(cast(variance, FLOAT32), FLOAT32)


class VarianceForDeviation(Rule):
    def deviation(self, variance: float) -> float:
        return variance


class VarianceByMeanOfSquares(Rule):
    def variance(self, ranges: list[float], mean: float) -> float:
        squares = self.sum([mul(v, v, FLOAT64) for v in ranges])
        variance = sub(div(squares, float(len(ranges)), FLOAT64), mul(mean, mean, FLOAT64), FLOAT64)
        return max(variance, 0.0)


class TrustInverted(Rule):
    def trust(self, mean: float, std: float) -> float:
        return self.rc(div(std, self.trust_divisor(mean, std), self.operation))


class TrustWithEpsilon(Rule):
    def trust_divisor(self, mean: float, std: float) -> float:
        form = self.operation
        return self.rc(add(self.rc(add(std, mean, form)), self.to_operation(1e-8), form))


class TrustSwapped(Rule):
    def blend(self, mean: float, value: float, trust: float) -> float:
        return super().blend(mean, value, sub(1.0, trust, self.operation))


class DenominatorIsMean(Rule):
    def blend(self, mean: float, value: float, trust: float) -> float:  # noqa: ARG002
        return mean


class BlendInOneForm(Rule):
    def blend(self, mean: float, value: float, trust: float) -> float:
        distance = sub(value, mean, self.operation)
        return self.rc(add(mean, mul(trust, distance, self.operation), self.operation))


class HalfBelongsToMean(Rule):
    def blend(self, mean: float, value: float, trust: float) -> float:
        if trust != 0.5:
            return super().blend(mean, value, trust)
        distance = sub(value, mean, self.operation)
        return self.rc(add(mean, mul(trust, distance, self.operation), self.operation))


class BlendOfProducts(Rule):
    def blend(self, mean: float, value: float, trust: float) -> float:
        form = self.operation
        return self.rc(add(mul(mean, sub(1.0, trust, form), form), mul(value, trust, form), form))


class ZerosLeft(Rule):
    def without_zero(self, denominator: float) -> float:
        return denominator


class ZerosBeforeGate(Rule):
    def range(self, low: float, high: float) -> float:
        return super().range(low, high) or 1.0


def _added(epsilon: float) -> Deviation:
    class EpsilonAdded(Rule):
        def without_zero(self, denominator: float) -> float:
            return self.rc(add(denominator, self.to_operation(epsilon), self.operation))

    sentence = f"{epsilon} is added to the denominator, and 0 is not replaced by 1"
    return known_as(f"epsilon-{epsilon}-added", sentence, "ROSE-5.5", EpsilonAdded)


def _least(epsilon: float) -> Deviation:
    class EpsilonLeast(Rule):
        def without_zero(self, denominator: float) -> float:
            return max(denominator, self.rc(self.to_operation(epsilon)))

    sentence = f"the denominator is at least {epsilon}, and 0 is not replaced by 1"
    return known_as(f"epsilon-{epsilon}-least", sentence, "ROSE-5.5", EpsilonLeast)


GATE: Final = (
    known_as("no-gate", "the ranges never pass the gate", "ROSE-5.1", NoGate),
    known_as("one-slice-without-gate", "a single slice does not pass the gate", "ROSE-5.1", OneSliceWithoutGate),
    known_as("sample-deviation", "the standard deviation divides by m - 1, not m", "ROSE-5.2", SampleDeviation),
    known_as(
        "sample-deviation-guarded",
        "the standard deviation divides by m - 1, or by 1 for one slice",
        "ROSE-5.2",
        SampleDeviationGuarded,
    ),
    known_as("root-in-float32", "the square root is computed in float32", "ROSE-5.2", RootInFloat32),
    known_as(
        "variance-for-deviation", "the variance is used for the standard deviation", "ROSE-5.2", VarianceForDeviation
    ),
    known_as(
        "variance-by-mean-of-squares",
        "the variance is the mean of squares minus the squared mean",
        "ROSE-5.2",
        VarianceByMeanOfSquares,
    ),
    known_as("trust-inverted", "the trust factor is std / (std + mean)", "ROSE-5.3", TrustInverted),
    known_as("trust-with-epsilon", "1e-8 is added to the divisor of the trust factor", "ROSE-5.3", TrustWithEpsilon),
    known_as("trust-swapped", "the blend swaps w and 1 - w", "ROSE-5.4", TrustSwapped),
    known_as("denominator-is-mean", "the denominator is always the mean range", "ROSE-5.4", DenominatorIsMean),
    known_as("blend-in-one-form", "the blend is mean + w * (R - mean) for every w", "ROSE-5.4", BlendInOneForm),
    known_as(
        "half-belongs-to-mean",
        "a trust factor of exactly 1/2 takes the blend for w < 1/2",
        "ROSE-5.4",
        HalfBelongsToMean,
    ),
    known_as("blend-of-products", "the blend is mean * (1 - w) + R * w", "ROSE-5.4", BlendOfProducts),
    known_as("zeros-left", "a denominator of 0 is not replaced by 1", "ROSE-5.5", ZerosLeft),
    known_as("zeros-before-gate", "ranges of 0 are replaced by 1 before the gate", "ROSE-5.5", ZerosBeforeGate),
    *(_added(epsilon) for epsilon in (1e-6, 1e-8, 1e-10, 1e-12)),
    *(_least(epsilon) for epsilon in (1e-8, 1e-12)),
)
