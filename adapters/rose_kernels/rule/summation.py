"""Reproducible sums in compiled code (ROSE-7): the folds of `rose_core.summation`, added as integers.

NOTE: [folds as integers] A fold rounds each summand r to q = (r + s) - s. Every r + s lies in the binade of s. There
neighbouring floats are ulp(s) apart, and their bits, read as integers, differ by 1. So the sum of n values q is

    (sum of the bits of r + s, minus n times the bits of s) * ulp(s)

Integer additions are exact modulo 2**64 in every order. A compiler vectorizes them without reassociating floats, and
threads combine their parts of a sum by atomic additions.

In this file a *fold sum* is the sum of the bits of r + s in one fold. Functions pass three of them as `sums`. `sigma`
is the s of the first fold; `scale`, `ratio` and `folds` come from `fold_constants`.
"""

import math
from typing import Any

import numpy as np

from rose_kernels.llvm.bits import bits_of, float_of
from rose_kernels.llvm.compilation import compiled, indices

__all__ = [
    "first_sigma",
    "fold",
    "fold_constants",
    "fold_sums_of",
    "split_exact_sum",
    "split_is_safe",
    "sum_of_folds",
    "ulp",
]


def fold_constants(count: int) -> tuple[float, float, int]:
    """Return the scale 1.5 * 2**L, the ratio 2**(L - 54) and the number of folds F for `count` summands (ROSE-7.2).

    The first s is P times the scale; each further s is the one before times the ratio.
    """
    level = max(2, (count - 1).bit_length())
    return 1.5 * 2.0**level, 2.0 ** (level - 54), 2 if level <= 20 else 3


@compiled
def first_sigma(magnitude, scale):
    """Return the s of the first fold, given the largest magnitude of the summands, which must not be NaN."""
    if magnitude == 0.0:
        return 0.0
    below = float_of(bits_of(magnitude) - 1)
    return ((magnitude - below) * 2.0**52) * scale


@compiled
def fold(x, sigma):
    """Return the bits of x + s, and the rest of x for the next fold."""
    raised = x + sigma
    return bits_of(raised), x - (raised - sigma)


def fold_sums_of(term: Any) -> Any:
    """Return a compiled function that computes the fold sums of the summands `term(a, b, c, i)`."""

    def fold_sums(a, b, c, count, sigma, ratio, folds):
        """Return three fold sums over i from 0 to `count`; the third is 0 if there are two folds."""
        first = second = third = np.int64(0)
        sigma2 = sigma * ratio
        sigma3 = sigma2 * ratio
        if folds == 2:
            for i in indices(0, count):
                bits, rest = fold(term(a, b, c, i), sigma)
                first += bits
                second += bits_of(rest + sigma2)
        else:
            for i in indices(0, count):
                bits, rest = fold(term(a, b, c, i), sigma)
                first += bits
                bits, rest = fold(rest, sigma2)
                second += bits
                third += bits_of(rest + sigma3)
        return first, second, third

    # NOTE: [unique names] Numba links cached functions by qualified name, argument types and a counter of the process
    # that compiled them. Two closures of one function can agree in all three, so each gets a different name.
    fold_sums.__qualname__ = f"fold_sums_of_{term.py_func.__name__}"
    return compiled(fold_sums)


@compiled
def ulp(sigma):
    """Return the unit in the last place of an s: its fold rounds the summands to multiples of this."""
    return float_of(bits_of(sigma) + 1) - sigma


@compiled
def split_exact_sum(exact, count, sigma, ratio):
    """Return fold sums whose total is a sum that is known exactly.

    The sum must be a multiple of the ulp of the second s. The result differs from the fold sums of the summands, but
    `sum_of_folds` gives the same for both if `split_is_safe`.
    """
    first, second = ulp(sigma), ulp(sigma * ratio)
    units = np.int64(exact / first)
    rest = np.int64((exact - np.float64(units) * first) / second)
    return (
        count * bits_of(sigma) + units,
        count * bits_of(sigma * ratio) + rest,
        count * bits_of(sigma * ratio * ratio),
    )


@compiled
def sum_of_folds(sums, count, sigma, ratio, folds, highest):
    """Return the reproducible sum of `count` summands from their fold sums; `highest` is the largest summand."""
    if not math.isfinite(highest + sigma):  # ROSE-7.3
        return np.nan
    rest = _fold_value(sums[1], count, sigma * ratio)
    if folds == 3:
        rest += _fold_value(sums[2], count, sigma * ratio * ratio)
    return _fold_value(sums[0], count, sigma) + rest


@compiled
def _fold_value(fold_sum, count, sigma):
    """Return S_f of ROSE-7.2: the sum of the values q of one fold."""
    return np.float64(fold_sum - count * bits_of(sigma)) * ulp(sigma)


@compiled
def split_is_safe(sums, count, sigma, ratio, folds):
    """Tell whether `sum_of_folds` keeps its bits although `split_exact_sum` made some of the fold sums.

    NOTE: [safe splits] A split moves multiples of ulp(s) between the folds, but keeps their exact total. Two folds are
    added with one rounding, so their sum keeps its bits. Of three folds the smaller two are added first. That rounding
    depends on the split, by less than `error`, and mostly does not change the final sum.
    """
    third = _fold_value(sums[2], count, sigma * ratio * ratio)
    if folds == 2 or third == 0.0 or math.isnan(sigma):
        return True
    first, rest = _fold_value(sums[0], count, sigma), _fold_value(sums[1], count, sigma * ratio) + third
    error = count * ulp(sigma) * 2.0**-51
    return first + (rest - error) == first + (rest + error)
