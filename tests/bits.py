"""Arrays of every library as words of their bits: conversion, comparison, and the count of what was compared."""

from collections import Counter
from typing import Any, Final

import array_api_compat
import ml_dtypes
import numpy as np

__all__ = ["DTYPES", "TALLY", "assert_same_bits", "from_words", "host", "words"]

DTYPES: Final = {
    "float64": (np.dtype(np.float64), np.dtype(np.uint64)),
    "float32": (np.dtype(np.float32), np.dtype(np.uint32)),
    "float16": (np.dtype(np.float16), np.dtype(np.uint16)),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.dtype(np.uint16)),
}

# Per backend: comparisons made, elements compared, elements that differed.
TALLY: Final = {name: Counter[str]() for name in ("cases", "elements", "mismatches")}


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
    """Return the bit patterns of a floating array as unsigned integers, every NaN as the same one.

    The sign and the payload of a NaN may vary (ROSE-12.1); the sign of a zero may not.
    """
    array = host(x)
    storage, word = DTYPES[str(array.dtype)]
    with np.errstate(all="ignore"):
        canonical = np.where(np.isnan(array), np.asarray(np.nan, storage), array)
    return np.ascontiguousarray(canonical).view(word)


def from_words(bits: Any, dtype: str) -> np.ndarray:
    """Return the NumPy array of the dtype that has the given words."""
    storage, word = DTYPES[dtype]
    return np.asarray(bits, word).view(storage)


def assert_same_bits(actual: Any, expected: Any, *, backend: str = "", what: str = "result") -> None:
    """Raise, showing hexadecimal words, unless dtype, shape and every bit are the same; count by backend."""
    actual_host, expected_host = host(actual), host(expected)
    assert actual_host.dtype == expected_host.dtype, f"{what}: dtype {actual_host.dtype}, not {expected_host.dtype}"
    assert actual_host.shape == expected_host.shape, f"{what}: shape {actual_host.shape}, not {expected_host.shape}"
    got, want = words(actual_host), words(expected_host)
    differ = np.argwhere(got != want)
    if backend:
        TALLY["cases"][backend] += 1
        TALLY["elements"][backend] += got.size
        TALLY["mismatches"][backend] += len(differ)
    if len(differ):
        digits = 2 * got.dtype.itemsize
        shown = [
            f"  at {tuple(map(int, at))}: {int(got[tuple(at)]):0{digits}x} ({actual_host[tuple(at)]})"
            f", not {int(want[tuple(at)]):0{digits}x} ({expected_host[tuple(at)]})"
            for at in differ[:8]
        ]
        raise AssertionError(f"{what}: {len(differ)} of {got.size} elements differ\n" + "\n".join(shown))
