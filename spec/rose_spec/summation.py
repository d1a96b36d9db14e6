"""The sum that no order changes, from SPEC.md alone (ROSE-7)."""

import math
from collections.abc import Sequence
from fractions import Fraction

__all__ = ["exact_sum"]


def exact_sum(values: Sequence[float]) -> float:
    """Return the sum that no order changes, fold by fold (ROSE-7.2)."""
    if any(not math.isfinite(v) for v in values):
        return math.nan  # ROSE-7.3
    level = max(2, (len(values) - 1).bit_length())
    magnitude = max(abs(v) for v in values)
    power = (magnitude - math.nextafter(magnitude, 0.0)) * 2.0**52
    sigma, rest, sums = 1.5 * 2.0**level * power, list(values), []
    if math.isinf(sigma + magnitude):
        return math.nan
    for _ in range(2 if level <= 20 else 3):
        folds = [(v + sigma) - sigma for v in rest]
        sums.append(float(sum(map(Fraction, folds))))
        rest = [v - fold for v, fold in zip(rest, folds, strict=True)]
        sigma *= 2.0 ** (level - 54)
    return sums[0] + (sums[1] if len(sums) == 2 else sums[1] + sums[2])
