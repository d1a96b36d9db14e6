"""Exact sums in compiled code (ROSE-7): the folds of `rose_core.summation`, added up as integers.

`r + s` stays within the binade of `s`, so that a fold, a sum of differences of such floats, is the sum of their
words less those of `s`, in units in the last place of `s`. Integers may be added in any order, modulo 2**64, which
a compiler turns into vectors without leave to reassociate floats.

Where the sum of the summands themselves is known to be exact, `split` makes of it what their folds add up to.
"""

import math
from typing import Any

import numpy as np

from rose_kernels.llvm.bits import bits_of, float_of
from rose_kernels.llvm.compilation import compiled, indices

__all__ = [
    "constants_of",
    "first_sigma",
    "fold",
    "fold_sums_of",
    "is_settled",
    "last_place",
    "split",
    "total",
]


def constants_of(count: int) -> tuple[float, float, int]:
    """Return the scale of the first s for so many summands, the ratio of each s to the one before, and how many.

    These are 1.5 * 2**L, 2**(L - 54) and F (ROSE-7.2).
    """
    level = max(2, (count - 1).bit_length())
    return 1.5 * 2.0**level, 2.0 ** (level - 54), 2 if level <= 20 else 3


@compiled
def first_sigma(magnitude, scale):
    """Return the s of the first fold; `scale` is that of `constants_of`, and `magnitude` is not NaN."""
    if magnitude == 0.0:
        return 0.0
    below = float_of(bits_of(magnitude) - 1)
    return ((magnitude - below) * 2.0**52) * scale


@compiled
def fold(x, sigma):
    """Return the word of x + s, and what is left of x."""
    raised = x + sigma
    return bits_of(raised), x - (raised - sigma)


def fold_sums_of(term: Any) -> Any:
    """Return a compiled function that sums the folds of the summands `term(a, b, c, i)`."""

    def fold_sums(a, b, c, count, sigma, ratio, folds):
        """Return the sums of the words of r + s in each of two or three folds, of the summands below `count`.

        `ratio` and `folds` are two of `constants_of`.
        """
        first = second = third = np.int64(0)
        sigma2 = sigma * ratio
        sigma3 = sigma2 * ratio
        if folds == 2:
            for i in indices(0, count):
                word, rest = fold(term(a, b, c, i), sigma)
                first += word
                second += bits_of(rest + sigma2)
        else:
            for i in indices(0, count):
                word, rest = fold(term(a, b, c, i), sigma)
                first += word
                word, rest = fold(rest, sigma2)
                second += word
                third += bits_of(rest + sigma3)
        return first, second, third

    # NOTE: [one name a function] What was compiled and kept by another process is linked by its name, which is made
    # of the function's name, the types of its arguments and a count of the process. All but the name may coincide.
    fold_sums.__qualname__ = f"fold_sums_of_{term.py_func.__name__}"
    return compiled(fold_sums)


@compiled
def last_place(sigma):
    """Return the unit in the last place of an s: what the summands are rounded to in its fold."""
    return float_of(bits_of(sigma) + 1) - sigma


@compiled
def split(exact, count, sigma, ratio):
    """Return sums of folds, for `total`, of so many summands whose sum is known and a multiple of the second's place.

    They are not those that the summands have, but they add up to the same.
    """
    first, second = last_place(sigma), last_place(sigma * ratio)
    units = np.int64(exact / first)
    rest = np.int64((exact - np.float64(units) * first) / second)
    return (
        count * bits_of(sigma) + units,
        count * bits_of(sigma * ratio) + rest,
        count * bits_of(sigma * ratio * ratio),
    )


@compiled
def total(sums, count, sigma, ratio, folds, highest):
    """Return the exact sum of so many summands, the largest of which is `highest`, from the sums of their words."""
    if not math.isfinite(highest + sigma):  # ROSE-7.3
        return np.nan
    rest = _fold_value(sums[1], count, sigma * ratio)
    if folds == 3:
        rest += _fold_value(sums[2], count, sigma * ratio * ratio)
    return _fold_value(sums[0], count, sigma) + rest


@compiled
def _fold_value(words, count, sigma):
    return np.float64(words - count * bits_of(sigma)) * last_place(sigma)


@compiled
def is_settled(sums, count, sigma, ratio, folds):
    """Tell whether `total` is the exact sum, of `sums` some of which `split` may have made.

    NOTE: [what is settled] Two folds are added with one rounding, however the sum is divided between them. Of three
    the smaller two are rounded first, and how depends on the division; by less than `error`, which mostly moves no
    result.
    """
    third = _fold_value(sums[2], count, sigma * ratio * ratio)
    if folds == 2 or third == 0.0 or math.isnan(sigma):
        return True
    first, rest = _fold_value(sums[0], count, sigma), _fold_value(sums[1], count, sigma * ratio) + third
    error = count * last_place(sigma) * 2.0**-51
    return first + (rest - error) == first + (rest + error)
