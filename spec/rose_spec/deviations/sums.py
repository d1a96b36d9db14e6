"""Deviations of sums (ROSE-7)."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Final

from rose_spec.deviations.deviation import Deviation, known_as
from rose_spec.floats import FLOAT32, FLOAT64, Format, add, cast, total
from rose_spec.oracle import Rule

__all__ = ["SUMS"]


class PlainSums(Rule):
    def sum(self, values: Sequence[float]) -> float:
        return _added(values, FLOAT64)


class SumsInOperationDtype(Rule):
    def sum(self, values: Sequence[float]) -> float:
        return _added([self.to_operation(value) for value in values], self.operation)


class SumsInFloat32(Rule):
    def sum(self, values: Sequence[float]) -> float:
        return _added([cast(value, FLOAT32) for value in values], FLOAT32)


class SumsOfNumpy(Rule):
    def sum(self, values: Sequence[float]) -> float:
        return _added_by_eights(values, FLOAT64)


class SumsOfNumpyInFloat32(Rule):
    def sum(self, values: Sequence[float]) -> float:
        return _added_by_eights([cast(value, FLOAT32) for value in values], FLOAT32)


class SumsExact(Rule):
    def sum(self, values: Sequence[float]) -> float:
        return total(values) if all(map(math.isfinite, values)) else math.nan


def _added(values: Sequence[float], form: Format) -> float:
    """Return the sum from left to right."""
    return reduce(lambda a, b: add(a, b, form), values, 0.0)


def _added_by_eights(values: Sequence[float], form: Format) -> float:
    """Return the sum as NumPy computes it for up to 128 adjacent elements: in eight parts."""
    if len(values) < 8:
        return _added(values, form)
    whole = len(values) // 8 * 8
    parts = [reduce(lambda a, b: add(a, b, form), values[i:whole:8]) for i in range(8)]
    pairs = [add(parts[i], parts[i + 1], form) for i in (0, 2, 4, 6)]
    first = add(add(pairs[0], pairs[1], form), add(pairs[2], pairs[3], form), form)
    return reduce(lambda a, b: add(a, b, form), values[whole:], first)


def _power(magnitude: float) -> float:
    """Return the largest power of two that is less than a magnitude."""
    return (magnitude - math.nextafter(magnitude, 0.0)) * 2.0**52


def _folded(
    *,
    level: Callable[[int], int] = lambda n: max(2, (n - 1).bit_length()),
    folds: int = 2,
    power: Callable[[float], float] = _power,
    factor: float = 1.5,
    shift: int = 54,
) -> type[Rule]:
    """Return a rule with one slip in the reproducible sum (ROSE-7.2)."""

    class Folded(Rule):
        def sum(self, values: Sequence[float]) -> float:
            if any(not math.isfinite(value) for value in values):
                return math.nan
            bits = level(len(values))
            s, rest, sums = factor * 2.0**bits * power(max(map(abs, values))), list(values), []
            if not math.isfinite(s):
                return math.nan
            for _ in range(folds):
                parts = [(value + s) - s for value in rest]
                if not all(map(math.isfinite, parts)):
                    return math.nan
                sums.append(total(parts))
                rest = [value - part for value, part in zip(rest, parts, strict=True)]
                s *= 2.0 ** (bits - shift)
            return reduce(lambda a, b: b + a, reversed(sums))

    return Folded


def _power_or_equal(magnitude: float) -> float:
    return math.ldexp(1.0, math.frexp(magnitude)[1] - 1) if magnitude else 0.0


SUMS: Final[tuple[Deviation, ...]] = (
    known_as("plain-sums", "sums add from left to right in float64", "ROSE-7.1", PlainSums),
    known_as(
        "sums-in-operation-dtype",
        "sums add from left to right in the operation dtype",
        "ROSE-7.2",
        SumsInOperationDtype,
    ),
    known_as("sums-in-float32", "sums add from left to right in float32", "ROSE-7.2", SumsInFloat32),
    known_as("sums-of-numpy", "sums add in the order of NumPy in float64", "ROSE-7.1", SumsOfNumpy),
    known_as("sums-of-numpy-in-float32", "sums add in the order of NumPy in float32", "ROSE-7.2", SumsOfNumpyInFloat32),
    known_as("sums-exact", "sums are exact, and rounded once", "ROSE-7.2", SumsExact),
    *(
        known_as(f"sum-{name}", f"the reproducible sum {sentence}", "ROSE-7.2", rule)
        for name, sentence, rule in (
            (
                "with-bits-of-n",
                "takes L from bit_length(n), not bit_length(n - 1)",
                _folded(level=lambda n: max(2, n.bit_length())),
            ),
            ("without-least-l", "has no lower limit of 2 for L", _folded(level=lambda n: (n - 1).bit_length())),
            ("of-one-fold", "has only one fold", _folded(folds=1)),
            ("of-three-folds", "always has three folds", _folded(folds=3)),
            ("with-power-of-m", "takes P = M if M is a power of two", _folded(power=_power_or_equal)),
            ("without-half", "starts with s = 2**L * P, without the factor 1.5", _folded(factor=1.0)),
            ("with-shift-53", "continues with s * 2**(L - 53), not 2**(L - 54)", _folded(shift=53)),
        )
    ),
)
