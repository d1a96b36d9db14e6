"""The operations that the rules share, each with one rounding order.

NOTE: [moving averages] An average is ``beta * average + (1 - beta) * x``, with ``1 - beta`` computed in Python.
``torch.lerp``, which other implementations call, rounds differently.
"""

from typing import Any

from rose_core.namespace import array_namespace, as_float64, convert, dtype_name, square_roots
from rose_core.summation import reproducible_sum

__all__ = ["at_least", "at_most", "divide", "l2", "mean_of", "moving_average", "rms", "root", "sign", "sum_of"]


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
    return divide(total, float(_size(x) // max(1, _size(total))))


def l2(x: Any) -> Any:
    """Return the l2 norm of all elements, an array of rank 0."""
    return root(sum_of(x * x))


def rms(x: Any) -> Any:
    """Return the root of the mean square of all elements, an array of rank 0."""
    return root(mean_of(x * x))


def _size(x: Any) -> int:
    size = 1
    for length in x.shape:
        size *= length
    return size


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
