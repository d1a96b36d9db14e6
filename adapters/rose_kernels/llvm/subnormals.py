"""The mode of a thread's floating-point unit that treats subnormal numbers as zeros."""

import platform
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["keep_subnormals", "restore_mode"]

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
# The bits of the control register that flush: FTZ and DAZ of MXCSR, FZ and FZ16 of FPCR.
_FLUSHING: Final = {"x86": 0x8040, "arm": 1 << 24 | 1 << 19}
_MACHINES: Final = {"x86_64": "x86", "amd64": "x86", "aarch64": "arm", "arm64": "arm"}
_MACHINE: Final = _MACHINES.get(platform.machine().lower(), "other")


@intrinsic
def keep_subnormals(typing_context: Any) -> Any:
    """Make the calling thread compute with subnormal numbers, as IEEE 754 wants it, and return its mode before.

    The mode belongs to a thread. `torch.set_flush_denormal` changes it, and so do libraries that are compiled with
    -ffast-math.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        mode = _read_mode(builder)
        if _MACHINE != "other":
            _write_mode(builder, builder.and_(mode, _INT64(~_FLUSHING[_MACHINE])))
        return mode

    return types.int64(), generate


@intrinsic
def restore_mode(typing_context: Any, mode: Any) -> Any:
    """Restore the mode that `keep_subnormals` returned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _write_mode(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _read_mode(builder: Any) -> Any:
    """Return the control register of the floating-point unit, 0 on an unknown machine."""
    if _MACHINE == "x86":
        memory = cgutils.alloca_once(builder, _INT32)
        builder.call(
            _function(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [cgutils.voidptr_t]), [_bytes(builder, memory)]
        )
        return builder.zext(builder.load(memory), _INT64)
    if _MACHINE == "arm":
        return builder.call(_function(builder, "llvm.aarch64.get.fpcr", _INT64, []), [])
    return _INT64(0)


def _write_mode(builder: Any, mode: Any) -> None:
    if _MACHINE == "x86":
        memory = cgutils.alloca_once(builder, _INT32)
        builder.store(builder.trunc(mode, _INT32), memory)
        builder.call(
            _function(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [cgutils.voidptr_t]), [_bytes(builder, memory)]
        )
    elif _MACHINE == "arm":
        builder.call(_function(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), [_INT64]), [mode])


def _function(builder: Any, name: str, result: Any, parameters: list[Any]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, parameters), name)


def _bytes(builder: Any, memory: Any) -> Any:
    return builder.bitcast(memory, cgutils.voidptr_t)
