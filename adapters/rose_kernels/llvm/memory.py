"""Memory in compiled code: arrays at addresses, arrays without an owner, and memory that is asked for ahead."""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from rose_kernels.llvm.compilation import compiled

__all__ = ["SLOTS", "on_stack", "prefetch", "prefetch_far", "unmanaged", "words_at"]

# What an array on the stack holds: it should fit the registers, but not be worth unrolling.
SLOTS: Final = np.uintp(64)

_LINE: Final = 64  # bytes that a cache holds or lacks together
_INT32: Final = ir.IntType(32)


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@compiled
def words_at(address, count, word):
    """Return the memory at an address as an array of so many words of a type."""
    return carray(_pointer(address), count, word)


@intrinsic
def _stack_pointer(typing_context: Any, element: Any) -> Any:
    """Return the place of `SLOTS` elements of a NumPy type on the stack of the function that this is in."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = ir.ArrayType(context.get_data_type(element.instance_type), int(SLOTS))
        return builder.bitcast(cgutils.alloca_once(builder, array), cgutils.voidptr_t)

    return types.voidptr(element), generate


@njit(inline="always")
def on_stack(element):
    """Return an array of `SLOTS` elements which is no longer there when the function that this is in returns.

    A compiler knows that nothing else lies in the same memory, and may keep it in registers.
    """
    return carray(_stack_pointer(element), SLOTS, element)


@intrinsic
def unmanaged(typing_context: Any, arrays: Any) -> Any:
    """Return an array, or a tuple of such or of tuples, without the count of its references, which takes time to keep.

    The arrays themselves must outlive it: what a function is called with does, not what it has made or unpacked.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _without_owner(context, builder, arrays, arguments[0])

    return arrays(arrays), generate


def _without_owner(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.BaseTuple):
        members = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        return context.make_tuple(builder, kind, [_without_owner(context, builder, *member) for member in members])
    array = context.make_array(kind)(context, builder, value)
    array.meminfo, array.parent = (cgutils.get_null_value(owner.type) for owner in (array.meminfo, array.parent))
    return array._getvalue()


def _item_size(words: Any) -> Any:
    """Return how many bytes an element has: a constant, where the array's own attribute is not."""
    raise NotImplementedError


@overload(_item_size)
def _compiled_item_size(words):
    size = words.dtype.bitwidth // 8
    return lambda words: size


def _prefetch_of(name: str, locality: int) -> Any:
    """Return a compiled function that asks for memory, with a locality of LLVM's."""

    @intrinsic
    def line(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _INT32, _INT32, _INT32])
            function = builder.module.declare_intrinsic("llvm.prefetch", [cgutils.voidptr_t], kind)
            builder.call(function, [place, _INT32(0), _INT32(locality), _INT32(1)])  # data, to read
            return context.get_dummy_value()

        return types.void(address), generate

    def prefetch(words, start, count, ahead):
        """Ask for the memory so many bytes behind some elements, which need not be there; who reads it waits less."""
        size = _item_size(words)
        address = np.int64(words.ctypes.data) + np.int64(start) * size + ahead
        for offset in range(0, np.int64(count) * size, _LINE):
            line(address + offset)

    prefetch.__qualname__ = name  # see NOTE: [one name a function]
    return compiled(prefetch)


prefetch = _prefetch_of("prefetch", 3)  # into all caches
prefetch_far = _prefetch_of("prefetch_far", 2)  # not into the first
