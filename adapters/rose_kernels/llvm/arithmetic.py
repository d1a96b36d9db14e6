"""Arithmetic that LLVM has and Numba does not offer."""

from typing import Any

from numba.extending import intrinsic

__all__ = ["add_in_any_order", "can_fuse", "fma"]


def can_fuse(codegen: Any) -> bool:
    """Tell whether the processor that code is made for has a fused multiply-add."""
    triple, _, features = codegen.magic_tuple()
    return triple.startswith(("aarch64", "arm64")) or "+fma" in features.split(",")


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return a(a, b, c), generate


@intrinsic
def add_in_any_order(typing_context: Any, a: Any, b: Any) -> Any:
    """Return a + b, which a compiler may reassociate with other such sums: for what is exact in every order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments, flags=("reassoc",))

    return a(a, b), generate
