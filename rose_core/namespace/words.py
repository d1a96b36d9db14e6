"""The words of floats: bit casts, and integers of 32 bits."""

import sys
from collections.abc import Callable
from typing import Any, Final

import ml_dtypes
import numpy as np

from rose_core.namespace.lookup import Array, array_namespace, detached, device, library, resolved, stores_bfloat16

__all__ = [
    "SIGN_BIT",
    "bfloat16_from_float32_bits",
    "float32_bits",
    "float32_bits_with_one_nan",
    "float32_from_bits",
    "half_words",
    "magnitude_words",
    "magnitude_words_into",
    "to_words",
    "word_dtype",
    "words_of",
]


SIGN_BIT: Final = -(2**31)
_QUIET_NAN: Final = 0x7FC00000


def word_dtype(x: Array) -> str:
    """Return the name of the signed integers of the size of floats."""
    return f"int{8 * x.dtype.itemsize}"


def words_of(x: Any) -> Any:
    """Return the words of floats of a library with bit casts, as signed integers."""
    x = detached(x)
    return x.view(getattr(array_namespace(x), word_dtype(x)))


def float32_bits(x: Any) -> Any:
    """Return the words of a float32 array as int32; the standard has no bit cast, array-api-strict none."""
    xp = array_namespace(x)
    return x.view(xp.int32) if hasattr(x, "view") else _float32_bits_by_arithmetic(x)


def float32_from_bits(bits: Any) -> Any:
    """Return the float32 array whose words are the given int32."""
    xp = array_namespace(bits)
    return bits.view(xp.float32) if hasattr(bits, "view") else _float32_from_bits_by_arithmetic(bits)


def magnitude_words(x: Any) -> Any:
    """Return signed integers of the size of `x`, floats of a library with bit casts, in the order of ``|x|``, 0 last.

    Twice a word has lost its sign. Less one, 0 comes last; less half the range, the order is that of signed words.
    """
    return magnitude_words_into(array_namespace(x).empty_like(words_of(x)))(x)


def magnitude_words_into(memory: Any) -> Callable[[Any], Any]:
    """Return a function that does what `magnitude_words` does to arrays of the shape of some memory, into this."""
    shift = 2 ** (8 * memory.dtype.itemsize - 1) - 1
    if library(memory) == "torch":
        xp = array_namespace(memory)
        shifts = xp.full((), shift, dtype=memory.dtype, device=device(memory))
        return lambda x: xp.sub(shifts, resolved(x).view(memory.dtype), alpha=-2, out=memory)  # in one pass

    def into_memory(x: Any) -> Any:
        words = x.view(memory.dtype)
        np.add(words, words, out=memory)
        return np.add(memory, shift, out=memory)

    return into_memory


def float32_bits_with_one_nan(x: Any) -> Any:
    """Do what `float32_bits` does, with the word of the quiet NaN that has no payload in the place of every NaN's."""
    xp = array_namespace(x)
    if library(x) == "torch":  # in a seventh of the time
        return float32_bits(xp.nan_to_num(x, nan=float("nan"), posinf=float("inf"), neginf=float("-inf")))
    bits = float32_bits(x)
    return xp.where(xp.isnan(x), xp.full((), _QUIET_NAN, dtype=bits.dtype, device=device(x)), bits)


def bfloat16_from_float32_bits(bits: Array) -> Any:
    """Return the bfloat16 array of float32 words, which are written over; their lower half is ignored.

    A library that has no bfloat16 gets a float32 array of the same values.
    """
    xp = array_namespace(bits)
    if stores_bfloat16(bits):
        bits >>= 16
        return xp.astype(bits, xp.int16).view(_bfloat16(bits))
    return float32_from_bits(bits & -65536)


def _bfloat16(x: Array) -> Any:
    """Return the library's bfloat16 dtype: torch's own, elsewhere that of ml_dtypes."""
    return array_namespace(x).bfloat16 if library(x) == "torch" else np.dtype(ml_dtypes.bfloat16)


def to_words(x: Array) -> Any:
    """Convert int64 values in [0, 2**32) to a 32-bit integer dtype whose sums wrap.

    That is uint32, but int32 for torch, whose uint32 has no addition and no shift
    (https://docs.pytorch.org/docs/stable/tensor_attributes.html).
    """
    xp = array_namespace(x)
    if library(x) == "torch":
        return xp.astype(x - ((x >> 31) << 32), xp.int32)
    return xp.astype(x, xp.uint32)


def half_words(x: Any) -> Any:
    """Return the halves of 32-bit words in int32, the lower one first, so that the last axis is twice as long."""
    xp = array_namespace(x)
    if hasattr(x, "view") and sys.byteorder == "little":
        if library(x) == "torch":  # which has few operations on uint16, too
            return xp.astype(x.view(xp.int16), xp.int32) & 0xFFFF
        return xp.astype(x.view(xp.uint16), xp.int32)
    halves = xp.stack((x & 0xFFFF, (x >> 16) & 0xFFFF), axis=-1)
    return xp.astype(xp.reshape(halves, (*x.shape[:-1], 2 * x.shape[-1])), xp.int32)


# The bit casts of a library that has only the standard's arithmetic. Entry e of the table is the power of two at
# which the biased float32 exponent e begins, so that infinity is 2**128 and NaN is beyond it.
_BINADES: Final = [0.0] + [2.0**e for e in range(-126, 129)]


def _float32_bits_by_arithmetic(x: Array) -> Any:
    xp = array_namespace(x)
    binades = xp.asarray(_BINADES, dtype=xp.float64, device=device(x))
    magnitude = xp.reshape(xp.abs(xp.astype(x, xp.float64)), (-1,))
    magnitude = xp.where(xp.isnan(magnitude), 1.5 * binades[-1], xp.minimum(magnitude, binades[-1]))
    exponent = xp.searchsorted(binades[1:], magnitude, side="right")
    exponent = xp.maximum(exponent, xp.ones_like(exponent))
    significand = xp.astype(magnitude / (xp.take(binades, exponent) * 2.0**-23), xp.int64)
    bits = xp.reshape(significand + (exponent - 1) * 2**23, x.shape)
    return xp.astype(xp.where(xp.signbit(x), bits + SIGN_BIT, bits), xp.int32)


def _float32_from_bits_by_arithmetic(bits: Array) -> Any:
    xp = array_namespace(bits)
    binades = xp.asarray(_BINADES, dtype=xp.float64, device=device(bits))
    magnitude = xp.reshape(xp.astype(bits, xp.int64) & 0x7FFFFFFF, (-1,))
    exponent, fraction = magnitude >> 23, magnitude & 0x7FFFFF
    significand = xp.where(exponent > 0, fraction + 2**23, fraction)
    scale = xp.take(binades, xp.maximum(exponent, xp.ones_like(exponent))) * 2.0**-23
    value = xp.reshape(xp.astype(significand, xp.float64) * scale, bits.shape)
    value = xp.where(value > binades[-1], xp.full_like(value, float("nan")), value)
    return xp.astype(xp.where(bits < 0, -value, value), xp.float32)
