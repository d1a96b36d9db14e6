"""The reproducible sum, which has the same bits in any order of its summands (ROSE-7); written from SPEC.md alone."""

import math
from collections.abc import Sequence

from rose_spec.floats import total

__all__ = ["reproducible_sum"]


def reproducible_sum(values: Sequence[float]) -> float:
    """Return the reproducible sum of float64 values, fold by fold (ROSE-7.2)."""
    if any(not math.isfinite(v) for v in values):
        return math.nan  # ROSE-7.3
    level = max(2, (len(values) - 1).bit_length())
    magnitude = max(abs(v) for v in values)
    power = (magnitude - math.nextafter(magnitude, 0.0)) * 2.0**52
    sigma, rest, sums = 1.5 * 2.0**level * power, list(values), []
    if any(math.isinf(v + sigma) for v in values):
        return math.nan  # ROSE-7.3
    for _ in range(2 if level <= 20 else 3):
        folds = [(v + sigma) - sigma for v in rest]
        sums.append(total(folds))
        rest = [v - fold for v, fold in zip(rest, folds, strict=True)]
        sigma *= 2.0 ** (level - 54)
    return sums[0] + (sums[1] if len(sums) == 2 else sums[1] + sums[2])
