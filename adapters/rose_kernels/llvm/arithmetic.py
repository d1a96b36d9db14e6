"""Floating-point operations of LLVM that Numba does not offer."""

from typing import Any

from numba import types
from numba.extending import intrinsic

__all__ = ["add_reassociable", "fma", "has_fma"]


@intrinsic
def has_fma(typing_context: Any) -> Any:
    """Return whether the target processor has a fused multiply-add; a constant in compiled code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        triple, _, features = context.codegen().magic_tuple()
        fuses = triple.startswith(("aarch64", "arm64")) or "+fma" in features.split(",")
        return context.get_constant(types.boolean, fuses)

    return types.boolean(), generate


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return a(a, b, c), generate


@intrinsic
def add_reassociable(typing_context: Any, a: Any, b: Any) -> Any:
    """Return a + b, and let LLVM reorder a chain of these additions so that it vectorizes.

    Use it only where the caller discards the sum unless every order of the additions is exact.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments, flags=("reassoc",))

    return a(a, b), generate
