"""The NumPy arrays that an optimizer can update in place."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rose_arrays.owned import OwnedArrays
from rose_numpy.addresses import addresses_of

__all__ = ["NumpyArrays"]


class NumpyArrays(OwnedArrays):
    """Groups of NumPy arrays."""

    def _check_param(self, array: Any, label: str) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{label} must be a numpy.ndarray, got {type(array).__name__}")
        if not array.flags.writeable:
            raise ValueError(f"{label} must be writable, since it is updated in place; it is read-only")

    def _addresses_of(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return addresses_of(arrays)
