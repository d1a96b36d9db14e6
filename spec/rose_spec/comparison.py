"""How close an answer is to the expected one: exact, rounded, formula, or none of these.

`exact`: the dtype, the shape and the bits are equal. The zeros are told apart, NaNs are not (ROSE-12.1).

`rounded`: the difference is at most 4 units in the last place (ulps) of the compute dtype. A ulp is taken at the larger
magnitude of the parameter and the result, since the last operation adds the step to the parameter. If the storage dtype
is narrower, one ulp of the storage dtype is allowed in addition, since the last rounding may go the other way.

`formula`: the difference is at most 1e-5 of the largest of the parameter, the result and lr, or the answer reaches
`rounded`. In float64 and float32 this level tells whether the formulas are right, in whatever order they are computed.

At all levels a NaN must answer a NaN, and an infinity the same infinity. The word of a NaN matters only at `exact`,
after stochastic rounding: it is 7fc0 (ROSE-8.2). A trajectory of k steps may differ by k times as much.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rose_spec.floats import FLOAT64, FORMATS, Format
from rose_spec.oracle import COMPUTE_FORMATS, Options, Rule, Tensor
from rose_spec.replies import StepRequest
from rose_spec.vectors import number_from_json

__all__ = ["LEVELS", "Comparison", "Level", "Scale", "compare", "compute_format", "reaches", "same", "worst"]

Level = Literal["exact", "rounded", "formula"]
# From the highest to the lowest.
LEVELS: Final[tuple[Level, ...]] = ("exact", "rounded", "formula")

ROUNDED_ULPS: Final = 4
FORMULA: Final = 1e-5


@dataclass(frozen=True)
class Comparison:
    """The level of an answer, and its distance from the expected one.

    Attributes
    ----------
    level : str or None
        The highest level reached, or None.
    ulps : float
        The largest difference, in units in the last place of the coarser of the compute dtype and the storage dtype.
        It is infinite if a NaN, an infinity, the dtype or the shape differs.
    differing : tuple of int
        The indices of the elements that differ.
    detail : str
        The difference in dtype or shape, in words; empty if both are right.
    first : str
        The first element that differs, with the expected word and the word of the answer.
    """

    level: Level | None
    ulps: float = 0.0
    differing: tuple[int, ...] = ()
    detail: str = ""
    first: str = ""


@dataclass(frozen=True)
class Scale:
    """The magnitudes and formats by which a difference is measured."""

    param: Tensor
    compute: Format
    lr: float
    steps: int = 1
    stochastic: bool = False

    @classmethod
    def of(cls, request: StepRequest) -> "Scale":
        """Return the scale of a step."""
        lr = request.options.get("lr", math.nan)
        number = number_from_json(lr) if isinstance(lr, str) else lr
        return cls(request.param, compute_format(request), number, stochastic=request.noise is not None)


def compare(got: Tensor, expected: Tensor, scale: Scale) -> Comparison:
    """Return how close an answer is to the expected one."""
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        form = f"{got.dtype} of shape {list(got.shape)}, not {expected.dtype} of shape {list(expected.shape)}"
        return Comparison(None, math.inf, (), f"the result is {form}")
    pairs = zip(got.values, expected.values, strict=True)
    differing = tuple(i for i, (a, b) in enumerate(pairs) if not same(a, b, any_nan=not scale.stochastic))
    storage = FORMATS[expected.dtype]
    level, ulps = 0, 0.0
    for i in differing:
        reached, distance = _closeness(got.values[i], expected.values[i], scale.param.values[i], scale, storage)
        level, ulps = max(level, reached), max(ulps, distance)
    first = ""
    if differing:
        index = differing[0]
        words = (storage.encode(tensor.values[index], canonical=False) for tensor in (expected, got))
        want, have = (f"{word:0{storage.digits}x}" for word in words)
        first = f"element {index}: expected {want}, got {have}"
    return Comparison((*LEVELS, None)[level], ulps, differing, first=first)


def worst(comparisons: Sequence[Comparison]) -> Comparison:
    """Return the comparison with the lowest level, and the largest difference at that level."""
    return max(comparisons, key=lambda c: (_rank(c.level), c.ulps), default=Comparison("exact"))


def reaches(level: Level | None, required: Level) -> bool:
    """Tell whether a level is the required one or a higher one."""
    return _rank(level) <= _rank(required)


def same(a: float, b: float, *, any_nan: bool = True) -> bool:
    """Tell whether two values are equal. The zeros differ; two NaNs are equal if `any_nan`, or if `a` is canonical."""
    if math.isnan(a) and math.isnan(b):
        return any_nan or FLOAT64.encode(a, canonical=False) == FLOAT64.encode(math.nan)
    return a == b and math.copysign(1.0, a) == math.copysign(1.0, b)


def compute_format(request: StepRequest) -> Format:
    """Return the compute dtype of a step (ROSE-2.1, ROSE-2.5); float64 if its name must be refused."""
    name = request.options.get("compute_dtype", "fp64")
    if isinstance(name, str) and name.strip().lower() not in COMPUTE_FORMATS:
        return FLOAT64
    rule = Rule(Options(lr=0.0, compute_dtype=name))
    rule.choose_formats(request.param.dtype, stochastic=request.noise is not None)
    return rule.compute


def _rank(level: Level | None) -> int:
    return (*LEVELS, None).index(level)


def _closeness(got: float, expected: float, param: float, scale: Scale, storage: Format) -> tuple[int, float]:
    """Return the rank of the level of one differing value, and its difference in ulps."""
    if math.isnan(got) and math.isnan(expected):
        return _rank("rounded"), 0.0
    if not (math.isfinite(got) and math.isfinite(expected)):
        return _rank(None), math.inf
    magnitude = max(abs(expected), abs(param) if math.isfinite(param) else 0.0)
    difference = abs(got - expected)
    unit, stored = _ulp(scale.compute, magnitude), _ulp(storage, magnitude)
    rounded = scale.steps * (ROUNDED_ULPS * unit + (stored if storage.precision < scale.compute.precision else 0.0))
    formula = scale.steps * max(FORMULA * max(magnitude, scale.lr), rounded / scale.steps)
    level: Level | None = "rounded" if difference <= rounded else "formula" if difference <= formula else None
    return _rank(level), difference / max(unit, stored)


def _ulp(form: Format, magnitude: float) -> float:
    """Return the distance from a magnitude to the next larger one of a format."""
    exponent = max(math.frexp(magnitude)[1] - 1 if magnitude else -math.inf, 1 - form.bias)
    return math.ldexp(1.0, int(exponent) - form.precision + 1)
