"""How every kernel is compiled: with IEEE arithmetic, without the GIL, and with loops that vectorize."""

from typing import Any, Final

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["compiled", "indices"]

# `fastmath` stays off, because it reassociates and contracts (ROSE-1.5). With error_model="numpy" a division by zero
# follows IEEE 754 and raises nothing.
compiled: Final[Any] = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@intrinsic
def _use_wide_vectors(typing_context: Any) -> Any:
    """Let LLVM use 512-bit vectors in the calling function.

    LLVM prefers 256 bits on Intel processors, because the first ones with AVX-512 lowered their clock for wide vectors.
    Processors since Ice Lake do not; they are recognized by the feature avx512vbmi2.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if "+avx512vbmi2" in context.codegen().magic_tuple()[2].split(","):
            # `set.add`, since the method of llvmlite rejects attributes that have a value. With 256-bit vectors a step
            # in bfloat16 with portable noise took 1.4 times as long on a Xeon.
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


@njit(inline="always")
def indices(start, stop):
    """Return the range of unsigned indices from `start` to `stop`.

    Numba checks signed indices for negative values. That check turns vector loads into gathers.
    """
    _use_wide_vectors()
    return range(np.uintp(start), np.uintp(stop))
