"""Atomic operations on the elements of int64 arrays, which threads use to take tasks and to combine results."""

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from rose_kernels.llvm.compilation import compiled

__all__ = ["add", "compare_exchange", "load", "maximum", "minimum", "publish", "yield_processor"]


def _read_modify_write(name: str) -> Any:
    """Return LLVM's `atomicrmw` operation of this name, which returns the old value."""

    @intrinsic
    def operation(typing_context: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
            return builder.atomic_rmw(name, pointer, arguments[1], "acq_rel")

        return types.int64(types.intp, types.int64), generate

    return operation


_fetch_add, _fetch_max, _fetch_min = (_read_modify_write(name) for name in ("add", "max", "min"))


@intrinsic
def _load_acquire(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.intp), generate


@intrinsic
def _store_release(typing_context: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store_atomic(arguments[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), generate


@intrinsic
def _compare_exchange(typing_context: Any, address: Any, expected: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        answer = builder.cmpxchg(pointer, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.extract_value(answer, 1)

    return types.boolean(types.intp, types.int64, types.int64), generate


@compiled
def add(array, index, value):
    """Add to an element, and return its old value."""
    return _fetch_add(array.ctypes.data + 8 * index, value)


@compiled
def maximum(array, index, value):
    """Replace an element by the larger of itself and `value`."""
    _fetch_max(array.ctypes.data + 8 * index, value)


@compiled
def minimum(array, index, value):
    """Replace an element by the smaller of itself and `value`."""
    _fetch_min(array.ctypes.data + 8 * index, value)


@compiled
def publish(array, index):
    """Set an element to 1. A thread that `load`s the 1 also sees everything written before."""
    _store_release(array.ctypes.data + 8 * index, 1)


@compiled
def load(array, index):
    """Return an element, with acquire ordering."""
    return _load_acquire(array.ctypes.data + 8 * index)


@compiled
def compare_exchange(array, index, expected, value):
    """Replace an element by `value` if it is `expected`, and return whether it was."""
    return _compare_exchange(array.ctypes.data + 8 * index, expected, value)


def yield_processor() -> None:
    """Let the operating system run another thread on this processor."""
    raise NotImplementedError


@overload(yield_processor)
def _compiled_yield() -> Any:
    if sys.platform == "win32":
        return lambda: None
    sched_yield = types.ExternalFunction("sched_yield", types.intc())
    return lambda: sched_yield()  # noqa: PLW0108  (Numba compiles functions)
