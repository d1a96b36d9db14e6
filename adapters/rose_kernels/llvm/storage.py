"""Storage words: how arrays lie in memory as integers, and their conversion to and from floats.

An array lies in memory as integer words, whose type says what they hold: int64 for float64, int32 for float32,
int16 for float16 and uint16 for bfloat16. So one source serves every dtype, and Numba compiles it for each.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["WORDS", "key_of", "load", "quantum_of", "size_of", "store"]

WORDS: Final = {"float64": np.int64, "float32": np.int32, "float16": np.int16, "bfloat16": np.uint16}

_DOUBLE, _FLOAT, _INT32 = ir.DoubleType(), ir.FloatType(), ir.IntType(32)


def key_of(word: Any) -> Any:
    """Return the NumPy type of the ordered integers of a Numba type of words."""
    return np.dtype(f"i{word.bitwidth // 8}").type


@intrinsic
def size_of(typing_context: Any, word: Any) -> Any:
    """Return how many bytes a word of a type has."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.int64, word.instance_type.bitwidth // 8)

    return types.int64(word), generate


@intrinsic
def quantum_of(typing_context: Any, x: Any, word: Any) -> Any:
    """Return a number below the last place of a float64 that came from a word of a type.

    So that float, and all larger ones, are multiples of any power of 2 that is not above it. For words of 64 bits it is
    0, which tells nothing: sums of these are hardly ever exact.
    """
    unit = {types.int64: 0.0, types.int32: 2.0**-24, types.int16: 2.0**-11, types.uint16: 2.0**-8}[word.instance_type]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        magnitude, _ = arguments
        return builder.fmul(magnitude, magnitude.type(unit)) if unit else magnitude.type(0.0)

    return x(x, word), generate


@intrinsic
def load(typing_context: Any, word: Any, operation: Any) -> Any:
    """Convert a storage word to the operation dtype, `np.float64` or `np.float32` (ROSE-2.6)."""
    result = operation.instance_type

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = arguments[0]
        if bits.type.width == 64:
            return _to_width(builder, builder.bitcast(bits, _DOUBLE), context.get_value_type(result))
        if word == types.uint16:
            bits = builder.shl(builder.zext(bits, _INT32), _INT32(16))
        elif word == types.int16:
            bits = _from_float16(builder, builder.zext(bits, _INT32))
        return _to_width(builder, builder.bitcast(bits, _FLOAT), context.get_value_type(result))

    return result(word, operation), generate


@intrinsic
def store(typing_context: Any, x: Any, noise: Any, word: Any) -> Any:
    """Round a value of the operation dtype to a storage word of the type of another (ROSE-6.3, ROSE-8).

    `noise` is the 16-bit word that rounds bfloat16 stochastically, or -1 to round to nearest.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, noise_word, _ = arguments
        if word == types.int64:
            return builder.bitcast(_to_width(builder, value, _DOUBLE), ir.IntType(64))
        bits = builder.bitcast(_to_width(builder, value, _FLOAT), _INT32)
        if word == types.int32:
            return bits
        if word == types.uint16:
            noise_word = context.cast(builder, noise_word, signature.args[1], types.int32)
            return builder.trunc(_to_bfloat16(builder, bits, noise_word), ir.IntType(16))
        return builder.trunc(_to_float16(builder, bits), ir.IntType(16))

    return word(x, noise, word), generate


def _to_width(builder: Any, value: Any, result: Any) -> Any:
    """Convert a float to another width, or leave it."""
    if value.type == result:
        return value
    return builder.fpext(value, result) if result == _DOUBLE else builder.fptrunc(value, result)


def _from_float16(builder: Any, word: Any) -> Any:
    """Return the word of the float32 that equals a float16."""
    magnitude = builder.shl(builder.and_(word, _INT32(0x7FFF)), _INT32(13))
    # With the exponent of float16 in the place of float32's, all but infinity and NaN are off by 2**112.
    scaled = builder.fmul(builder.bitcast(magnitude, _FLOAT), _FLOAT(2.0**112))
    is_finite = builder.icmp_unsigned("<", magnitude, _INT32(0x0F800000))
    beyond = builder.add(magnitude, _INT32(0x70000000))
    bits = builder.select(is_finite, builder.bitcast(scaled, _INT32), beyond)
    return builder.or_(bits, builder.shl(builder.and_(word, _INT32(0x8000)), _INT32(16)))


def _to_float16(builder: Any, bits: Any) -> Any:
    """Return the word of the float16 nearest to a float32, ties to even."""
    magnitude = builder.and_(bits, _INT32(0x7FFFFFFF))
    # The spacing of float32 from 1/2 on is that of float16's subnormals.
    raised = builder.fadd(builder.bitcast(magnitude, _FLOAT), _FLOAT(0.5))
    subnormal = builder.sub(builder.bitcast(raised, _INT32), _INT32(0x3F000000))
    # Half of what is cut off, less one, plus the last bit kept; and 112 less in the exponent.
    last_bit = builder.and_(builder.lshr(magnitude, _INT32(13)), _INT32(1))
    rounded = builder.add(builder.add(magnitude, last_bit), _INT32(0x0FFF - 0x38000000))
    word = builder.lshr(rounded, _INT32(13))
    word = builder.select(builder.icmp_unsigned("<", magnitude, _INT32(0x38800000)), subnormal, word)
    word = builder.select(builder.icmp_unsigned(">=", magnitude, _INT32(0x47800000)), _INT32(0x7C00), word)
    word = builder.select(builder.icmp_unsigned(">", magnitude, _INT32(0x7F800000)), _INT32(0x7E00), word)
    return builder.or_(word, builder.and_(builder.lshr(bits, _INT32(16)), _INT32(0x8000)))


def _to_bfloat16(builder: Any, bits: Any, noise: Any) -> Any:
    """Return the word of the bfloat16 beside a float32 that the noise chooses (ROSE-8.1 to ROSE-8.3)."""
    last_bit = builder.and_(builder.lshr(bits, _INT32(16)), _INT32(1))
    to_nearest = builder.add(last_bit, _INT32(0x7FFF))
    added = builder.select(builder.icmp_signed("<", noise, _INT32(0)), to_nearest, noise)
    word = builder.lshr(builder.add(bits, added), _INT32(16))
    is_nan = builder.icmp_unsigned(">", builder.and_(bits, _INT32(0x7FFFFFFF)), _INT32(0x7F800000))
    return builder.select(is_nan, _INT32(0x7FC0), word)
