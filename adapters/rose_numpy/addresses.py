"""Where the elements of an array begin."""

import ctypes
from typing import Final

import numpy as np

__all__ = ["address_of"]

_pointer_of: Final = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


class _Interface(ctypes.Structure):
    """The structure of NumPy's array interface (https://numpy.org/doc/stable/reference/arrays.interface.html)."""

    _fields_ = (
        ("two", ctypes.c_int),
        ("nd", ctypes.c_int),
        ("typekind", ctypes.c_char),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_int),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
    )


_OFFSET: Final = _Interface.data.offset


def address_of(array: np.ndarray) -> int:
    """Return the address of the first element; `array.ctypes.data` takes half as long again.

    Examples
    --------
    >>> array = np.ones(3)
    >>> address_of(array) == array.ctypes.data
    True
    """
    # The capsule must outlive the reading.
    capsule = array.__array_struct__
    address = ctypes.c_void_p.from_address(_pointer_of(capsule, None) + _OFFSET).value
    return address or 0
