"""Numba's cache of compiled functions on disk: entries that cannot be read, and processes that compile at once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["compile_or_load", "folder_of_cache", "is_cached"]


def is_cached(dispatcher: Any, signature: tuple[Any, ...]) -> bool:
    """Tell whether the cache has a function, compiled for the types of a signature.

    Numba raises whatever a damaged file makes the unpickler raise. Such a cache is emptied here, or no longer used if
    it cannot be written.
    """
    cache = dispatcher._cache
    try:
        return cache.load_overload(signature, dispatcher.targetctx) is not None
    except Exception:
        try:
            cache.flush()
        except OSError:
            cache.disable()
        return False


def compile_or_load(dispatcher: Any, signature: tuple[Any, ...]) -> None:
    """Compile a function for the types of a signature, or load it from the cache.

    Of several processes one compiles, and the others load its result.
    """
    with _one_process_at_a_time():
        is_cached(dispatcher, signature)  # it empties a damaged cache, which would raise in the next line
        try:
            dispatcher.compile(signature)
        except OSError:  # compiled, but the cache could not be written
            dispatcher.compile(signature)


def folder_of_cache(dispatcher: Any) -> str | None:
    """Return the folder that caches a function, None if no folder is writable."""
    folder: str | None = dispatcher._cache.cache_path
    return folder


@contextmanager
def _one_process_at_a_time() -> Iterator[None]:
    """Hold a lock of the operating system. It is released when the process ends, however it ends."""
    with ExitStack() as stack:
        if fcntl is not None:
            with suppress(OSError):  # without locks, as on some network file systems, processes compile at once
                fcntl.flock(stack.enter_context(Path(__file__).open("rb")), fcntl.LOCK_EX)
        yield
