"""How every kernel is compiled: IEEE arithmetic, without the interpreter's lock, without signed indices."""

from typing import Any, Final

import numpy as np
from numba import njit

__all__ = ["compiled", "indices"]

# No fastmath: it reassociates and contracts (ROSE-1.5). Division by zero is IEEE's, not an exception.
compiled: Final[Any] = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@compiled
def indices(start, stop):
    """Return the range of unsigned indices.

    With signed ones Numba asks for each index whether it counts from the end, and loads become gathers.
    """
    return range(np.uintp(start), np.uintp(stop))
