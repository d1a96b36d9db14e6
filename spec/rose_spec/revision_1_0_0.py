"""The rule of revision 1.0.0 (Appendix A): a different range, and special rules for vectors and single elements."""

import math
from typing import Final

from rose_spec.floats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format, add, sub
from rose_spec.oracle import Rule, Step

__all__ = ["Rule100", "ScalarsBySoftsign", "VectorsDamped"]

# ROSE-A.3: the cube roots of 1e-15, 1e-6, 1e-3 and 1e-2, with the bits that 1.0.0 computes.
FLOORS: Final[dict[Format, float]] = {
    FLOAT64: 1.0000000000000006e-05,
    FLOAT32: 0.010000000000000002,
    FLOAT16: 0.10000000000000002,
    BFLOAT16: 0.2154434690031884,
}


class RangeWithoutMagnitude(Rule):
    """The range is max - min (ROSE-A.5)."""

    def range(self, low: float, high: float) -> float:
        """Return the range of a slice."""
        return self.rc(sub(high, low, self.operation))


class VectorsDamped(Rule):
    """Slices of one element share a denominator: their common range plus 1 (ROSE-A.2, ROSE-A.4)."""

    def move(self, x: list[float], g: list[float], shape: tuple[int, ...], step: Step) -> list[float]:
        """Take the step."""
        if not shape or math.prod(shape[1:]) != 1:
            return super().move(x, g, shape, step)
        low, high = self.extrema(g)
        step.range = [self.rc(sub(high, low, self.operation))]
        step.denominator = [self.rc(add(step.range[0], 1.0, self.operation))]
        return [self.advance_element(a, b, step.denominator[0]) for a, b in zip(x, g, strict=True)]


class ScalarsBySoftsign(Rule):
    """A gradient of one element, of any rank, moves the parameter by a softsign (ROSE-A.3)."""

    def move(self, x: list[float], g: list[float], shape: tuple[int, ...], step: Step) -> list[float]:
        """Take the step."""
        if len(g) != 1:
            return super().move(x, g, shape, step)
        step.denominator = [self.rc(add(abs(g[0]), self.to_compute(FLOORS[self.compute]), self.operation))]
        return [self.advance_element(x[0], g[0], step.denominator[0])]


class Rule100(ScalarsBySoftsign, VectorsDamped, RangeWithoutMagnitude):
    """One step of Rose 1.0.0 for one parameter."""
