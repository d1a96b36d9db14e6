"""Rounding: to the compute dtype (ROSE-2), and to bfloat16, to nearest or stochastically (ROSE-8)."""

from typing import Any, Final, Literal

from rose_core.namespace import (
    Array,
    OperationDtype,
    array_namespace,
    bfloat16_from_float32_bits,
    convert,
    detached,
    dtype_name,
    float32_bits,
    float32_from_bits,
    floating_dtype,
    has_float16,
    quiet,
    require_integer_words,
)

__all__ = [
    "ComputeDtype",
    "round_to_bfloat16",
    "round_to_compute",
    "to_compute",
    "to_noise",
    "to_storage",
]

ComputeDtype = Literal["fp64", "fp32", "fp16", "bf16"]

# The dtype of operations, whose results are then rounded to the compute dtype (ROSE-2.1).
_OPERATION_DTYPES: Final[dict[ComputeDtype, OperationDtype]] = {
    "fp64": "float64",
    "fp32": "float32",
    "fp16": "float32",
    "bf16": "float32",
}

# One less than half of the cut-off part. With the last kept bit added, ties round to even.
_JUST_BELOW_HALF: Final = 0x7FFF
_QUIET_NAN: Final = 0x7FC00000


@quiet
def round_to_bfloat16(x: Array, /, *, noise: Array | None = None) -> Any:
    """Round float32 to bfloat16, to nearest even or stochastically.

    Parameters
    ----------
    x : array of float32, any shape
        The values to round.
    noise : array of integers, the shape of `x`, optional
        One 16-bit word for each element. A value is rounded away from zero exactly if its word is at least 2**16
        minus the lower half of its bits. Uniform words make the rounding unbiased. None rounds to nearest, ties to
        even.

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
        If `noise` has another shape than `x`, or is on another device.

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
    (x,) = detached(x)
    return bfloat16_from_float32_bits(_rounded_bits(x, noise))


def to_noise(words: Array) -> Any:
    """Return the lower 16 bits of integers in int32, as rounding takes them (ROSE-8.1)."""
    xp = array_namespace(words)
    return xp.astype(words, xp.int32) & 0xFFFF


def to_compute(x: Array, compute: ComputeDtype) -> Any:
    """Convert an array of any floating dtype to the operation dtype, rounded to C (ROSE-2.3, ROSE-2.6)."""
    return round_to_compute(convert(x, _OPERATION_DTYPES[compute]), compute)


def round_to_compute(x: Array, compute: ComputeDtype) -> Any:
    """Round an array of the operation dtype to C: `rc` of ROSE-2.2. It stays in the operation dtype."""
    if compute == "fp16":
        return convert(convert(x, "float16"), "float32") if has_float16(x) else _to_float16_by_arithmetic(x)
    if compute == "bf16":
        return float32_from_bits(_rounded_bits(x, None) & -65536)
    return x


def to_storage(x: Array, dtype: str, noise: Array | None) -> Any:
    """Round an updated parameter to its own dtype (ROSE-6.3). `noise` holds words of 16 bits in int32."""
    if dtype == "bfloat16":
        return bfloat16_from_float32_bits(_rounded_bits(convert(x, "float32"), noise))
    return convert(x, dtype)  # type: ignore[arg-type]


def _rounded_bits(x: Array, noise: Array | None) -> Any:
    """Return float32 bits whose upper half is the rounded bfloat16. The lower half is meaningless."""
    xp, bits = array_namespace(x), float32_bits(x)
    if noise is None:
        noise = ((bits >> 16) & 1) + _JUST_BELOW_HALF
    # NaN gets one word, whatever its payload (ROSE-8.2). All other sums stay in the range of int32.
    return xp.where(xp.isnan(x), _QUIET_NAN, bits + noise)


def _to_float16_by_arithmetic(x: Array) -> Any:
    """Round float32 to float16 values where the library has no float16.

    Adding and subtracting 1.5 * 2**23 quanta rounds to a multiple of the quantum, which is the spacing of float16 at
    x. This is the spacing of float32 times 2**13, but 2**-24 among the subnormals of float16.
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
