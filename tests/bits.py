"""Comparison of arrays bit by bit, for arrays of every library. A word is the bit pattern of an element."""

from typing import Any, Final

import array_api_compat
import ml_dtypes
import numpy as np

from tests.tally import count, record_ulps

__all__ = [
    "DTYPES",
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


def host(x: Any) -> np.ndarray:
    """Return an array of any library as a NumPy array of the same dtype, with the bfloat16 of ml_dtypes."""
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
    """Return the words of an array as unsigned integers, with one word for every NaN.

    The sign and the payload of a NaN may differ between libraries (ROSE-12.1). The sign of a zero may not.
    """
    array = host(x)
    if array.dtype.kind not in "iu":
        with np.errstate(all="ignore"):
            array = np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array)
    return raw_words(array)


def raw_words(x: Any) -> np.ndarray:
    """Return the words of an array as unsigned integers, with the sign and the payload of each NaN."""
    array = host(x)
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def from_words(bits: Any, dtype: str) -> np.ndarray:
    """Return a NumPy array of the dtype, given its words."""
    storage, word = DTYPES[dtype]
    return np.asarray(bits, word).view(storage)


def assert_same_bits(actual: Any, expected: Any, *, backend: str = "", what: str = "result") -> None:
    """Raise, with words in hexadecimal, unless dtype, shape and all bits are equal. `backend` counts the comparison."""
    actual_host, expected_host = _same_dtype_and_shape(actual, expected, what)
    got, want = words(actual_host), words(expected_host)
    differ = np.argwhere(got != want)
    count(backend, got.size, len(differ))
    if len(differ):
        digits = 2 * got.dtype.itemsize
        shown = [
            f"  at {tuple(map(int, index))}: {int(got[tuple(index)]):0{digits}x} ({actual_host[tuple(index)]})"
            f", not {int(want[tuple(index)]):0{digits}x} ({expected_host[tuple(index)]})"
            for index in differ[:8]
        ]
        raise AssertionError(f"{what}: {len(differ)} of {got.size} elements differ\n" + "\n".join(shown))


def assert_within_ulps(
    actual: Any, expected: Any, *, limit: float, magnitude: np.ndarray, backend: str, what: str = "result"
) -> None:
    """Raise if an element is off by more than `limit` units in the last place of `magnitude`."""
    got, want = _same_dtype_and_shape(actual, expected, what)
    ulp = np.spacing(np.abs(magnitude)).astype(np.float64)
    distance = np.abs(got.astype(np.float64) - want.astype(np.float64)) / ulp
    worst = float(distance.max(initial=0.0))
    count(backend, got.size, int(np.count_nonzero(words(got) != words(want))))
    record_ulps(backend, worst)
    assert worst <= limit, f"{what}: {worst} ulps off, allowed are {limit}"


def _same_dtype_and_shape(actual: Any, expected: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return both as NumPy arrays, or raise if their dtypes or shapes differ."""
    got, want = host(actual), host(expected)
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, not {want.dtype}"
    assert got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}"
    return got, want
