"""Memory in compiled code: arrays at addresses, arrays on the stack, arrays without reference counts, prefetching."""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from rose_kernels.llvm.compilation import compiled

__all__ = ["SLOTS", "on_stack", "prefetch", "prefetch_l2", "unmanaged", "words_at"]

# Length of an array on the stack: small enough for the vector registers, too large for LLVM to unroll.
SLOTS: Final = np.uintp(64)

_CACHE_LINE: Final = 64  # bytes
_INT32: Final = ir.IntType(32)


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@compiled
def words_at(address, count, storage):
    """Return the `count` storage words at an address as an array that does not own its memory."""
    return carray(_pointer(address), count, storage)


@intrinsic
def _stack_pointer(typing_context: Any, element: Any) -> Any:
    """Return a pointer to `SLOTS` elements of a NumPy type on the stack frame of the calling function."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = ir.ArrayType(context.get_data_type(element.instance_type), int(SLOTS))
        return builder.bitcast(cgutils.alloca_once(builder, array), cgutils.voidptr_t)

    return types.voidptr(element), generate


@njit(inline="always")
def on_stack(element):
    """Return an array of `SLOTS` elements of a NumPy type, which lives until the calling function returns.

    LLVM knows that no other array aliases it, and may keep it in registers.
    """
    return carray(_stack_pointer(element), SLOTS, element)


@intrinsic
def unmanaged(typing_context: Any, arrays: Any) -> Any:
    """Return an array, or a nested tuple of arrays, without reference counts.

    Numba counts references to arrays by atomic operations, on cache lines that all threads share. A step of 1,000
    tensors of 10 x 10 takes half the time without them. The original arrays must outlive the result: arguments of the
    calling function do, its local arrays do not.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _without_owner(context, builder, arrays, arguments[0])

    return arrays(arrays), generate


def _without_owner(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return an array, or a tuple of arrays, whose owner is null."""
    if isinstance(kind, types.BaseTuple):
        members = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        return context.make_tuple(builder, kind, [_without_owner(context, builder, *member) for member in members])
    array = context.make_array(kind)(context, builder, value)
    array.meminfo, array.parent = (cgutils.get_null_value(owner.type) for owner in (array.meminfo, array.parent))
    return array._getvalue()


def _itemsize(words: Any) -> Any:
    """Return the size of an element in bytes, as a constant; `words.itemsize` is a load."""
    raise NotImplementedError


@overload(_itemsize)
def _compiled_itemsize(words):
    size = words.dtype.bitwidth // 8
    return lambda words: size


def _prefetch_function(name: str, locality: int) -> Any:
    """Return a compiled function of this name that prefetches with one of LLVM's localities."""

    @intrinsic
    def prefetch_line(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], cgutils.voidptr_t)
            kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _INT32, _INT32, _INT32])
            function = builder.module.declare_intrinsic("llvm.prefetch", [cgutils.voidptr_t], kind)
            builder.call(function, [pointer, _INT32(0), _INT32(locality), _INT32(1)])  # read, locality, data
            return context.get_dummy_value()

        return types.void(address), generate

    def prefetch(words, start, count, ahead):
        """Prefetch the cache lines `ahead` bytes past `count` elements. The address may be out of bounds."""
        size = _itemsize(words)
        address = np.int64(words.ctypes.data) + np.int64(start) * size + ahead
        for offset in range(0, np.int64(count) * size, _CACHE_LINE):
            prefetch_line(address + offset)

    prefetch.__qualname__ = name  # see NOTE: [unique names] in rule/summation.py
    return compiled(prefetch)


prefetch = _prefetch_function("prefetch", 3)  # into all levels of the cache
prefetch_l2 = _prefetch_function("prefetch_l2", 2)  # into all levels but the first
