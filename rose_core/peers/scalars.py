"""Powers and logarithms of Python floats, with the same bits on every machine: the C library's differ."""

from decimal import Context, Decimal
from typing import Final

__all__ = ["power", "real_exponential", "real_logarithm", "real_power"]

# `exp` and `ln` of the decimal standard are correctly rounded. 40 digits leave the last rounding to the float.
_DIGITS: Final = Context(prec=40)


def power(base: float, exponent: int) -> float:
    """Return an integer power: the float product of the squares that the bits of the exponent name, lowest first."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base, exponent = base * base, exponent >> 1
    return result


def real_power(base: float, exponent: float) -> float:
    """Return a power of a positive number, exp(exponent ln(base)) with 40 digits."""
    product = _DIGITS.multiply(Decimal(exponent), _DIGITS.ln(Decimal(base)))
    return float(_DIGITS.exp(product))


def real_logarithm(x: float) -> float:
    """Return the natural logarithm of a positive number."""
    return float(_DIGITS.ln(Decimal(x)))


def real_exponential(x: float) -> float:
    """Return the exponential of a number."""
    return float(_DIGITS.exp(Decimal(x)))
