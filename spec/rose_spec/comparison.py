"""How near an answer is: exact, rounded, formula, or none of them.

`exact`: the same dtype, shape and bits; the zeros are told apart, NaNs are not (ROSE-12.1).

`rounded`: off by at most 4 units in the last place of the compute dtype, taken at the larger of the
parameter's and the result's magnitude: the last operation adds the step to the parameter, so that this is
where a few roundings in another order show. Where the parameter is stored in fewer bits, one unit of
those is allowed too, since the rounding to them may go the other way.

`formula`: off by at most 1e-5 of the largest of the parameter, the result and lr, or by what `rounded`
allows. In float64 and float32 it tells whether the formulas are right, in whatever order they are computed.

At all levels NaN answers NaN and an infinity the same infinity. Only at `exact` does it matter that the NaN
of stochastic rounding has the word 7fc0 (ROSE-8.2). A trajectory of k steps may be off k times
as much.
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
# From the highest.
LEVELS: Final[tuple[Level, ...]] = ("exact", "rounded", "formula")

ROUNDED_ULPS: Final = 4
FORMULA: Final = 1e-5


@dataclass(frozen=True)
class Comparison:
    """The level of an answer, and by how much it misses the exact one.

    Attributes
    ----------
    level : str or None
        The highest level reached.
    ulps : float
        The largest difference, in units in the last place of the coarser of the compute dtype and the
        storage dtype; infinite where NaN, infinity or the form of the array differ.
    differing : tuple of int
        Which elements differ.
    detail : str
        What is wrong with the form of the array, empty where it is as it must be.
    """

    level: Level | None
    ulps: float = 0.0
    differing: tuple[int, ...] = ()
    detail: str = ""


@dataclass(frozen=True)
class Scale:
    """What the difference of an answer is measured by."""

    param: Tensor
    compute: Format
    lr: float
    steps: int = 1
    stochastic: bool = False

    @classmethod
    def of(cls, request: StepRequest) -> "Scale":
        """Return the scale of a step."""
        lr = request.options["lr"]
        number = number_from_json(lr) if isinstance(lr, str) else lr
        return cls(request.param, compute_format(request), number, stochastic=request.noise is not None)


def compare(got: Tensor, expected: Tensor, scale: Scale) -> Comparison:
    """Return how near an answer is to the expected one."""
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        form = f"{got.dtype} of shape {list(got.shape)}, not {expected.dtype} of shape {list(expected.shape)}"
        return Comparison(None, math.inf, (), f"the result is {form}")
    pairs = zip(got.values, expected.values, strict=True)
    differing = tuple(i for i, (a, b) in enumerate(pairs) if not same(a, b, any_nan=not scale.stochastic))
    storage = FORMATS[expected.dtype]
    level, ulps = 0, 0.0
    for i in differing:
        reached, distance = _nearness(got.values[i], expected.values[i], scale.param.values[i], scale, storage)
        level, ulps = max(level, reached), max(ulps, distance)
    return Comparison((*LEVELS, None)[level], ulps, differing)


def worst(comparisons: Sequence[Comparison]) -> Comparison:
    """Return one that stands for all: the lowest level, and the largest difference at that level."""
    return max(comparisons, key=lambda c: (_rank(c.level), c.ulps), default=Comparison("exact"))


def reaches(level: Level | None, asked: Level) -> bool:
    """Tell whether a level is the asked one or a higher one."""
    return _rank(level) <= _rank(asked)


def same(a: float, b: float, *, any_nan: bool = True) -> bool:
    """Tell whether two values are one: the zeros told apart, the NaNs not, unless their words matter."""
    if math.isnan(a) and math.isnan(b):
        return any_nan or FLOAT64.encode(a, canonical=False) == FLOAT64.encode(math.nan)
    return a == b and math.copysign(1.0, a) == math.copysign(1.0, b)


def compute_format(request: StepRequest) -> Format:
    """Return the compute dtype of a step (ROSE-2.1, ROSE-2.5); float64 where the options must be refused."""
    name = request.options.get("compute_dtype", "fp64")
    if isinstance(name, str) and name.strip().lower() not in COMPUTE_FORMATS:
        return FLOAT64
    rule = Rule(Options(lr=0.0, compute_dtype=name))
    rule.choose_formats(request.param.dtype, stochastic=request.noise is not None)
    return rule.compute


def _rank(level: Level | None) -> int:
    return (*LEVELS, None).index(level)


def _nearness(got: float, expected: float, param: float, scale: Scale, storage: Format) -> tuple[int, float]:
    """Return the rank of the level of one value that differs, and its difference in ulps."""
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
    """Return the distance from a magnitude to the next one of a format."""
    exponent = max(math.frexp(magnitude)[1] - 1 if magnitude else -math.inf, 1 - form.bias)
    return math.ldexp(1.0, int(exponent) - form.precision + 1)
