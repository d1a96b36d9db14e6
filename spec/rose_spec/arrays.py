"""Conversions between the oracle's tensors, NumPy arrays and hexadecimal words, which keep the payloads of NaNs."""

from collections.abc import Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np

from rose_spec.floats import FORMATS
from rose_spec.oracle import Tensor

__all__ = ["NUMPY_DTYPES", "array_from_words", "from_array", "hex_words", "to_array", "values_from_words", "words_of"]

NUMPY_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


def words_of(tensor: Tensor) -> np.ndarray:
    """Return the words of a tensor as unsigned integers, in the shape of the tensor."""
    values = np.asarray(tensor.values, np.float64).reshape(tensor.shape)
    with np.errstate(invalid="ignore"):
        if tensor.dtype == "bfloat16":
            # The conversion of ml_dtypes would lose the payload of a NaN, so the words are taken from float32.
            return np.asarray(values.astype(np.float32).view(np.uint32) >> 16, np.uint16)
        return values.astype(NUMPY_DTYPES[tensor.dtype]).view(f"u{FORMATS[tensor.dtype].width // 8}")


def array_from_words(dtype: str, words: np.ndarray) -> np.ndarray:
    """Return the NumPy array with these words."""
    return np.ascontiguousarray(words).view(NUMPY_DTYPES[dtype]).reshape(words.shape)


def to_array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as a new NumPy array; the bfloat16 dtype is `ml_dtypes.bfloat16`."""
    return array_from_words(tensor.dtype, words_of(tensor))


def from_array(array: np.ndarray) -> Tensor:
    """Return a NumPy array of any floating dtype as a tensor."""
    with np.errstate(invalid="ignore"):
        values = tuple(array.astype(np.float64).ravel().tolist())
    return Tensor(array.dtype.name, array.shape, values)


def hex_words(tensor: Tensor) -> list[str]:
    """Return the words of a tensor in the form of JSON."""
    digits = FORMATS[tensor.dtype].digits
    return [f"{word:0{digits}x}" for word in words_of(tensor).ravel().tolist()]


def values_from_words(dtype: str, words: Sequence[str]) -> list[float]:
    """Return the values of hexadecimal words of a dtype."""
    width = FORMATS[dtype].width // 8
    bits = np.frombuffer(bytes.fromhex("".join(words)), f">u{width}").astype(f"u{width}")
    with np.errstate(invalid="ignore"):
        return [float(v) for v in array_from_words(dtype, bits).astype(np.float64).tolist()]
