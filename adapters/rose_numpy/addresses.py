"""Where the elements of an array begin."""

import ctypes
from typing import Final

import numpy as np

__all__ = ["address_of"]

# An array is what every object begins with, and then the pointer to its elements
# (https://numpy.org/doc/stable/reference/c-api/types-and-structures.html#c.PyArrayObject).
_OFFSET: Final = object.__basicsize__

_pointer_at: Final = ctypes.c_size_t.from_address


def address_of(array: np.ndarray) -> int:
    """Return the address of the first element; `array.ctypes.data` takes many times as long.

    Examples
    --------
    >>> array = np.ones(3)
    >>> address_of(array) == array.ctypes.data
    True
    """
    return _pointer_at(id(array) + _OFFSET).value
