"""How every kernel is compiled: IEEE arithmetic, without the interpreter's lock, without signed indices."""

from typing import Any, Final

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["compiled", "indices"]

# No fastmath: it reassociates and contracts (ROSE-1.5). Division by zero is IEEE's, not an exception.
compiled: Final[Any] = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@intrinsic
def _in_wide_vectors(typing_context: Any) -> Any:
    """Have the function that this is in use vectors of 512 bits.

    LLVM keeps to 256 on Intel's processors, of which the first with wide ones ran slower for them. Those since Ice
    Lake, which brought the feature asked for, do not.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if "+avx512vbmi2" in context.codegen().magic_tuple()[2].split(","):
            # Not through the attributes' own method, which takes those that have no value only.
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@njit(inline="always")
def indices(start, stop):
    """Return the range of unsigned indices.

    With signed ones Numba asks for each index whether it counts from the end, and loads become gathers.
    """
    _in_wide_vectors()
    return range(np.uintp(start), np.uintp(stop))
