"""Bit casts between floats and integers, and 32-bit integers whose sums wrap."""

from typing import Any, Final

import ml_dtypes
import numpy as np

from rose_core.namespace.arrays import Array, array_namespace, astype, library, stores_bfloat16

__all__ = [
    "SIGN_BIT",
    "bfloat16_from_float32_bits",
    "float32_bits",
    "float32_from_bits",
    "right_shifted",
    "to_word",
    "to_words",
]

SIGN_BIT: Final = -(2**31)


def float32_bits(x: Any) -> Any:
    """Return the bits of a float32 array as int32. The standard has no bit cast, and array-api-strict has none."""
    xp = array_namespace(x)
    return x.view(xp.int32) if hasattr(x, "view") else _float32_bits_by_arithmetic(x)


def float32_from_bits(bits: Any) -> Any:
    """Return the float32 array with the given bits in int32."""
    xp = array_namespace(bits)
    return bits.view(xp.float32) if hasattr(bits, "view") else _float32_from_bits_by_arithmetic(bits)


def bfloat16_from_float32_bits(bits: Array) -> Any:
    """Return the bfloat16 array with the upper halves of float32 bits.

    A library without bfloat16 gets a float32 array of the same values.
    """
    xp = array_namespace(bits)
    if not stores_bfloat16(bits):
        return float32_from_bits(bits & -65536)
    bfloat16 = xp.bfloat16 if library(bits) == "torch" else np.dtype(ml_dtypes.bfloat16)
    return astype(bits >> 16, "int16").view(bfloat16)


def to_words(x: Array) -> Any:
    """Convert int64 values in [0, 2**32) to a 32-bit integer dtype whose sums wrap.

    The dtype is uint32. torch gets int32: its uint32 has no addition and no shift
    (https://docs.pytorch.org/docs/stable/tensor_attributes.html).
    """
    if library(x) == "torch":
        return astype(x - ((x >> 31) << 32), "int32")
    return astype(x, "uint32")


def to_word(value: int, like: Array) -> int:
    """Return a number in [0, 2**32) as the Python integer that operations with `to_words` of `like` take."""
    return value - 2**32 if library(like) == "torch" and value >= 2**31 else value


def right_shifted(words: Any, distance: int) -> Any:
    """Shift words of `to_words` to the right, filling up with zeros."""
    shifted = words >> distance
    # A signed word is filled up with its sign.
    return shifted & ((1 << (32 - distance)) - 1) if library(words) == "torch" else shifted


# The bit casts of a library that has only the standard's arithmetic. Entry e of the table is the power of two where
# the biased float32 exponent e begins. Infinity is 2**128, and NaN lies beyond it.
_BINADES: Final = [0.0] + [2.0**e for e in range(-126, 129)]


def _float32_bits_by_arithmetic(x: Array) -> Any:
    xp = array_namespace(x)
    binades = xp.asarray(_BINADES, dtype=xp.float64, device=x.device)
    magnitude = xp.reshape(xp.abs(xp.astype(x, xp.float64)), (-1,))
    magnitude = xp.where(xp.isnan(magnitude), 1.5 * binades[-1], xp.minimum(magnitude, binades[-1]))
    exponent = xp.searchsorted(binades[1:], magnitude, side="right")
    exponent = xp.maximum(exponent, xp.ones_like(exponent))
    significand = xp.astype(magnitude / (xp.take(binades, exponent) * 2.0**-23), xp.int64)
    bits = xp.reshape(significand + (exponent - 1) * 2**23, x.shape)
    return xp.astype(xp.where(xp.signbit(x), bits + SIGN_BIT, bits), xp.int32)


def _float32_from_bits_by_arithmetic(bits: Array) -> Any:
    xp = array_namespace(bits)
    binades = xp.asarray(_BINADES, dtype=xp.float64, device=bits.device)
    magnitude = xp.reshape(xp.astype(bits, xp.int64) & 0x7FFFFFFF, (-1,))
    exponent, fraction = magnitude >> 23, magnitude & 0x7FFFFF
    significand = xp.where(exponent > 0, fraction + 2**23, fraction)
    scale = xp.take(binades, xp.maximum(exponent, xp.ones_like(exponent))) * 2.0**-23
    value = xp.reshape(xp.astype(significand, xp.float64) * scale, bits.shape)
    value = xp.where(value > binades[-1], xp.full_like(value, float("nan")), value)
    return xp.astype(xp.where(bits < 0, -value, value), xp.float32)
