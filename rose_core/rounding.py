"""Rounding: to the compute dtype (ROSE-2) and to bfloat16, to nearest or stochastically (ROSE-8)."""

from typing import Any, Final, Literal

import numpy as np

from rose_core.namespace import (
    Array,
    OperationDtype,
    array_namespace,
    bfloat16_from_float32_bits,
    dtype_name,
    float32_bits_with_one_nan,
    float32_from_bits,
    floating_dtype,
    has_float16,
    narrow,
    quiet,
    require_integer_words,
    widen,
)
from rose_core.scratch import Scratch

__all__ = [
    "ComputeDtype",
    "operation_dtype",
    "round_number",
    "round_to_bfloat16",
    "round_to_compute",
    "to_compute",
    "to_noise",
    "to_storage",
]

ComputeDtype = Literal["fp64", "fp32", "fp16", "bf16"]

# Half of what is cut off, less one: with the kept part's last bit added, ties go to even.
_JUST_BELOW_HALF: Final = 0x7FFF


@quiet
def round_to_bfloat16(x: Array, /, *, noise: Array | None = None) -> Any:
    """Round float32 to bfloat16, to nearest even or stochastically.

    Parameters
    ----------
    x : array of float32, any shape
        The values to round.
    noise : array of integers, the shape of `x`, optional
        One 16-bit word an element, of which a value is rounded away from zero exactly when the word is at
        least 2**16 minus its cut-off half. Uniform words make the rounding unbiased. None rounds to
        nearest, ties to even.

    Returns
    -------
    array of bfloat16
        Of the shape, library and device of `x`: `ml_dtypes.bfloat16` for NumPy and CuPy, `torch.bfloat16`
        for PyTorch. A library without bfloat16 gets float32 holding the same values.

    Raises
    ------
    TypeError
        If `x` is not float32, or `noise` is not an integer array of the same library.
    ValueError
        If the shape or the device of `noise` is not that of `x`.

    Notes
    -----
    ``((b + r) mod 2**32) >> 16`` for the word ``b`` of `x` and the word ``r`` of `noise`: ROSE-8.1 to 8.3.
    NaN stays NaN, whatever its payload and the noise.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.asarray([1.00390625, 1.01171875, float("nan")], dtype=np.float32)
    >>> [float(v) for v in round_to_bfloat16(x)]
    [1.0, 1.015625, nan]
    >>> [float(v) for v in round_to_bfloat16(x, noise=np.asarray([0xFFFF, 0, 0xFFFF]))]
    [1.0078125, 1.0078125, nan]
    """
    if floating_dtype(x, "x") != "float32":
        raise TypeError(f"x has dtype {dtype_name(x)}; allowed is float32")
    if noise is not None:
        require_integer_words(x, noise, "x")
        noise = to_noise(noise)
    return bfloat16_from_float32_bits(_rounded_bits(x, noise))


def to_noise(words: Array) -> Any:
    """Return the lower 16 bits of integers in int32, as rounding takes them (ROSE-8.1)."""
    xp = array_namespace(words)
    return xp.astype(words, xp.int32) & 0xFFFF


def operation_dtype(compute: ComputeDtype) -> OperationDtype:
    """Return the dtype whose operations a compute dtype is rounded from (ROSE-2.1)."""
    return "float64" if compute == "fp64" else "float32"


def to_compute(x: Array, compute: ComputeDtype, *, copy: bool = False, scratch: Scratch | None = None) -> Any:
    """Return an array of any floating dtype in the operation dtype, rounded to C (ROSE-2.3, ROSE-2.6).

    `copy` says whether it must be one that may be written over; where it is a new one, it may lie in the `scratch`.
    """
    operation = operation_dtype(compute)
    if operation == "float32" and dtype_name(x) == "float64":
        x, copy = narrow(x, "float32"), False
    return round_to_compute((scratch.widen if scratch else widen)(x, operation, copy=copy), compute)


def round_to_compute(x: Array, compute: ComputeDtype) -> Any:
    """Round values of the operation dtype to C and keep them in the operation dtype: `rc` (ROSE-2.2)."""
    if compute == "fp16":
        return widen(narrow(x, "float16"), "float32") if has_float16(x) else _to_float16_by_arithmetic(x)
    if compute == "bf16":
        return float32_from_bits(_rounded_bits(x, None) & -65536)
    return x


def round_number(value: float, compute: ComputeDtype) -> float:
    """Round a number once to the operation dtype (ROSE-2.4)."""
    return value if compute == "fp64" else float(np.float32(value))


def to_storage(x: Array, dtype: str, noise: Array | None) -> Any:
    """Round an updated parameter to its own dtype (ROSE-6.3); `noise` are words of 16 bits in int32."""
    if dtype == "bfloat16":
        return bfloat16_from_float32_bits(_rounded_bits(narrow(x, "float32"), noise))
    return narrow(x, dtype)  # type: ignore[arg-type]


def _rounded_bits(x: Array, noise: Array | None) -> Any:
    """Return float32 words whose upper half is the rounded bfloat16; the lower half is left over."""
    bits = float32_bits_with_one_nan(x)  # so that no sum below leaves the range of int32 (ROSE-8.2)
    bits += ((bits >> 16) & 1) + _JUST_BELOW_HALF if noise is None else noise
    return bits


def _to_float16_by_arithmetic(x: Array) -> Any:
    """Round float32 to float16 values where the library has no float16.

    Adding and subtracting 1.5 * 2**23 quanta leaves a multiple of the quantum, the spacing of float16
    at x: that of float32 times 2**13, and 2**-24 among float16's subnormals.
    """
    xp = array_namespace(x)
    magnitude = xp.abs(x)
    large = magnitude >= 65536.0
    magnitude = xp.where(large, xp.full_like(x, 65536.0), magnitude)
    spacing = xp.nextafter(magnitude, xp.full_like(x, float("inf"))) - magnitude
    quantum = xp.maximum(spacing * 2.0**13, xp.full_like(x, 2.0**-24))
    magic = quantum * (1.5 * 2.0**23)
    rounded = (magnitude + magic) - magic
    rounded = xp.where(rounded >= 65536.0, xp.full_like(x, float("inf")), rounded)
    return xp.copysign(rounded, x)
