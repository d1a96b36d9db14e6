"""The elementwise update: the last of the three phases (ROSE-6)."""

from typing import Any

from rose_core.namespace import AddScaledQuotient, Array, add_scaled_quotient, array_namespace, scalar
from rose_core.rounding import ComputeDtype, round_number, round_to_compute

__all__ = ["advance", "advance_by_sign"]


def advance(
    x: Array,
    g: Array,
    denominator: Array,
    *,
    lr: float,
    compute: ComputeDtype,
    add: AddScaledQuotient = add_scaled_quotient,
) -> Any:
    """Step against the gradient divided by its slice's denominator (ROSE-6.1); `x` and `g` are written over."""
    return round_to_compute(add(x, round_number(-lr, compute), g, denominator), compute)


def advance_by_sign(x: Array, g: Array, *, lr: float, compute: ComputeDtype) -> Any:
    """Step against the sign of a gradient of rank 0 (ROSE-6.2)."""
    xp = array_namespace(x)
    # Not xp.sign: libraries differ in the sign of NaN and of a zero.
    sign = xp.astype(g > 0.0, x.dtype) - xp.astype(g < 0.0, x.dtype)
    step = sign * round_to_compute(scalar(x, round_number(-lr, compute)), compute)
    return round_to_compute(x + xp.where(xp.isnan(g), g, step), compute)
