"""Steps that keep subnormal numbers, in threads that treat them as zeros."""

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["subnormals_kept"]

_SMALLEST: Final = 5e-324
_DEFAULT_ENVIRONMENT: Final = ctypes.c_void_p(-1)  # FE_DFL_ENV of the C libraries of Linux
_ENVIRONMENT_BYTES: Final = 64  # more than fenv_t takes on any machine


@contextmanager
def subnormals_kept() -> Iterator[bool]:
    """Run a block with subnormal numbers (ROSE-1.5), and restore the mode of the calling thread.

    Yields whether the mode had to be changed. `torch.set_flush_denormal(True)` and some libraries that are compiled
    with -ffast-math set a mode in which the processor treats subnormal numbers as zeros, in one thread.

    Only Linux lets this function change the mode. Elsewhere only the kernels keep subnormal numbers.
    """
    library = _c_library()
    if _SMALLEST * 1.0 or library is None:
        yield False
        return
    saved = ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
    library.fegetenv(saved)
    library.fesetenv(_DEFAULT_ENVIRONMENT)
    try:
        yield True
    finally:
        library.fesetenv(saved)


@functools.cache
def _c_library() -> Any:
    """Return the library of C with `fegetenv`, None if there is none."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "fesetenv") else None
