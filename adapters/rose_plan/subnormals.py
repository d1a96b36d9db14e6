"""Steps that keep subnormal numbers, in threads that treat them as zeros."""

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, ParamSpec, TypeVar

__all__ = ["subnormals_kept"]

P = ParamSpec("P")
R = TypeVar("R")

_SMALLEST: Final = 5e-324
_DEFAULT_ENVIRONMENT: Final = ctypes.c_void_p(-1)  # FE_DFL_ENV of the C libraries of Linux
_ENVIRONMENT_BYTES: Final = 64  # more than fenv_t takes on any machine


def subnormals_kept(
    function: Callable[P, R], while_changed: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Callable[P, R]:
    """Make a function run with subnormal numbers (ROSE-1.5), and restore the mode of the calling thread after it.

    `torch.set_flush_denormal(True)` and some libraries that are compiled with -ffast-math set a mode in which the
    processor treats subnormal numbers as zeros, in one thread. The context `while_changed` is entered while the mode
    is changed.

    Only Linux lets this function change the mode. Elsewhere only the kernels keep subnormal numbers.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if _SMALLEST * 1.0 or _c_library() is None:
            return function(*args, **kwargs)
        with _default_environment(), while_changed():
            return function(*args, **kwargs)

    return call


@contextmanager
def _default_environment() -> Iterator[None]:
    """Run a block in the default floating-point environment of C, and restore that of the thread."""
    library, saved = _c_library(), ctypes.create_string_buffer(_ENVIRONMENT_BYTES)
    library.fegetenv(saved)
    library.fesetenv(_DEFAULT_ENVIRONMENT)
    try:
        yield
    finally:
        library.fesetenv(saved)


@functools.cache
def _c_library() -> Any:
    """Return the library of C with `fegetenv`, None if there is none."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "fesetenv") else None
