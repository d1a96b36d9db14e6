"""The gate over all slices: ranges to trust to denominators, the second of the three phases (ROSE-5)."""

from typing import Any

from rose_core.namespace import Array, array_namespace, square_root
from rose_core.rounding import ComputeDtype, round_to_compute, to_compute
from rose_core.summation import LOCAL, Reductions, exact_mean, to_summand

__all__ = ["denominators"]


def denominators(
    range_: Array, *, stabilize: bool, compute: ComputeDtype, reductions: Reductions = LOCAL
) -> tuple[Any, Any]:
    """Return the trust factor (or None) and the denominator of each slice, in the shape of `range_`.

    `range_` is held in the operation dtype; `reductions` run over all slices. A gradient of rank 1 is
    one slice, which has no gate.
    """
    xp = array_namespace(range_)
    trust, denominator = None, range_
    if stabilize and range_.ndim >= 2:
        mean, std = _moments(range_, compute, reductions)
        trust = _trust(mean, std, compute)
        denominator = _blend(mean, range_, trust, compute)
    return trust, xp.where(denominator == 0.0, xp.ones_like(denominator), denominator)


def _moments(range_: Array, compute: ComputeDtype, reductions: Reductions) -> tuple[Any, Any]:
    """Return the mean and the population standard deviation of the ranges, in C (ROSE-5.2)."""
    axis = tuple(range(range_.ndim))
    range64 = to_summand(range_)
    mean64 = exact_mean(range64, axis, reductions=reductions)
    deviation = range64 - mean64
    std64 = square_root(exact_mean(deviation * deviation, axis, reductions=reductions))
    return to_compute(mean64, compute), to_compute(std64, compute)


def _trust(mean: Array, std: Array, compute: ComputeDtype) -> Any:
    """Return mean / (std + mean): near 1 where the ranges agree, near 0 where they differ (ROSE-5.3)."""
    xp = array_namespace(mean)
    total = round_to_compute(std + mean, compute)
    return round_to_compute(mean / xp.where(mean == 0.0, xp.ones_like(total), total), compute)


def _blend(mean: Array, range_: Array, trust: Array, compute: ComputeDtype) -> Any:
    """Interpolate from the mean (trust 0) to the slice's own range (trust 1) (ROSE-5.4)."""
    xp = array_namespace(range_)
    distance = range_ - mean
    from_mean = mean + trust * distance
    from_range = range_ - distance * (1.0 - trust)
    return round_to_compute(xp.where(trust < 0.5, from_mean, from_range), compute)
