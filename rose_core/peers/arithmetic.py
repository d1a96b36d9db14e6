"""The operations that the rules share, each with one rounding order.

NOTE: [moving averages] An average is ``beta * average + (1 - beta) * x``, with ``1 - beta`` computed in Python.
``torch.lerp``, which other implementations call, rounds differently.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from rose_core.namespace import array_namespace, as_float64, convert, dtype_name, square_roots
from rose_core.summation import reproducible_sum

__all__ = [
    "Total",
    "at_least",
    "at_most",
    "clip_factor",
    "clipped_to_norm",
    "divide",
    "exponential",
    "l2",
    "mean_of",
    "moving_average",
    "rms",
    "root",
    "sign",
    "squares_of",
    "sum_of",
    "total_of",
]


def moving_average(average: Any, x: Any, beta: Any) -> Any:
    """Return the exponential moving average after one more value. NOTE: [moving averages]."""
    return beta * average + (1.0 - beta) * x


def divide(x: Any, number: float) -> Any:
    """Divide an array by a Python number. NOTE: [divisors are arrays] of `rose_core.namespace`."""
    return x if number == 1.0 else x / array_namespace(x).full_like(x, number)


def root(x: Any) -> Any:
    """Return the correctly rounded square root. The root in float64, rounded to float32, is correctly rounded too."""
    return square_roots(x) if dtype_name(x) == "float64" else convert(square_roots(as_float64(x)), "float32")


def sign(x: Any) -> Any:
    """Return -1, 0 or 1, and NaN for NaN. Libraries differ in the `xp.sign` of NaN and of -0."""
    return array_namespace(x).where(x > 0.0, 1.0, array_namespace(x).where(x < 0.0, -1.0, x + 0.0))


def at_least(x: Any, number: float) -> Any:
    """Return the larger of each element and a number. NaN stays NaN."""
    return array_namespace(x).where(x < number, number, x)


def at_most(x: Any, number: float) -> Any:
    """Return the smaller of each element and a number. NaN stays NaN."""
    return array_namespace(x).where(x > number, number, x)


def sum_of(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """Return the reproducible sum (ROSE-7.2) in the dtype of `x`."""
    total = convert(reproducible_sum(x, axis=axis), dtype_name(x))  # type: ignore[arg-type]
    if not keepdims:
        return total
    axes = {i % x.ndim for i in ((axis,) if isinstance(axis, int) else axis or range(x.ndim))}
    return array_namespace(x).reshape(total, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def mean_of(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    """Return the reproducible mean in the dtype of `x`."""
    total = sum_of(x, axis, keepdims=keepdims)
    return divide(total, float(math.prod(x.shape) // max(1, math.prod(total.shape))))


class Total(NamedTuple):
    """The sum of the squares of ``scale`` times some values, and the number of values.

    Arrays in float64. The scale is a power of two. With it, squares of large values do not overflow, and squares of
    small values do not underflow.
    """

    sum_of_squares: Any
    size: int
    scale: Any = 1.0

    @property
    def l2(self) -> Any:
        """The l2 norm of the values."""
        return root(self.sum_of_squares) / self.scale

    @property
    def rms(self) -> Any:
        """The root of the mean square of the values."""
        return root(divide(self.sum_of_squares, float(self.size))) / self.scale


def squares_of(x: Any, axis: Any = None) -> Total:
    """Return the sum of the squares of all elements at rank 0, or along axes, which keep the length 1."""
    wide, scale = as_float64(x), 1.0
    if dtype_name(x) == "float64" and 0 not in x.shape:  # squares of float32 neither over- nor underflow in float64
        scale = _scale_of_squares(x, axis)
        wide = wide * scale
    total = sum_of(wide * wide, axis, keepdims=axis is not None)
    return Total(total, math.prod(x.shape) // max(1, math.prod(total.shape)), scale)


def total_of(parts: Sequence[Total]) -> Total:
    """Return the sum of several sums, which are arrays of rank 0."""
    xp = array_namespace(parts[0].sum_of_squares)
    sums = xp.stack([part.sum_of_squares for part in parts])
    scales = xp.stack([part.scale * xp.ones_like(part.sum_of_squares) for part in parts])
    scale = xp.min(scales)  # that of the largest values
    ratios = scale / scales
    return Total(sum_of(sums * ratios * ratios), sum(part.size for part in parts), scale)


def l2(x: Any, axis: Any = None) -> Any:
    """Return the l2 norm in the dtype of `x`: of all elements at rank 0, or along axes, which keep the length 1."""
    return convert(squares_of(x, axis).l2, dtype_name(x))  # type: ignore[arg-type]


def rms(x: Any, axis: Any = None) -> Any:
    """Return the root of the mean square, in the dtype and the shape of `l2`."""
    return convert(squares_of(x, axis).rms, dtype_name(x))  # type: ignore[arg-type]


def _scale_of_squares(x: Any, axis: Any) -> Any:
    """Return the power of two that keeps the square of the largest finite magnitude from over- and underflowing."""
    xp = array_namespace(x)
    largest = xp.max(xp.where(xp.isfinite(x), xp.abs(x), 0.0), axis=axis, keepdims=axis is not None)
    one = xp.ones_like(largest)
    return xp.where(largest > 2.0**400, 2.0**-600 * one, xp.where(largest < 2.0**-400, 2.0**600 * one, one))


def clip_factor(norm: Any, limit: float) -> Any:
    """Return the factor that scales a norm down to a limit: 1 if the norm is not larger, and 1 for NaN."""
    xp, is_larger = array_namespace(norm), norm > limit
    return xp.where(is_larger, xp.full_like(norm, limit) / xp.where(is_larger, norm, 1.0), 1.0)


def clipped_to_norm(x: Any, norm: Any, limit: float) -> Any:
    """Return an array with a norm, scaled so that the norm is within a limit."""
    return x * convert(clip_factor(norm, limit), dtype_name(x))  # type: ignore[arg-type]


def exponential(x: Any) -> Any:
    """Return e**x for elements in [-100, 100], within about 1e-13 of it. Libraries differ in their `xp.exp`.

    The Taylor polynomial of x / 128, of degree 14, is squared 7 times.
    """
    small, xp = divide(x, 128.0), array_namespace(x)
    result = xp.ones_like(small)
    for degree in range(14, 0, -1):
        result = 1.0 + divide(small * result, float(degree))
    for _ in range(7):
        result = result * result
    return result
