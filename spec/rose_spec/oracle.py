"""The oracle: the whole rule of Rose on scalars, slow and simple, written from SPEC.md alone.

The answers of the vectors come from it. It uses only the standard library and shares no line with `rose_core`. Each
method is one clause, so that a known deviation is a subclass that overrides one method.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rose_spec.floats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FORMATS, Format, add, cast, div, mul, sqrt, sub
from rose_spec.summation import reproducible_sum

__all__ = ["COMPUTE_FORMATS", "Options", "Rule", "Step", "Tensor", "round_to_bfloat16"]

# The names of compute dtypes (ROSE-10.1); None stands for the dtype of the parameter (ROSE-2.5).
COMPUTE_FORMATS: Final[Mapping[str, Format | None]] = {
    "fp64": FLOAT64,
    "fp32": FLOAT32,
    "fp16": FLOAT16,
    "bf16": BFLOAT16,
    "none": None,
    "null": None,
    **FORMATS,
}
MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Tensor:
    """An array: its dtype, its shape, and its values in C order."""

    dtype: str
    shape: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def from_words(cls, dtype: str, shape: Sequence[int], words: Sequence[int]) -> "Tensor":
        """Return the array with these words."""
        return cls(dtype, tuple(shape), tuple(FORMATS[dtype].decode(word) for word in words))

    def words(self) -> list[int]:
        """Return the words of the values; every NaN has the canonical word."""
        return [FORMATS[self.dtype].encode(value) for value in self.values]


@dataclass(frozen=True)
class Options:
    """The options of one parameter's step, with their defaults (ROSE-10.1)."""

    lr: float
    weight_decay: float | None = 1e-4
    lr_reference: float | None = None
    centralize: bool = True
    stabilize: bool = True
    compute_dtype: str | None = "fp64"
    maximize: bool = False
    max_step: float | None = None


@dataclass
class Step:
    """The new parameter and the intermediate values, None for those that the rule does not compute."""

    param: Tensor
    mean: list[float] | None = None
    range: list[float] | None = None
    trust: float | None = None
    denominator: list[float] | None = None


@dataclass
class Rule:
    """One step of Rose for one parameter."""

    options: Options
    compute: Format = field(default=FLOAT64, init=False)
    operation: Format = field(default=FLOAT64, init=False)

    def update(self, param: Tensor, grad: Tensor, noise: Sequence[int] | None = None) -> Step:
        """Return the step; `noise` has a 16-bit word for each element, or is None to round to nearest."""
        if not param.values:
            return Step(param)  # ROSE-1.4
        self.choose_formats(param.dtype, stochastic=noise is not None)
        x, g = [self.load(v) for v in param.values], [self.load(v) for v in grad.values]
        x, g = self.decay(x, self.orient(g), param.shape)
        step = Step(param)
        x = self.move(x, g, param.shape, step)
        step.param = Tensor(param.dtype, param.shape, tuple(self.store(x, param.dtype, noise)))
        return step

    def choose_formats(self, dtype: str, *, stochastic: bool) -> None:
        """Choose C and O (ROSE-2.1, ROSE-2.5)."""
        name = self.options.compute_dtype
        param_format = FLOAT32 if stochastic and dtype == "bfloat16" else FORMATS[dtype]
        self.compute = COMPUTE_FORMATS[(name or "none").strip().lower()] or param_format  # ROSE-10.2
        self.operation = FLOAT64 if self.compute is FLOAT64 else FLOAT32

    def rc(self, value: float) -> float:
        """Round to C (ROSE-2.2)."""
        return cast(value, self.compute)

    def to_compute(self, value: float) -> float:
        """Round a float64 value to C, through float32 if C has 16 bits (ROSE-2.3)."""
        return self.rc(cast(value, self.operation))

    def load(self, value: float) -> float:
        """Round a value of the parameter or the gradient to C (ROSE-2.6)."""
        return self.to_compute(value)

    def to_operation(self, value: float) -> float:
        """Round lr or the decay factor to O (ROSE-2.4)."""
        return cast(value, self.operation)

    def orient(self, g: list[float]) -> list[float]:
        """Return the gradient, negated if `maximize` is set (ROSE-1.3)."""
        return [-v for v in g] if self.options.maximize else g

    def decay(self, x: list[float], g: list[float], shape: tuple[int, ...]) -> tuple[list[float], list[float]]:  # noqa: ARG002  (deviations use g and shape)
        """Return the decayed parameter and the gradient (ROSE-3.1)."""
        return self.shrink(x), g

    def shrink(self, x: list[float]) -> list[float]:
        """Decay the parameter (ROSE-3.1)."""
        if not self.options.weight_decay:
            return x
        factor = self.to_operation(self.decay_factor(self.options.weight_decay))
        return [self.rc(mul(v, factor, self.operation)) for v in x]

    def decay_factor(self, weight_decay: float) -> float:
        """Return the decay factor (ROSE-3.2)."""
        return max(0.0, sub(1.0, mul(self.decay_lr(), weight_decay, FLOAT64), FLOAT64))

    def decay_lr(self) -> float:
        """Return the learning rate of the decay, wd_lr (ROSE-3.3)."""
        reference = self.options.lr_reference
        return self.options.lr if reference is None else div(self.options.lr, reference, FLOAT64)

    def move(self, x: list[float], g: list[float], shape: tuple[int, ...], step: Step) -> list[float]:
        """Take the step (ROSE-6)."""
        return self.advance(x, g, shape, step) if shape else self.advance_scalar(x, g)

    def advance(self, x: list[float], g: list[float], shape: tuple[int, ...], step: Step) -> list[float]:
        """Take the step at rank 1 and above, and record the intermediate values (ROSE-6.1)."""
        rows, extrema = self.centered(self.slices(g, shape), shape, step)
        step.range = self.ranges(extrema)
        step.denominator = [self.without_zero(value) for value in self.gate(step.range, shape, step)]
        steps = zip(self.slices(x, shape), rows, step.denominator, strict=True)
        new = [[self.advance_element(v, g, d) for v, g in zip(x, row, strict=True)] for x, row, d in steps]
        return self.join(new, shape)

    def centered(
        self, rows: list[list[float]], shape: tuple[int, ...], step: Step
    ) -> tuple[list[list[float]], list[tuple[float, float]]]:
        """Return the slices and their extrema, both centred if the options ask for it (ROSE-4.1, ROSE-4.2)."""
        extrema = [self.extrema(row) for row in rows]
        if not self.centralizes(shape):
            return rows, extrema
        step.mean = [self.mean(row, *ends) for row, ends in zip(rows, extrema, strict=True)]
        rows = [[self.center(v, mean) for v in row] for row, mean in zip(rows, step.mean, strict=True)]
        return rows, [self.center_extrema(*ends, mean) for ends, mean in zip(extrema, step.mean, strict=True)]

    def gate(self, ranges: list[float], shape: tuple[int, ...], step: Step) -> list[float]:
        """Return the denominators, in which zeros are not replaced yet (ROSE-5.1)."""
        if not self.stabilizes(shape):
            return ranges
        mean, std = self.moments(ranges)
        step.trust = self.trust(mean, std)
        return [self.blend(mean, value, step.trust) for value in ranges]

    def slices(self, values: list[float], shape: tuple[int, ...]) -> list[list[float]]:
        """Split values in C order into slices (ROSE-1.2)."""
        count = 1 if len(shape) == 1 else shape[0]
        length = len(values) // count
        return [values[i * length : (i + 1) * length] for i in range(count)]

    def join(self, rows: list[list[float]], shape: tuple[int, ...]) -> list[float]:  # noqa: ARG002  (a deviation uses shape)
        """Return the values of slices in C order, the inverse of `slices`."""
        return [value for row in rows for value in row]

    def extrema(self, row: list[float]) -> tuple[float, float]:
        """Return the smallest and the largest value (ROSE-4.1)."""
        if any(math.isnan(v) for v in row):
            return math.nan, math.nan
        return min(row), max(row)

    def centralizes(self, shape: tuple[int, ...]) -> bool:
        """Tell whether slices are centred (ROSE-4.2)."""
        return self.options.centralize and len(shape) >= 2

    def mean(self, row: list[float], low: float, high: float) -> float:
        """Return the mean of a slice, clipped to its extrema (ROSE-4.2)."""
        mean = self.row_mean(row)
        if math.isnan(mean) or math.isnan(low):
            return math.nan
        return self.clip(mean, low, high) or 0.0

    def row_mean(self, row: list[float]) -> float:
        """Return the mean of a slice before it is clipped (ROSE-4.2)."""
        return self.to_compute(div(self.sum(row), float(len(row)), FLOAT64))

    def sum(self, values: Sequence[float]) -> float:
        """Return the sum in float64 (ROSE-7.1)."""
        return reproducible_sum(values)

    def clip(self, mean: float, low: float, high: float) -> float:
        """Clip the mean to the extrema (ROSE-4.2)."""
        return min(max(mean, low), high)

    def center(self, value: float, mean: float) -> float:
        """Subtract the mean (ROSE-4.2)."""
        return self.rc(sub(value, mean, self.operation))

    def center_extrema(self, low: float, high: float, mean: float) -> tuple[float, float]:
        """Return the extrema of the centred slice (ROSE-4.2)."""
        return self.center(low, mean), self.center(high, mean)

    def ranges(self, extrema: Sequence[tuple[float, float]]) -> list[float]:
        """Return the ranges of all slices (ROSE-4.3)."""
        return [self.range(low, high) for low, high in extrema]

    def range(self, low: float, high: float) -> float:
        """Return the range of a slice (ROSE-4.3)."""
        return self.rc(sub(abs(high), low, self.operation))

    def stabilizes(self, shape: tuple[int, ...]) -> bool:
        """Tell whether the ranges pass the gate (ROSE-5.1)."""
        return self.options.stabilize and len(shape) >= 2

    def moments(self, ranges: list[float]) -> tuple[float, float]:
        """Return the mean and the standard deviation of the ranges, in C (ROSE-5.2)."""
        mean = div(self.sum(ranges), float(len(ranges)), FLOAT64)
        return self.to_compute(mean), self.to_compute(self.deviation(self.variance(ranges, mean)))

    def variance(self, ranges: list[float], mean: float) -> float:
        """Return the variance in float64 (ROSE-5.2)."""
        distances = [sub(value, mean, FLOAT64) for value in ranges]
        squares = [mul(d, d, FLOAT64) for d in distances]
        return div(self.sum(squares), self.degrees_of_freedom(len(ranges)), FLOAT64)

    def deviation(self, variance: float) -> float:
        """Return the standard deviation in float64 (ROSE-5.2)."""
        return sqrt(variance, FLOAT64)

    def degrees_of_freedom(self, count: int) -> float:
        """Return the divisor of the sum of squares (ROSE-5.2)."""
        return float(count)

    def trust(self, mean: float, std: float) -> float:
        """Return the trust factor (ROSE-5.3)."""
        return self.rc(div(mean, self.trust_divisor(mean, std), self.operation))

    def trust_divisor(self, mean: float, std: float) -> float:
        """Return the divisor of the trust factor (ROSE-5.3)."""
        return 1.0 if mean == 0.0 else self.rc(add(std, mean, self.operation))

    def blend(self, mean: float, value: float, trust: float) -> float:
        """Return the denominator, between the mean range and the range of the slice (ROSE-5.4)."""
        distance = sub(value, mean, self.operation)
        if trust < 0.5:
            return self.rc(add(mean, mul(trust, distance, self.operation), self.operation))
        return self.rc(sub(value, mul(distance, sub(1.0, trust, self.operation), self.operation), self.operation))

    def without_zero(self, denominator: float) -> float:
        """Replace a denominator of 0 by 1 (ROSE-5.5)."""
        return denominator or 1.0

    def advance_element(self, x: float, g: float, denominator: float) -> float:
        """Return the new value of an element (ROSE-6.1)."""
        return self.rc(add(x, self.limited(self.quotient(g, denominator)), self.operation))

    def quotient(self, value: float, denominator: float) -> float:
        """Return -lr * g / D, each operation rounded to O (ROSE-6.1)."""
        return div(mul(self.to_operation(-self.options.lr), value, self.operation), denominator, self.operation)

    def advance_scalar(self, x: list[float], g: list[float]) -> list[float]:
        """Take the step at rank 0 (ROSE-6.2)."""
        move = mul(self.sign(g[0]), self.rc(self.to_operation(-self.options.lr)), self.operation)
        return [self.rc(add(x[0], self.limited(move), self.operation))]

    def limited(self, change: float) -> float:
        """Return a change of an element, limited by `max_step` (ROSE-6.4)."""
        if self.options.max_step is None:
            return change
        limit = self.to_operation(mul(self.options.lr, self.options.max_step, FLOAT64))
        return math.copysign(limit, change) if abs(change) > limit else change

    def sign(self, value: float) -> float:
        """Return the sign, +0 for zeros and NaN for NaN (ROSE-6.2)."""
        return value if math.isnan(value) else float(value > 0.0) - float(value < 0.0)

    def store(self, x: list[float], dtype: str, noise: Sequence[int] | None) -> list[float]:
        """Round to the parameter's dtype (ROSE-6.3)."""
        if dtype == "float64":
            return x
        narrow = [cast(v, FLOAT32) for v in x]
        if noise is None:
            return [cast(v, FORMATS[dtype]) for v in narrow]
        return [self.round_stochastically(v, r) for v, r in zip(narrow, noise, strict=True)]

    def round_stochastically(self, value: float, word: int) -> float:
        """Round float32 to bfloat16 with a noise word (ROSE-8.1)."""
        return round_to_bfloat16(value, word)


def round_to_bfloat16(value: float, word: int) -> float:
    """Round a float32 value to bfloat16 with a noise word (ROSE-8.1, ROSE-8.2)."""
    if math.isnan(value):
        return math.nan  # the canonical one
    return BFLOAT16.decode(((FLOAT32.encode(value) + word) & MASK) >> 16)
