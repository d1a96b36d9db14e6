"""Atomic operations on the elements of int64 arrays, by which threads take tickets and combine integers."""

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from rose_kernels.llvm.compilation import compiled

__all__ = ["add", "keep_maximum", "keep_minimum", "load", "publish", "replace", "yield_processor"]


def _read_modify_write(name: str) -> Any:
    """Return an operation that replaces the integer at an address and returns what was there before."""

    @intrinsic
    def operation(typing_context: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
            return builder.atomic_rmw(name, place, arguments[1], "acq_rel")

        return types.int64(types.intp, types.int64), generate

    return operation


_add, _maximum, _minimum = (_read_modify_write(name) for name in ("add", "max", "min"))


@intrinsic
def _load(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.intp), generate


@intrinsic
def _store(typing_context: Any, address: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store_atomic(arguments[1], place, "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), generate


@intrinsic
def _replace(typing_context: Any, address: Any, expected: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        answer = builder.cmpxchg(place, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.extract_value(answer, 1)

    return types.boolean(types.intp, types.int64, types.int64), generate


@compiled
def add(array, index, value):
    """Add to an element and return what it was."""
    return _add(array.ctypes.data + 8 * index, value)


@compiled
def keep_maximum(array, index, value):
    """Raise an element to a value that is larger, and return what it is then."""
    return max(value, _maximum(array.ctypes.data + 8 * index, value))


@compiled
def keep_minimum(array, index, value):
    """Lower an element to a value that is smaller, and return what it is then."""
    return min(value, _minimum(array.ctypes.data + 8 * index, value))


@compiled
def publish(array, index):
    """Set an element to 1; who sees it sees all that was written before."""
    _store(array.ctypes.data + 8 * index, 1)


@compiled
def load(array, index):
    """Return an element; who sees that it was published sees all that was written before."""
    return _load(array.ctypes.data + 8 * index)


@compiled
def replace(array, index, expected, value):
    """Replace an element by a value if it is what is expected, and return whether it was."""
    return _replace(array.ctypes.data + 8 * index, expected, value)


def yield_processor() -> None:
    """Let another thread run, such as the one that is waited for."""
    raise NotImplementedError


@overload(yield_processor)
def _compiled_yield() -> Any:
    if sys.platform == "win32":
        return lambda: None
    sched_yield = types.ExternalFunction("sched_yield", types.intc())
    return lambda: sched_yield()  # noqa: PLW0108  (Numba compiles functions)
