"""Addresses of the elements of arrays."""

import ctypes
from collections.abc import Sequence
from typing import Final

import numpy as np

__all__ = ["addresses_of"]

# The pointer to the elements follows the header of the Python object
# (https://numpy.org/doc/stable/reference/c-api/types-and-structures.html#c.PyArrayObject).
_OFFSET: Final = object.__basicsize__

_read_pointer: Final = ctypes.c_size_t.from_address


def addresses_of(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return the address of the first element of each array, in int64; 0 for a NumPy scalar.

    NOTE: [array pointers] `array.ctypes.data` gives the same address but takes 1.5 microseconds, not 0.16: with two
    arrays for each parameter, that would double the time of a step of 1,000 small parameters.

    Examples
    --------
    >>> array = np.ones(3)
    >>> addresses_of([array]).tolist() == [array.ctypes.data]
    True
    """
    pointers = [_read_pointer(id(x) + _OFFSET).value if isinstance(x, np.ndarray) else 0 for x in arrays]
    return np.asarray(pointers, np.int64)
