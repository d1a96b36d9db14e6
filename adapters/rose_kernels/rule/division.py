"""Division by what many elements are divided by, to the same bits, without a division for each.

A division takes a processor as long as a dozen multiplications. Here the product with the reciprocal, rounded to
nearest, is an estimate, which one step with fused operations corrects: x / d is `q + (x - d * q) * y`, where `y` is
1 / d and `q` is x * y. That is Markstein's way (IBM Journal of Research and Development 34, 1990), and it rounds as
division does. Let x and d lie in [1, 2). The correction is off by less than 1.5 * 2**-52 units in the last place of
x / d, so that it could be wrong only as near as that to a tie. There `q` is one of the two floats beside the tie (but
for an x next to 2, whose quotients are nearly floats), the remainder is exact, and the error below d * 2**-55 units; a
quotient that is no tie, and none is, lies 2**-53 / d units away from one at least, which is more, since d**2 < 4.

What is divided must be so far from the ends of float64 that nothing over- or underflows.
"""

from typing import Any

from numba import types
from numba.extending import overload

from rose_kernels.llvm.arithmetic import fma, has_fma
from rose_kernels.llvm.compilation import compiled

__all__ = ["at", "divided", "has_reciprocal", "multiplies", "with_reciprocal"]

# Divisors between these have a reciprocal that will do, and rates of these magnitudes keep what is divided within
# 2**-665 and 2**529: the difference of an element and a mean is 0 or at least 2**-265, if the elements are of 32 bits
# or fewer and a row has fewer than 2**63 of them.
_LEAST_DIVISOR, _MOST_DIVISOR = 2.0**-300, 2.0**300
_LEAST_RATE, _MOST_RATE = 2.0**-400, 2.0**400


def multiplies(grad_word: Any, operation: Any) -> Any:
    """Tell whether this machine can multiply in place of dividing, for gradients of a word and an operation dtype."""
    raise NotImplementedError


@overload(multiplies)
def _compiled_multiplies(grad_word, operation):
    fits = operation.instance_type == types.float64 and grad_word.instance_type.bitwidth <= 32
    return lambda grad_word, operation: fits and has_fma()


@compiled
def has_reciprocal(divisor, rate):
    """Tell whether quotients by a divisor are right, of elements less a mean, times a rate; NaN is none."""
    return (_LEAST_DIVISOR <= divisor <= _MOST_DIVISOR) and (rate == 0.0 or _LEAST_RATE <= abs(rate) <= _MOST_RATE)


@compiled
def with_reciprocal(divisor, operation):
    """Return a divisor, and its reciprocal rounded to nearest."""
    return divisor, operation(1.0) / divisor


def divided(x: Any, divisors: Any, i: Any) -> Any:
    """Return x / d, where `divisors` is (d,) or what `with_reciprocal` makes of d, or the arrays that have d at i."""
    raise NotImplementedError


@overload(divided)
def _compiled_divided(x, divisors, i):
    def by_division(x, divisors, i):
        return x / at(divisors[0], i)

    def by_multiplication(x, divisors, i):
        divisor, reciprocal = at(divisors[0], i), at(divisors[1], i)
        estimate = x * reciprocal
        # The remainder is negated twice, so that one of +0 leaves the sign of an estimate of 0.
        return fma(-fma(divisor, estimate, -x), reciprocal, estimate)

    return by_multiplication if len(divisors) == 2 else by_division


def at(values: Any, i: Any) -> Any:
    """Return the i-th of an array of values, or the one value of all."""
    raise NotImplementedError


@overload(at)
def _compiled_at(values, i):
    if isinstance(values, types.Array):
        return lambda values, i: values[i]
    return lambda values, i: values
