"""Bits in compiled code: integer operations that keep their width, and bit casts."""

from typing import Any, Final

from numba import types
from numba.extending import intrinsic

__all__ = [
    "add",
    "and_",
    "as_float",
    "as_word",
    "flip_of",
    "ordered",
    "remoteness",
    "rotate_left",
    "xor",
]

_FLOATS: Final = {64: types.float64, 32: types.float32}


def _operation(build: Any) -> Any:
    """Return an operation of two integers, computed modulo 2**bits in the type of the first."""

    @intrinsic
    def operation(typing_context: Any, a: Any, b: Any) -> Any:
        if not (isinstance(a, types.Integer) and isinstance(b, types.Integer)):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value, other = arguments
            return build(builder, value, context.cast(builder, other, signature.args[1], signature.return_type))

        return a(a, b), generate

    return operation


# Numba widens the operations of 32-bit and 16-bit integers to 64 bits, which halves what a vector holds or worse.
add = _operation(lambda builder, a, b: builder.add(a, b))
and_ = _operation(lambda builder, a, b: builder.and_(a, b))
xor = _operation(lambda builder, a, b: builder.xor(a, b))
rotate_left = _operation(
    lambda builder, a, b: builder.or_(builder.shl(a, b), builder.lshr(a, builder.sub(a.type(a.type.width), b)))
)


@intrinsic
def ordered(typing_context: Any, word: Any) -> Any:
    """Map the word of a float to a signed integer in the order of the floats, or back.

    Infinity is the word of infinity itself; a NaN lies beyond the infinity of its sign.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        width = value.type.width
        sign = builder.ashr(value, value.type(width - 1))
        return builder.xor(value, builder.and_(sign, value.type(2 ** (width - 1) - 1)))

    return types.Integer.from_bitwidth(word.bitwidth, signed=True)(word), generate


@intrinsic
def remoteness(typing_context: Any, word: Any) -> Any:
    """Map the word of a float to a signed integer in the order of magnitudes, but for 0, which comes last."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,) = arguments
        largest = value.type(2 ** (value.type.width - 1) - 1)
        return builder.add(builder.and_(value, largest), largest)

    return types.Integer.from_bitwidth(word.bitwidth, signed=True)(word), generate


@intrinsic
def as_float(typing_context: Any, word: Any) -> Any:
    """Return the float of 64 or 32 bits that has this word."""
    result = _FLOATS[word.bitwidth]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(word), generate


@intrinsic
def as_word(typing_context: Any, x: Any) -> Any:
    """Return the word of a float64 or float32."""
    result = types.Integer.from_bitwidth(x.bitwidth, signed=True)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(x), generate


@intrinsic
def flip_of(typing_context: Any, negated: Any, word: Any) -> Any:
    """Return the word of a type that negates a float, or the one that leaves it."""
    result = word.instance_type

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = context.get_value_type(result)
        flips = builder.icmp_signed("!=", arguments[0], arguments[0].type(0))
        return builder.select(flips, integer(1 << (integer.width - 1)), integer(0))

    return result(negated, word), generate
