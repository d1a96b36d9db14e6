"""Bit operations in compiled code: integer operations that keep their width, bit casts, and sortable keys."""

from typing import Any, Final

from numba import types
from numba.extending import intrinsic

__all__ = [
    "add",
    "bits_of",
    "cast_like",
    "float_of",
    "magnitude_key",
    "order_key",
    "rotate_left",
    "sign_mask",
    "xor",
]

_FLOATS: Final = {64: types.float64, 32: types.float32}


def _integer_operation(build: Any) -> Any:
    """Return an operation on two integers, computed modulo 2**bits in the type of the first.

    The operators of Numba widen 32-bit and 16-bit integers to 64 bits, so that a vector holds half as many or fewer.
    """

    @intrinsic
    def operation(typing_context: Any, a: Any, b: Any) -> Any:
        if not (isinstance(a, types.Integer) and isinstance(b, types.Integer)):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value, other = arguments
            return build(builder, value, context.cast(builder, other, signature.args[1], signature.return_type))

        return a(a, b), generate

    return operation


add = _integer_operation(lambda builder, a, b: builder.add(a, b))
xor = _integer_operation(lambda builder, a, b: builder.xor(a, b))
rotate_left = _integer_operation(
    lambda builder, a, b: builder.or_(builder.shl(a, b), builder.lshr(a, builder.sub(a.type(a.type.width), b)))
)


@intrinsic
def cast_like(typing_context: Any, value: Any, like: Any) -> Any:
    """Return an integer cast to the type of another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[0], value, like)

    return like(value, like), generate


@intrinsic
def order_key(typing_context: Any, bits: Any) -> Any:
    """Return the signed integer that sorts like the float with these bits; its own inverse.

    -0.0 sorts below 0.0. A NaN sorts above infinity if its sign is positive, and below -infinity if it is negative. So
    a NaN always shows in the extrema of the keys.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        width = value.type.width
        sign = builder.ashr(value, value.type(width - 1))
        return builder.xor(value, builder.and_(sign, value.type(2 ** (width - 1) - 1)))

    return types.Integer.from_bitwidth(bits.bitwidth, signed=True)(bits), generate


@intrinsic
def magnitude_key(typing_context: Any, bits: Any) -> Any:
    """Return a signed integer that sorts floats by magnitude, with zeros last.

    The smallest key of a row belongs to its nonzero element of smallest magnitude.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        largest = value.type(2 ** (value.type.width - 1) - 1)
        # A magnitude of 0 gives the largest integer. All others wrap around to the smallest one, plus magnitude - 1.
        return builder.add(builder.and_(value, largest), largest)

    return types.Integer.from_bitwidth(bits.bitwidth, signed=True)(bits), generate


@intrinsic
def float_of(typing_context: Any, bits: Any) -> Any:
    """Return the float64 or float32 with these bits."""
    result = _FLOATS[bits.bitwidth]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(bits), generate


@intrinsic
def bits_of(typing_context: Any, x: Any) -> Any:
    """Return the bits of a float64 or float32 as a signed integer."""
    result = types.Integer.from_bitwidth(x.bitwidth, signed=True)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(x), generate


@intrinsic
def sign_mask(typing_context: Any, negate: Any, storage: Any) -> Any:
    """Return the mask that negates a storage word by xor if `negate` is not 0, and leaves it unchanged otherwise."""
    result = storage.instance_type

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = context.get_value_type(result)
        negates = builder.icmp_signed("!=", arguments[0], arguments[0].type(0))
        return builder.select(negates, integer(1 << (integer.width - 1)), integer(0))

    return result(negate, storage), generate
