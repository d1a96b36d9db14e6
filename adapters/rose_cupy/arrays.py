"""The CuPy arrays that an optimizer can update in place."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rose_arrays.owned import OwnedArrays

try:
    import cupy
except ImportError as error:
    raise ImportError("rose_cupy needs CuPy: pip install cupy-cuda12x for CUDA 12, cupy-cuda13x for CUDA 13") from error

__all__ = ["CupyArrays"]


class CupyArrays(OwnedArrays):
    """Groups of CuPy arrays on the current device."""

    def _check_param(self, array: Any, label: str) -> None:
        if not isinstance(array, cupy.ndarray):
            raise TypeError(f"{label} must be a cupy.ndarray, got {type(array).__name__}")
        current = cupy.cuda.Device()
        if array.device != current:
            raise ValueError(f"{label} is on {array.device}, the current device is {current}; they must be the same")

    def _addresses_of(self, arrays: Sequence[Any]) -> np.ndarray:
        return np.asarray([array.data.ptr for array in arrays], np.int64)
