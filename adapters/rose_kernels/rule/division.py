"""Division of many elements by one divisor, by multiplication, to the bits of division.

A division takes as long as about a dozen multiplications. With y, the reciprocal of d rounded to nearest, x / d is

    q = x * y                    an estimate
    x / d = q + (x - d * q) * y  one correction, by two fused multiply-adds

This is the method of Markstein (IBM Journal of Research and Development 34, 1990).

NOTE: [correct rounding] The result is x / d rounded to nearest, for these reasons. Let x and d lie in [1, 2), and count
in units in the last place of x / d.

1. Before its last rounding the correction is off by less than 1.5 * 2**-52 units. So the result can be wrong only if
   x / d is as near as that to a tie, which is a point half way between two floats.
2. Near a tie, q is one of the two floats beside the tie. (An x next to 2 is an exception, but its quotients are close
   to floats.) Then x - d * q is exact, and the error is below d * 2**-55 units.
3. No quotient is a tie: each is at least 2**-53 / d units away from one. That is more than the error, since d**2 < 4.

Other exponents change nothing as long as nothing overflows or underflows; `has_reciprocal` makes sure of that.
"""

from typing import Any, Final

from numba import types
from numba.extending import overload

from rose_kernels.llvm.arithmetic import fma, has_fma
from rose_kernels.llvm.compilation import compiled

__all__ = ["can_multiply", "divide", "has_reciprocal", "value_at", "with_reciprocal"]

# The difference of an element and its mean is 0 or at least 2**-265, for elements of 32 bits or fewer and rows of fewer
# than 2**63 elements. With an lr between these bounds, dividends lie between 2**-665 and 2**529.
_MIN_LR: Final = 2.0**-400
_MAX_LR: Final = 2.0**400
_MIN_DIVISOR: Final = 2.0**-300
_MAX_DIVISOR: Final = 2.0**300


def can_multiply(grad_storage: Any, operation: Any) -> Any:
    """Return whether `divide` may multiply on this machine, for these dtypes; a constant in compiled code."""
    raise NotImplementedError


@overload(can_multiply)
def _compiled_can_multiply(grad_storage, operation):
    fits = operation.instance_type == types.float64 and grad_storage.instance_type.bitwidth <= 32
    return lambda grad_storage, operation: fits and has_fma()


@compiled
def has_reciprocal(divisor, lr):
    """Tell whether `divide` may use the reciprocal of a divisor, given the lr or its negative; False for NaN."""
    return (_MIN_DIVISOR <= divisor <= _MAX_DIVISOR) and (lr == 0.0 or _MIN_LR <= abs(lr) <= _MAX_LR)


@compiled
def with_reciprocal(divisor, operation):
    """Return a divisor, and its reciprocal rounded to nearest."""
    return divisor, operation(1.0) / divisor


def divide(x: Any, divisors: Any, i: Any) -> Any:
    """Return x / d.

    `divisors` is a tuple: (d,) divides, and (d, reciprocal of d) multiplies. Its members may also be arrays that hold
    the values of element i at index i.
    """
    raise NotImplementedError


@overload(divide)
def _compiled_divide(x, divisors, i):
    def by_division(x, divisors, i):
        return x / value_at(divisors[0], i)

    def by_multiplication(x, divisors, i):
        divisor, reciprocal = value_at(divisors[0], i), value_at(divisors[1], i)
        estimate = x * reciprocal
        # The remainder is computed with both signs reversed, and negated: so +0 keeps the sign of an estimate of 0.
        return fma(-fma(divisor, estimate, -x), reciprocal, estimate)

    return by_multiplication if len(divisors) == 2 else by_division


def value_at(values: Any, i: Any) -> Any:
    """Return element i of an array, or the scalar that stands for all elements."""
    raise NotImplementedError


@overload(value_at)
def _compiled_value_at(values, i):
    if isinstance(values, types.Array):
        return lambda values, i: values[i]
    return lambda values, i: values
