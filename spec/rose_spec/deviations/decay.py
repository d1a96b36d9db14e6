"""Deviations of weight decay (ROSE-3)."""

from typing import Final

from rose_spec.deviations.deviation import known_as
from rose_spec.floats import FLOAT32, FLOAT64, add, cast, div, mul, sub
from rose_spec.oracle import Rule, Step
from rose_spec.trajectory import Group

__all__ = ["DECAY"]


class L2Decay(Rule):
    def decay(self, x: list[float], g: list[float], shape: tuple[int, ...]) -> tuple[list[float], list[float]]:  # noqa: ARG002
        if not self.options.weight_decay:
            return x, g
        factor, form = self.to_operation(self.options.weight_decay), self.operation
        return x, [self.rc(add(b, mul(a, factor, form), form)) for a, b in zip(x, g, strict=True)]


class DecayAfterStep(Rule):
    def decay(self, x: list[float], g: list[float], shape: tuple[int, ...]) -> tuple[list[float], list[float]]:  # noqa: ARG002
        return x, g

    def move(self, x: list[float], g: list[float], shape: tuple[int, ...], step: Step) -> list[float]:
        return self.shrink(super().move(x, g, shape, step))


class DecayNotOfVectors(Rule):
    def decay(self, x: list[float], g: list[float], shape: tuple[int, ...]) -> tuple[list[float], list[float]]:
        return super().decay(x, g, shape) if len(shape) >= 2 else (x, g)


class DecaySubtracted(Rule):
    def shrink(self, x: list[float]) -> list[float]:
        if not self.options.weight_decay:
            return x
        factor, form = self.to_operation(mul(self.decay_lr(), self.options.weight_decay, FLOAT64)), self.operation
        return [self.rc(sub(v, mul(v, factor, form), form)) for v in x]


class DecayNotClamped(Rule):
    def decay_factor(self, weight_decay: float) -> float:
        return sub(1.0, mul(self.decay_lr(), weight_decay, FLOAT64), FLOAT64)


class DecayInOperationDtype(Rule):
    def decay_factor(self, weight_decay: float) -> float:
        form = self.operation
        return max(0.0, sub(1.0, mul(self.to_operation(self.decay_lr()), self.to_operation(weight_decay), form), form))


class DecayInFloat32(Rule):
    def decay_factor(self, weight_decay: float) -> float:
        lr, weight_decay = cast(self.decay_lr(), FLOAT32), cast(weight_decay, FLOAT32)
        return max(0.0, sub(1.0, mul(lr, weight_decay, FLOAT32), FLOAT32))


class DecayRoundedToFloat32(Rule):
    def decay_factor(self, weight_decay: float) -> float:
        return cast(super().decay_factor(weight_decay), FLOAT32)


class DecayRoundedToCompute(Rule):
    def decay_factor(self, weight_decay: float) -> float:
        return self.to_compute(super().decay_factor(weight_decay))


class DecayWithoutLr(Rule):
    def decay_lr(self) -> float:
        return 1.0


class DecayBySquaredLr(Rule):
    def decay_lr(self) -> float:
        return mul(super().decay_lr(), self.options.lr, FLOAT64)


class ReferenceIsCurrentLr(Rule):
    def decay_lr(self) -> float:
        lr = self.options.lr
        return super().decay_lr() if self.options.lr_reference is None or lr == 0.0 else div(lr, lr, FLOAT64)


class ScheduleIgnored(Rule):
    def decay_lr(self) -> float:
        return self.options.lr


class IntegerReferenceIsTrue(Group):
    def reference(self) -> float | None:
        if isinstance(self.options.get("wd_schedule"), int):
            self.options["wd_schedule"] = bool(self.options["wd_schedule"])
        return super().reference()


class MaxLrIgnored(Group):
    def reference(self) -> float | None:
        self.max_lr = 0.0
        return super().reference()


class InitialLrFirst(Group):
    def reference(self) -> float | None:
        self.max_lr = self.initial_lr or self.max_lr
        return super().reference()


DECAY: Final = (
    known_as("l2-decay", "weight decay is added to the gradient", "ROSE-3.1", L2Decay),
    known_as("decay-after-step", "weight decay comes after the step", "ROSE-3.1", DecayAfterStep),
    known_as("decay-not-of-vectors", "parameters of rank 0 and 1 are not decayed", "ROSE-3.1", DecayNotOfVectors),
    known_as("decay-subtracted", "lr * weight_decay * x is subtracted from x", "ROSE-3.1", DecaySubtracted),
    known_as("decay-not-clamped", "the decay factor is not clamped at 0", "ROSE-3.2", DecayNotClamped),
    known_as(
        "decay-in-operation-dtype",
        "the decay factor is computed in the operation dtype",
        "ROSE-2.4",
        DecayInOperationDtype,
    ),
    known_as("decay-in-float32", "the decay factor is computed in float32", "ROSE-3.2", DecayInFloat32),
    known_as("decay-rounded-to-float32", "the decay factor is rounded to float32", "ROSE-2.4", DecayRoundedToFloat32),
    known_as(
        "decay-rounded-to-compute",
        "the decay factor is rounded to the compute dtype",
        "ROSE-2.4",
        DecayRoundedToCompute,
    ),
    known_as("decay-without-lr", "weight decay is not multiplied by lr", "ROSE-3.2", DecayWithoutLr),
    known_as("decay-by-squared-lr", "weight decay is multiplied by lr twice", "ROSE-3.2", DecayBySquaredLr),
    known_as(
        "reference-is-current-lr",
        "the reference lr of the schedule is always the current lr",
        "ROSE-3.3",
        ReferenceIsCurrentLr,
    ),
    known_as("schedule-ignored", "weight decay does not follow the schedule", "ROSE-3.3", ScheduleIgnored),
    known_as(
        "integer-reference-is-true", "an integer wd_schedule is taken as true", "ROSE-10.3", IntegerReferenceIsTrue
    ),
    known_as("max-lr-ignored", "the group's max_lr is never the reference lr", "ROSE-3.4", MaxLrIgnored),
    known_as("initial-lr-first", "the group's initial_lr takes precedence over max_lr", "ROSE-3.4", InitialLrFirst),
)
