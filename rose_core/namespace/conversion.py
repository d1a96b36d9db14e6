"""From storage to the operation dtype and back."""

from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np

from rose_core.namespace.lookup import (
    Array,
    OperationDtype,
    array_namespace,
    detached,
    device,
    dtype_name,
    is_compiled,
    library,
    resolved,
)
from rose_core.namespace.memory import has_light_arrays
from rose_core.namespace.words import SIGN_BIT, float32_bits, float32_from_bits

__all__ = ["comparable", "conversion_into", "narrow", "narrows_in_writing", "scratch_memory", "widen"]


def widen(x: Any, dtype: OperationDtype, *, copy: bool = False) -> Any:
    """Convert an array of any floating dtype to the operation dtype; exact, except float64 to float32.

    `copy` says whether to return an array of its own, which may be written over, even where nothing is converted.
    """
    x = detached(x)
    stored = dtype_name(x)
    if stored == dtype and not copy:
        return x
    if stored == "bfloat16" and library(x) != "torch":
        xp = array_namespace(x)
        x, stored, copy = float32_from_bits(xp.astype(x.view(xp.int16), xp.int32) * 65536), "float32", False
    if dtype == "float64" and stored == "float32" and _flushes_float32_subnormals(x):
        return _widen_by_bits(x)
    return _astype(x, dtype, copy=copy)


def narrow(x: Array, dtype: Literal["float64", "float32", "float16"]) -> Any:
    """Round an array of an operation dtype to a storage dtype, 16 bits by way of float32 (ROSE-2.3)."""
    if dtype == "float64":
        return widen(x, "float64")
    if dtype_name(x) == "float64" and _flushes_float32_subnormals(x):
        x = _narrow_by_bits(x)
    return _astype(_astype(x, "float32"), dtype)


def narrows_in_writing(target: Array) -> bool:
    """Tell whether values that are written to an array like `target` are rounded as by `narrow`, without a warning.

    torch does so in one pass; NumPy would warn of an overflow.
    """
    return library(target) == "torch" and (dtype_name(target) == "float32" or device(target).type == "cpu")


def comparable(x: Array, dtype: OperationDtype) -> Any:
    """Return an array to look for extrema in: as it is stored, where its library compares that well, else widened."""
    if library(x) == "torch":
        return resolved(x)
    stored = dtype_name(x) in ("float64", "float32") and not _flushes_float32_subnormals(x)
    return x if stored else widen(x, dtype)


def scratch_memory(x: Array, elements: int, dtype: str) -> Any:
    """Return memory for what is made of arrays of the kind of `x`, None where each operation is to make its own."""
    if library(x) == "torch":
        possible = not is_compiled(x) and has_light_arrays(x)
    else:
        possible = library(x) == "numpy" and dtype_name(x) != "bfloat16"
    xp = array_namespace(x)
    possible = possible and not _flushes_float32_subnormals(x)
    return xp.empty((elements,), dtype=getattr(xp, dtype), device=device(x)) if possible else None


def conversion_into(memory: Any) -> Callable[[Any], Any]:
    """Return a function that does what `widen` does to arrays of the shape of some memory, into this.

    The arrays have no autograd history.
    """
    if library(memory) == "torch":
        return memory.copy_  # type: ignore[no-any-return]

    def convert(x: Any) -> Any:
        np.copyto(memory, x)
        return memory

    return convert


def _astype(x: Array, name: str, *, copy: bool = False) -> Any:
    if dtype_name(x) == name and not copy:
        return x
    xp = array_namespace(x)
    return xp.astype(x, getattr(xp, name), copy=copy)


# NOTE: [float32 subnormals on CuPy] CuPy compiles every kernel with -ftz=true and lets nobody turn it off
# (https://github.com/cupy/cupy/issues/8382, https://github.com/cupy/cupy/issues/9576): float32 subnormals
# read as zero and are written as zero. float64 is not touched, so at compute dtype float64 it is enough to
# cross between the two through their words (ROSE-12.3).
_LEAST_NORMAL: Final = 2.0**-126
_QUANTUM: Final = 2.0**-149


def _flushes_float32_subnormals(x: Array) -> bool:
    return library(x) == "cupy"


def _widen_by_bits(x: Array) -> Any:
    """Convert float32 to float64 where a cast would flush subnormals."""
    xp = array_namespace(x)
    bits = float32_bits(x)
    magnitude = bits & 0x7FFFFFFF
    subnormal = xp.astype(magnitude, xp.float64) * _QUANTUM
    subnormal = xp.where(bits < 0, -subnormal, subnormal)
    return xp.where(magnitude < 0x00800000, subnormal, _astype(x, "float64"))


def _narrow_by_bits(x: Array) -> Any:
    """Round float64 to float32 where a cast would flush subnormals."""
    xp = array_namespace(x)
    tiny = xp.abs(x) < _LEAST_NORMAL
    quanta = xp.round(xp.where(tiny, xp.abs(x), xp.zeros_like(x)) * (1.0 / _QUANTUM))
    bits = xp.astype(quanta, xp.int32)
    bits = xp.where(xp.signbit(x), bits + SIGN_BIT, bits)
    return float32_from_bits(xp.where(tiny, bits, float32_bits(_astype(x, "float32"))))
