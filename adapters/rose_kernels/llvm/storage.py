"""Storage words: the elements of an array as integers, and their conversion to and from floats.

Kernels read memory as integers that hold the bits of the elements. The integer type tells the dtype: int64 is float64,
int32 is float32, int16 is float16, and uint16 is bfloat16, which Numba has no type for. The same source serves all
four; Numba compiles it for each. In signatures `storage` is this type, passed as an argument.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["STORAGE_TYPES", "itemsize_of", "key_type", "load", "store", "ulp_bound"]

STORAGE_TYPES: Final = {"float64": np.int64, "float32": np.int32, "float16": np.int16, "bfloat16": np.uint16}

_DOUBLE, _FLOAT, _INT32 = ir.DoubleType(), ir.FloatType(), ir.IntType(32)


def key_type(storage: Any) -> Any:
    """Return the NumPy type of the keys (`bits.order_key`) of a Numba storage type."""
    return np.dtype(f"i{storage.bitwidth // 8}").type


@intrinsic
def itemsize_of(typing_context: Any, storage: Any) -> Any:
    """Return the size of a storage word in bytes; a constant in compiled code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.int64, storage.instance_type.bitwidth // 8)

    return types.int64(storage), generate


@intrinsic
def ulp_bound(typing_context: Any, x: Any, storage: Any) -> Any:
    """Return a lower bound of the unit in the last place that a float64 had in storage.

    `x` and all larger floats of this dtype are multiples of every power of 2 up to the bound. For float64 storage the
    bound is 0, which promises nothing: sums of float64 are hardly ever exact.
    """
    unit = {types.int64: 0.0, types.int32: 2.0**-24, types.int16: 2.0**-11, types.uint16: 2.0**-8}
    factor = unit[storage.instance_type]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        magnitude, _ = arguments
        return builder.fmul(magnitude, magnitude.type(factor)) if factor else magnitude.type(0.0)

    return x(x, storage), generate


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
def store(typing_context: Any, x: Any, noise: Any, like: Any) -> Any:
    """Round a value of the operation dtype to a storage word of the same type as `like` (ROSE-6.3, ROSE-8).

    `noise` is the 16-bit word of stochastic rounding to bfloat16, or -1 to round to nearest.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, noise_word, _ = arguments
        if like == types.int64:
            return builder.bitcast(_to_width(builder, value, _DOUBLE), ir.IntType(64))
        bits = builder.bitcast(_to_width(builder, value, _FLOAT), _INT32)
        if like == types.int32:
            return bits
        if like == types.uint16:
            noise_word = context.cast(builder, noise_word, signature.args[1], types.int32)
            return builder.trunc(_to_bfloat16(builder, bits, noise_word), ir.IntType(16))
        return builder.trunc(_to_float16(builder, bits), ir.IntType(16))

    return like(x, noise, like), generate


def _to_width(builder: Any, value: Any, result: Any) -> Any:
    """Return a float converted to the width of `result`."""
    if value.type == result:
        return value
    return builder.fpext(value, result) if result == _DOUBLE else builder.fptrunc(value, result)


def _from_float16(builder: Any, bits: Any) -> Any:
    """Return the bits of the float32 that equals a float16."""
    magnitude = builder.shl(builder.and_(bits, _INT32(0x7FFF)), _INT32(13))
    # The float16 exponent now stands in the float32 exponent field. Its bias is 112 lower, so every finite value is
    # too small by 2**112. Infinity and NaN take an offset in the exponent instead.
    scaled = builder.fmul(builder.bitcast(magnitude, _FLOAT), _FLOAT(2.0**112))
    is_finite = builder.icmp_unsigned("<", magnitude, _INT32(0x0F800000))
    with_offset = builder.add(magnitude, _INT32(0x70000000))
    unsigned = builder.select(is_finite, builder.bitcast(scaled, _INT32), with_offset)
    return builder.or_(unsigned, builder.shl(builder.and_(bits, _INT32(0x8000)), _INT32(16)))


def _to_float16(builder: Any, bits: Any) -> Any:
    """Return the bits of the float16 nearest to a float32, ties to even."""
    magnitude = builder.and_(bits, _INT32(0x7FFFFFFF))
    # Subnormal results: adding 0.5 rounds to 2**-24, which is the spacing of subnormal float16.
    raised = builder.fadd(builder.bitcast(magnitude, _FLOAT), _FLOAT(0.5))
    subnormal = builder.sub(builder.bitcast(raised, _INT32), _INT32(0x3F000000))
    # Normal results: add half a unit minus one, plus the last bit that is kept, and lower the exponent bias by 112.
    last_bit = builder.and_(builder.lshr(magnitude, _INT32(13)), _INT32(1))
    rounded = builder.add(builder.add(magnitude, last_bit), _INT32(0x0FFF - 0x38000000))
    result = builder.lshr(rounded, _INT32(13))
    result = builder.select(builder.icmp_unsigned("<", magnitude, _INT32(0x38800000)), subnormal, result)
    result = builder.select(builder.icmp_unsigned(">=", magnitude, _INT32(0x47800000)), _INT32(0x7C00), result)
    result = builder.select(builder.icmp_unsigned(">", magnitude, _INT32(0x7F800000)), _INT32(0x7E00), result)
    return builder.or_(result, builder.and_(builder.lshr(bits, _INT32(16)), _INT32(0x8000)))


def _to_bfloat16(builder: Any, bits: Any, noise: Any) -> Any:
    """Return the bits of a float32 rounded to bfloat16: stochastically by `noise`, or to nearest (ROSE-8.1 to 8.3)."""
    last_bit = builder.and_(builder.lshr(bits, _INT32(16)), _INT32(1))
    to_nearest = builder.add(last_bit, _INT32(0x7FFF))
    addend = builder.select(builder.icmp_signed("<", noise, _INT32(0)), to_nearest, noise)
    result = builder.lshr(builder.add(bits, addend), _INT32(16))
    is_nan = builder.icmp_unsigned(">", builder.and_(bits, _INT32(0x7FFFFFFF)), _INT32(0x7F800000))
    return builder.select(is_nan, _INT32(0x7FC0), result)
