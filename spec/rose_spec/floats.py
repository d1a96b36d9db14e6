"""Floating-point formats and correctly rounded operations on them, by exact rational arithmetic.

A value of any format is held in a Python float. An operation is computed exactly on integers and rounded once, so
nothing here depends on the arithmetic of the machine, unless `rose_spec.machine` is in use.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final

from rose_spec.machine import by_machine, sum_by_machine

__all__ = [
    "BFLOAT16",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "FORMATS",
    "Format",
    "add",
    "cast",
    "div",
    "mul",
    "sqrt",
    "sub",
    "total",
]


@dataclass(frozen=True)
class Format:
    """A binary interchange format of IEEE 754, or bfloat16.

    Parameters
    ----------
    name : str
        The NumPy name of the dtype.
    width : int
        The number of bits of a word.
    precision : int
        The number of bits of the significand, including the implicit bit.
    """

    name: str
    width: int
    precision: int

    @property
    def digits(self) -> int:
        """Return the number of hexadecimal digits of a word."""
        return self.width // 4

    @cached_property
    def bias(self) -> int:
        """Return the exponent bias, which is also the largest exponent."""
        return int(2 ** (self.width - self.precision - 1)) - 1

    @cached_property
    def last_place(self) -> int:
        """Return the exponent of the smallest positive value, 2**last_place."""
        return 2 - self.bias - self.precision

    def decode(self, word: int) -> float:
        """Return the value of a word."""
        sign = -1.0 if word >> (self.width - 1) else 1.0
        exponent, fraction = divmod(word & (2 ** (self.width - 1) - 1), 2 ** (self.precision - 1))
        if exponent == 2 * self.bias + 1:
            return self._nan(sign, fraction) if fraction else math.copysign(math.inf, sign)
        significand = fraction + (2 ** (self.precision - 1) if exponent else 0)
        return math.copysign(math.ldexp(significand, max(exponent, 1) + self.last_place - 1), sign)

    def encode(self, value: float, *, canonical: bool = True) -> int:
        """Return the word of a value of this format; with `canonical`, every NaN has the same word."""
        hidden = 1 << (self.precision - 1)
        infinity = (2 * self.bias + 1) * hidden
        sign = 1 << (self.width - 1) if math.copysign(1.0, value) < 0 else 0
        if math.isnan(value):
            return infinity + hidden // 2 if canonical else self._nan_word(value)
        if math.isinf(value):
            return sign + infinity
        numerator, denominator = abs(value).as_integer_ratio()
        quanta, rest = divmod(numerator << -self.last_place, denominator)
        exponent = max(quanta.bit_length() - self.precision, 0)
        significand, cut_off = divmod(quanta, 1 << exponent)
        if rest or cut_off:
            raise ValueError(f"{value!r} is not a {self.name}")
        return sign + significand + exponent * hidden

    def _nan(self, sign: float, fraction: int) -> float:
        """Return the NaN with a payload as a Python float, which can hold the payload of any format."""
        word = (1 << 63 if sign < 0 else 0) | 0x7FF << 52 | fraction << (53 - self.precision)
        return float(struct.unpack(">d", word.to_bytes(8, "big"))[0])

    def _nan_word(self, value: float) -> int:
        """Return the word of a NaN with its sign, and with the bits of its payload that fit."""
        sign, rest = divmod(int.from_bytes(struct.pack(">d", value), "big"), 1 << 63)
        magnitude = rest >> (53 - self.precision) & ((1 << (self.width - 1)) - 1)
        return sign << (self.width - 1) | magnitude

    def round(self, numerator: int, denominator: int) -> float:
        """Round a quotient that is not 0 to the nearest value, ties to even; it may overflow to infinity."""
        sign = -1.0 if (numerator < 0) != (denominator < 0) else 1.0
        numerator, denominator = abs(numerator), abs(denominator)
        # 2**exponent <= numerator / denominator < 2**(exponent + 1)
        exponent = numerator.bit_length() - denominator.bit_length()
        exponent -= numerator << max(-exponent, 0) < denominator << max(exponent, 0)
        # The result is an integer multiple of 2**last.
        last = max(exponent - self.precision + 1, self.last_place)
        divisor = denominator << max(last, 0)
        whole, rest = divmod(numerator << max(-last, 0), divisor)
        whole += 2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1)
        if whole.bit_length() + last > self.bias + 1:
            return math.copysign(math.inf, sign)
        return math.copysign(math.ldexp(whole, last), sign)


FLOAT64: Final = Format("float64", 64, 53)
FLOAT32: Final = Format("float32", 32, 24)
FLOAT16: Final = Format("float16", 16, 11)
BFLOAT16: Final = Format("bfloat16", 16, 8)
FORMATS: Final = {form.name: form for form in (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)}


def cast(value: float, form: Format) -> float:
    """Round a value to a format."""
    if form is FLOAT64 or value == 0.0 or not math.isfinite(value):
        return value
    if (quick := by_machine(value, form.width, form.precision)) is not None:
        return quick
    return form.round(*value.as_integer_ratio())


def add(a: float, b: float, form: Format) -> float:
    """Return a + b, rounded once."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    if (quick := by_machine(a + b, form.width, form.precision)) is not None:
        return quick
    (n, d), (m, e) = a.as_integer_ratio(), b.as_integer_ratio()
    if exact := n * e + m * d:
        return form.round(exact, d * e)
    # The sum is -0 only if both summands are.
    return -0.0 if math.copysign(1.0, a) == math.copysign(1.0, b) == -1.0 else 0.0


def sub(a: float, b: float, form: Format) -> float:
    """Return a - b, rounded once."""
    return add(a, -b, form)


def mul(a: float, b: float, form: Format) -> float:
    """Return a * b, rounded once."""
    if not (math.isfinite(a) and math.isfinite(b)) or 0.0 in (a, b):
        return a * b
    if (quick := by_machine(a * b, form.width, form.precision)) is not None:
        return quick
    (n, d), (m, e) = a.as_integer_ratio(), b.as_integer_ratio()
    return form.round(n * m, d * e)


def div(a: float, b: float, form: Format) -> float:
    """Return a / b, rounded once."""
    if math.isfinite(a) and math.isfinite(b) and 0.0 not in (a, b):
        if (quick := by_machine(a / b, form.width, form.precision)) is not None:
            return quick
        (n, d), (m, e) = a.as_integer_ratio(), b.as_integer_ratio()
        return form.round(n * e, d * m)
    if math.isnan(a) or math.isnan(b) or (a == 0.0 == b) or (math.isinf(a) and math.isinf(b)):
        return math.nan
    sign = math.copysign(1.0, a) * math.copysign(1.0, b)
    return math.copysign(math.inf if b == 0.0 or math.isinf(a) else 0.0, sign)


def total(values: Sequence[float]) -> float:
    """Return the sum of finite float64 values, rounded once."""
    if (quick := sum_by_machine(values)) is not None:
        return quick
    exact = sum(map(Fraction, values), Fraction(0))
    return FLOAT64.round(*exact.as_integer_ratio()) if exact else 0.0


def sqrt(value: float, form: Format) -> float:
    """Return the square root of a nonnegative value, rounded once."""
    if value == 0.0 or not math.isfinite(value):
        return value
    if (quick := by_machine(math.sqrt(value), form.width, form.precision)) is not None:
        return quick
    # Compute the root to many more bits than the format has; the last bit tells whether the rest is not 0.
    (numerator, denominator), bits = value.as_integer_ratio(), 2 * form.precision + form.bias
    square, rest = divmod(numerator << (2 * bits), denominator)
    root = math.isqrt(square)
    inexact = rest != 0 or root * root != square
    return form.round(2 * root + inexact, 2 << bits)
