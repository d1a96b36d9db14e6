"""Where the elements of arrays begin."""

import ctypes
from collections.abc import Iterable
from typing import Final

import numpy as np

__all__ = ["addresses_of"]

# An array is what every object begins with, and then the pointer to its elements
# (https://numpy.org/doc/stable/reference/c-api/types-and-structures.html#c.PyArrayObject).
_OFFSET: Final = object.__basicsize__

_pointer_at: Final = ctypes.c_size_t.from_address


def addresses_of(arrays: Iterable[np.ndarray]) -> list[int]:
    """Return the address of the first element of each array; `array.ctypes.data` takes many times as long.

    What is no array but a scalar of NumPy's shares no memory, and is at 0.

    Examples
    --------
    >>> array = np.ones(3)
    >>> addresses_of([array]) == [array.ctypes.data]
    True
    """
    return [_pointer_at(id(array) + _OFFSET).value if isinstance(array, np.ndarray) else 0 for array in arrays]
