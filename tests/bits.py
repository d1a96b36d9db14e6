"""Arrays of every library as words of their bits: conversion, comparison, and the count of what was compared."""

from collections import Counter
from typing import Any, Final

import array_api_compat
import ml_dtypes
import numpy as np

__all__ = [
    "DTYPES",
    "TALLY",
    "WORST_ULPS",
    "assert_same_bits",
    "assert_within_ulps",
    "from_words",
    "host",
    "raw_words",
    "words",
]

DTYPES: Final = {
    "float64": (np.dtype(np.float64), np.dtype(np.uint64)),
    "float32": (np.dtype(np.float32), np.dtype(np.uint32)),
    "float16": (np.dtype(np.float16), np.dtype(np.uint16)),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.dtype(np.uint16)),
}

# Per backend: comparisons made, elements compared, elements that differed.
TALLY: Final = {name: Counter[str]() for name in ("cases", "elements", "mismatches")}
# Per backend that has a tolerance: the largest difference, in units in the last place.
WORST_ULPS: Final[dict[str, float]] = {}


def host(x: Any) -> np.ndarray:
    """Return an array of any library as a NumPy array of the same dtype, bfloat16 as that of ml_dtypes."""
    if array_api_compat.is_torch_array(x):
        import torch

        x = x.detach().cpu().contiguous()
        if x.dtype == torch.bfloat16:
            return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return x.numpy()
    if array_api_compat.is_cupy_array(x):
        return x.get()
    return np.asarray(x)


def words(x: Any) -> np.ndarray:
    """Return the bit patterns of an array as unsigned integers, every NaN as the same one.

    The sign and the payload of a NaN may vary (ROSE-12.1); the sign of a zero may not.
    """
    array = host(x)
    if array.dtype.kind not in "iu":
        with np.errstate(all="ignore"):
            array = np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array)
    return raw_words(array)


def raw_words(x: Any) -> np.ndarray:
    """Return the bit patterns of an array as unsigned integers, those of NaN included."""
    array = host(x)
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def from_words(bits: Any, dtype: str) -> np.ndarray:
    """Return the NumPy array of the dtype that has the given words."""
    storage, word = DTYPES[dtype]
    return np.asarray(bits, word).view(storage)


def assert_same_bits(actual: Any, expected: Any, *, backend: str = "", what: str = "result") -> None:
    """Raise, showing hexadecimal words, unless dtype, shape and every bit are the same; count by backend."""
    actual_host, expected_host = _of_one_kind(actual, expected, what)
    got, want = words(actual_host), words(expected_host)
    differ = np.argwhere(got != want)
    _count(backend, got.size, len(differ))
    if len(differ):
        digits = 2 * got.dtype.itemsize
        shown = [
            f"  at {tuple(map(int, at))}: {int(got[tuple(at)]):0{digits}x} ({actual_host[tuple(at)]})"
            f", not {int(want[tuple(at)]):0{digits}x} ({expected_host[tuple(at)]})"
            for at in differ[:8]
        ]
        raise AssertionError(f"{what}: {len(differ)} of {got.size} elements differ\n" + "\n".join(shown))


def assert_within_ulps(
    actual: Any, expected: Any, *, limit: float, magnitude: np.ndarray, backend: str, what: str = "result"
) -> None:
    """Raise if an element is off by more than `limit` units in the last place of `magnitude`; count by backend."""
    got, want = _of_one_kind(actual, expected, what)
    ulp = np.spacing(np.abs(magnitude)).astype(np.float64)
    distance = np.abs(got.astype(np.float64) - want.astype(np.float64)) / ulp
    worst = float(distance.max(initial=0.0))
    _count(backend, got.size, int(np.count_nonzero(words(got) != words(want))))
    WORST_ULPS[backend] = max(worst, WORST_ULPS.get(backend, 0.0))
    assert worst <= limit, f"{what}: {worst} ulps off, allowed are {limit}"


def _of_one_kind(actual: Any, expected: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    got, want = host(actual), host(expected)
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, not {want.dtype}"
    assert got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}"
    return got, want


def _count(backend: str, elements: int, mismatches: int) -> None:
    if backend:
        for column, count in (("cases", 1), ("elements", elements), ("mismatches", mismatches)):
            TALLY[column][backend] += count
