"""Deviations of the step, of rank 0 (ROSE-6), and of empty parameters (ROSE-1.4)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from rose_spec.deviations.deviation import known_as
from rose_spec.floats import FLOAT32, cast, div, mul
from rose_spec.oracle import Rule, Step, Tensor

__all__ = ["STEP"]


class EmptyUnsupported(Rule):
    def update(self, param: Tensor, grad: Tensor, noise: Sequence[int] | None = None) -> Step:
        if not param.values:
            raise ValueError("no elements")
        return super().update(param, grad, noise)


class DivisionFirst(Rule):
    def quotient(self, value: float, denominator: float) -> float:
        return mul(self.to_operation(-self.options.lr), div(value, denominator, self.operation), self.operation)


class StepContracted(Rule):
    def advance_element(self, x: float, g: float, denominator: float) -> float:
        lr, quotient = self.to_operation(-self.options.lr), div(g, denominator, self.operation)
        if not all(map(math.isfinite, (x, lr, quotient))):
            return self.rc(x + lr * quotient)
        exact = Fraction(x) + Fraction(lr) * Fraction(quotient)
        if not exact:
            return self.rc(x + mul(lr, quotient, self.operation))
        return self.rc(self.operation.round(*exact.as_integer_ratio()))


class SquaredLr(Rule):
    def quotient(self, value: float, denominator: float) -> float:
        return super().quotient(mul(value, self.to_operation(self.options.lr), self.operation), denominator)


class LrNotRounded(Rule):
    def to_operation(self, value: float) -> float:
        return value


class LrInFloat32(Rule):
    def update(self, param: Tensor, grad: Tensor, noise: Sequence[int] | None = None) -> Step:
        given, self.options = self.options, replace(self.options, lr=cast(self.options.lr, FLOAT32))
        try:
            return super().update(param, grad, noise)
        finally:
            self.options = given


class LrOfStepInFloat32(Rule):
    def move(self, x: list[float], g: list[float], shape: tuple[int, ...], step: Step) -> list[float]:
        given, self.options = self.options, replace(self.options, lr=cast(self.options.lr, FLOAT32))
        try:
            return super().move(x, g, shape, step)
        finally:
            self.options = given


class LrRoundedToCompute(Rule):
    def quotient(self, value: float, denominator: float) -> float:
        lr = self.to_compute(self.options.lr)
        return div(mul(-lr, value, self.operation), denominator, self.operation)


class Rank0Unsupported(Rule):
    def advance_scalar(self, x: list[float], g: list[float]) -> list[float]:  # noqa: ARG002
        raise ValueError("rank 0")


class Rank0IsVector(Rule):
    def move(self, x: list[float], g: list[float], shape: tuple[int, ...], step: Step) -> list[float]:
        return super().move(x, g, shape or (1,), step)


class Rank0IsSgd(Rule):
    def sign(self, value: float) -> float:
        return value


class Rank0BecomesRank1(Rule):
    def update(self, param: Tensor, grad: Tensor, noise: Sequence[int] | None = None) -> Step:
        step = super().update(param, grad, noise)
        return replace(step, param=replace(step.param, shape=step.param.shape or (1,)))


class SignOfZeroIsOne(Rule):
    def sign(self, value: float) -> float:
        return 1.0 if value == 0.0 else super().sign(value)


class SignOfNanIsZero(Rule):
    def sign(self, value: float) -> float:
        return 0.0 if math.isnan(value) else super().sign(value)


class MaxStepIgnored(Rule):
    def limited(self, change: float) -> float:
        return change


class MaxStepIsAbsolute(Rule):
    def limited(self, change: float) -> float:
        limit = self.options.max_step
        return change if limit is None or not abs(change) > limit else math.copysign(self.to_operation(limit), change)


STEP: Final = (
    known_as("max-step-ignored", "max_step is ignored", "ROSE-6.4", MaxStepIgnored),
    known_as(
        "max-step-absolute", "max_step limits the change itself, not its multiple of lr", "ROSE-6.4", MaxStepIsAbsolute
    ),
    known_as("empty-unsupported", "a parameter without elements gets no answer", "ROSE-1.4", EmptyUnsupported),
    known_as(
        "division-first", "g is first divided by the denominator, then multiplied by lr", "ROSE-6.1", DivisionFirst
    ),
    known_as(
        "step-contracted", "the division comes first, and a fused multiply-add follows", "ROSE-1.5", StepContracted
    ),
    known_as("squared-lr", "the step is multiplied by lr twice", "ROSE-6.1", SquaredLr),
    known_as("lr-not-rounded", "lr is not rounded to the operation dtype", "ROSE-2.4", LrNotRounded),
    known_as("lr-in-float32", "lr is a float32", "ROSE-2.4", LrInFloat32),
    known_as("lr-of-step-in-float32", "lr is rounded to float32 in the step", "ROSE-2.4", LrOfStepInFloat32),
    known_as("lr-rounded-to-compute", "lr is rounded to the compute dtype", "ROSE-2.4", LrRoundedToCompute),
    known_as("rank-0-unsupported", "a parameter of rank 0 gets no answer", "ROSE-6.2", Rank0Unsupported),
    known_as("rank-0-is-vector", "rank 0 is treated as a vector of one element", "ROSE-6.2", Rank0IsVector),
    known_as("rank-0-is-sgd", "rank 0 moves by lr * g", "ROSE-6.2", Rank0IsSgd),
    known_as("rank-0-becomes-rank-1", "a parameter of rank 0 gets the shape [1]", "ROSE-6.3", Rank0BecomesRank1),
    known_as("sign-of-zero-is-one", "the sign of 0 is 1", "ROSE-6.2", SignOfZeroIsOne),
    known_as("sign-of-nan-is-zero", "the sign of NaN is 0", "ROSE-6.2", SignOfNanIsZero),
)
