"""Conversions between floating dtypes, and a square root that is correctly rounded."""

import sys
from typing import Any, Final, Literal

import numpy as np

from rose_core.namespace.arrays import Array, array_namespace, astype, dtype_name, has_float64, library
from rose_core.namespace.bits import SIGN_BIT, float32_bits, float32_from_bits

__all__ = ["as_float64", "convert", "detached", "square_root", "square_roots"]


def convert(x: Any, dtype: Literal["float64", "float32", "float16"]) -> Any:
    """Convert an array of any floating dtype, rounding to nearest. float64 reaches float16 by float32 (ROSE-2.3)."""
    stored = dtype_name(x)
    if stored == dtype:
        return x
    name = library(x)
    if stored == "bfloat16" and name != "torch":
        return convert(float32_from_bits(astype(x.view("int16"), "int32") << 16), dtype)
    if stored == "float64" and dtype == "float16":
        return convert(convert(x, "float32"), "float16")
    if name in _FLUSHING and {stored, dtype} == {"float32", "float64"}:
        return _widen_by_bits(x) if dtype == "float64" else _narrow_by_bits(x)
    return astype(x, dtype)


def detached(*arrays: Any) -> Any:
    """Return arrays of one library as a tuple, tensors without their autograd history.

    Lazy negations are resolved, because a lazily negated tensor has no bit casts.
    """
    return tuple(x.detach().resolve_neg() for x in arrays) if library(arrays[0]) == "torch" else arrays


def as_float64(x: Array) -> Any:
    """Convert an array of an operation dtype to float64. A device without float64 returns it as it is (ROSE-12.2)."""
    return x if dtype_name(x) == "float64" or not has_float64(x) else convert(x, "float64")


def square_root(x: Any) -> Any:
    """Return the correctly rounded square root of a float64 array (ROSE-5.2).

    NOTE: [torch's square root] On x86 CPUs, torch calls MKL. Its root is off by a unit in the last place for 1.4 % of
    float64 values. A race can make it worse (https://github.com/pytorch/pytorch/issues/188792). A step of Newton's
    method, with exact residuals, corrects it.
    """
    xp = array_namespace(x)
    estimate = xp.sqrt(x)
    if library(x) != "torch" or x.device.type != "cpu":
        return estimate
    is_regular = (x > 0.0) & (x < float("inf"))
    one = xp.ones_like(x)
    # The scale is a power of 2. It keeps the squares below from over- and underflowing.
    scale = xp.where(x < 2.0**-500, 2.0**300 * one, xp.where(x > 2.0**500, 2.0**-300 * one, one))
    scaled = xp.where(is_regular, x * scale * scale, one)
    root = xp.where(is_regular, estimate * scale, one)
    rest, error = _residual(scaled, root)
    root = root + (rest - error) / (root + root)
    return xp.where(is_regular, _nearest_root(scaled, root) / scale, estimate)


def square_roots(x: Any) -> Any:
    """Return the result of `square_root`, faster for large tensors: NumPy computes the roots of tensors on a CPU."""
    if library(x) != "torch" or x.device.type != "cpu" or not _has_values(x):
        return square_root(x)
    return array_namespace(x).asarray(np.sqrt(x.numpy()))


def _has_values(x: Any) -> bool:
    """Tell whether a tensor is of no subclass, and torch neither traces nor transforms its operations."""
    torch = sys.modules["torch"]
    return (
        type(x) is torch.Tensor
        and not x.is_neg()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch.compiler.is_compiling()
    )


def _nearest_root(x: Array, root: Array) -> Any:
    """Return the float64 nearest to the root of x, given one that is off by at most one unit in the last place.

    The nearest float is the upper neighbour if the root of x lies above the midpoint ``root + gap / 2``. Squared, this
    is ``x - root**2 > root * gap + gap**2 / 4``. Both ``x - root**2`` and ``root * gap`` are multiples of ``gap**2``,
    so the last term can be left out. The lower neighbour is the nearest if ``x - root**2 <= -root * gap``.
    """
    xp = array_namespace(x)
    upper, lower = xp.nextafter(root, xp.full_like(root, float("inf"))), xp.nextafter(root, xp.zeros_like(root))
    rest, error = _residual(x, root)
    is_above = (rest - root * (upper - root)) - error > 0.0
    is_below = (rest + root * (root - lower)) - error <= 0.0
    return xp.where(is_above, upper, xp.where(is_below, lower, root))


def _residual(x: Array, root: Array) -> tuple[Any, Any]:
    """Return two floats whose difference is exactly ``x - root**2`` (Dekker, Numerische Mathematik 18, 1971)."""
    square, split = root * root, root * (2.0**27 + 1.0)
    head = split - (split - root)
    tail = root - head
    return x - square, ((head * head - square) + 2.0 * head * tail) + tail * tail


# NOTE: [float32 subnormals on CuPy] CuPy compiles every kernel with -ftz=true. There is no way to turn that off
# (https://github.com/cupy/cupy/issues/8382, https://github.com/cupy/cupy/issues/9576). float32 subnormals are read
# and written as zero. float64 is not affected. At compute dtype float64, a conversion by bits is enough (ROSE-12.3).
_FLUSHING: Final = {"cupy"}
_LEAST_NORMAL: Final = 2.0**-126
_QUANTUM: Final = 2.0**-149


def _widen_by_bits(x: Array) -> Any:
    """Convert float32 to float64 where a cast would flush subnormals."""
    xp = array_namespace(x)
    bits = float32_bits(x)
    magnitude = bits & 0x7FFFFFFF
    subnormal = astype(magnitude, "float64") * _QUANTUM
    subnormal = xp.where(bits < 0, -subnormal, subnormal)
    return xp.where(magnitude < 0x00800000, subnormal, astype(x, "float64"))


def _narrow_by_bits(x: Array) -> Any:
    """Round float64 to float32 where a cast would flush subnormals."""
    xp = array_namespace(x)
    tiny = xp.abs(x) < _LEAST_NORMAL
    quanta = xp.round(xp.where(tiny, xp.abs(x), xp.zeros_like(x)) * (1.0 / _QUANTUM))
    bits = astype(quanta, "int32")
    bits = xp.where(xp.signbit(x), bits + SIGN_BIT, bits)
    return float32_from_bits(xp.where(tiny, bits, float32_bits(astype(x, "float32"))))
