"""The gate over all slices in compiled code: the gate of `rose_core.rule`, from the ranges of the rows (ROSE-5)."""

import math

from rose_kernels.llvm.compilation import compiled

__all__ = ["denominator", "deviation_term", "range_term", "trust_factor"]


@compiled
def range_term(ranges, mean, unused, i):
    """Return the range of row i, as a summand of `summation.fold_sums_of`."""
    return ranges[i]


@compiled
def deviation_term(ranges, mean, unused, i):
    """Return the squared deviation of the range of row i from the mean range, as a summand."""
    deviation = ranges[i] - mean
    return deviation * deviation


@compiled
def trust_factor(mean64, variance, operation):
    """Return the mean range and the trust factor in the operation dtype (ROSE-5.2, ROSE-5.3)."""
    mean, deviation = operation(mean64), operation(math.sqrt(variance))
    return mean, mean / (operation(1.0) if mean == 0.0 else deviation + mean)


@compiled
def denominator(range_, gated, trust, mean, operation):
    """Return the divisor of a row: its range, blended with the mean range if `gated` (ROSE-5.4, ROSE-5.5)."""
    if gated:
        distance = range_ - mean
        from_mean, from_range = mean + trust * distance, range_ - distance * (operation(1.0) - trust)
        range_ = from_mean if trust < 0.5 else from_range
    return operation(1.0) if range_ == 0.0 else range_
