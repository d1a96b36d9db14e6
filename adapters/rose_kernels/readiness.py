"""Which kernels can run now. Compiling takes many seconds, for which a small job should not wait.

With ``fused=None`` the core updates the first parameters. Once it has worked for a while, kernels that are cached on
disk are loaded, and others are compiled in a process of their own, while the core goes on. The bits are the same. If no
other process can compile them, this one does, and the step waits. With ``fused=True`` the first step always waits.
"""

import _thread
import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rose_kernels.availability import reason_of_absence
from rose_kernels.layout import Kind

__all__ = ["is_ready"]

# The core updates this many elements before kernels are loaded or compiled. It takes half a second for them.
_FEW: Final = 2**26
_SECONDS: Final = "10 to 20 seconds"

_log: Final = logging.getLogger("rose_kernels")
_lock, _loading = threading.Lock(), threading.Lock()
_ready: Final[set[Kind]] = set()
_failed: Final[set[Kind]] = set()
_updated_by_core: Final[Counter[Kind]] = Counter()
_compiling: Final[dict[Kind, "subprocess.Popen[Any]"]] = {}


def is_ready(kind: Kind, elements: int, *, demanded: bool) -> bool:
    """Return whether the kernels of a kind can run at this step, or the core must.

    Parameters
    ----------
    kind : Kind
    elements : int
        How many elements the step updates.
    demanded : bool
        Whether to wait until the kernels are compiled.

    Raises
    ------
    RuntimeError
        If they are demanded and cannot be compiled.
    """
    if kind in _ready:
        return True
    if kind in _failed and not demanded:
        return False
    with _lock:
        _updated_by_core[kind] += elements
        if not demanded and _updated_by_core[kind] <= _FEW:
            return False
        loaded, error = _in_own_thread(lambda: _load(kind, demanded=demanded))
        if error is not None and demanded:
            raise RuntimeError(f"fused=True needs the compiled kernels, which cannot be compiled: {error}") from error
        if error is not None:
            _failed.add(kind)
            _log.warning("Rose goes on without compiled kernels, which cannot be compiled: %s", error)
        if loaded:
            _ready.add(kind)
    return bool(loaded)


def _in_own_thread(work: Callable[[], bool]) -> tuple[bool | None, BaseException | None]:
    """Return the result of a function, or its error.

    Handlers of signals run in the main thread only. In a thread of its own, the function cannot take an exception of
    theirs for an error of the compiler. Such an exception ends the wait for the thread, and the next call waits again.
    """
    outcome: list[tuple[bool | None, BaseException | None]] = []
    finished = threading.Event()

    def run() -> None:
        try:
            with _loading:
                outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))
        finally:
            finished.set()

    _thread.start_new_thread(run, ())  # Thread.start() fails in the new thread if a handler raises meanwhile
    finished.wait()
    return outcome[0]


def _load(kind: Kind, *, demanded: bool) -> bool:
    """Load the kernels of a kind, and compile them first if no other process can. Return whether they are loaded."""
    if not demanded and not _is_compiled_elsewhere(kind):
        return False
    _compile(kind)
    return True


def _is_compiled_elsewhere(kind: Kind) -> bool:
    """Return whether another process has compiled a kind, or none can; start one if none has begun."""
    if kind not in _compiling:
        return _is_cached(kind) or not _start_compiling(kind)
    status = _compiling[kind].poll()
    if status is not None and not _is_cached(kind):
        raise RuntimeError(f"the process that compiled them ended with status {status}")
    return status is not None


def _is_cached(kind: Kind) -> bool:
    if reason := reason_of_absence():  # Numba may have got a setting since the optimizer was made
        raise RuntimeError(reason)
    from rose_kernels.entry import is_compiled  # noqa: PLC0415  (it loads Numba: optional, and slow to load)

    return is_compiled(kind)


def _start_compiling(kind: Kind) -> bool:
    """Start a process that compiles a kind and fills the cache. Return whether it could be started."""
    from rose_kernels.entry import cache_folder  # noqa: PLC0415  (see `_is_cached`)

    # In an application that embeds Python, sys.executable is the application.
    is_python = Path(sys.executable or "").name.lower().startswith(("python", "pypy"))
    if not is_python or cache_folder() is None:
        return False
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "rose_kernels", "--compute-dtype", kind.compute]
    try:
        _compiling[kind] = subprocess.Popen(
            [*command, f"{kind.param}:{kind.grad}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process
        )
    except OSError:
        return False
    _log.warning(
        "Rose compiles its kernels for %s parameters in another process, which takes %s, and caches them in %s. "
        "Until then a step takes several times as long.",
        kind.param,
        _SECONDS,
        cache_folder(),
    )
    return True


def _compile(kind: Kind) -> None:
    """Compile a kind in this process, or load it from the cache."""
    if not _is_cached(kind):
        _announce(kind)
    from rose_kernels.entry import entry_point  # noqa: PLC0415  (see `_is_cached`)

    entry_point(kind)


def _announce(kind: Kind) -> None:
    from rose_kernels.entry import cache_folder  # noqa: PLC0415  (see `_is_cached`)

    folder = cache_folder()
    cached = f"and caches them in {folder}" if folder else "in every process, since no folder for a cache is writable"
    _log.warning("Rose compiles its kernels for %s parameters, %s. This takes %s.", kind.param, cached, _SECONDS)


def _forget_processes() -> None:
    """Forget the processes of the parent in a forked child, and locks that another thread may have held."""
    global _lock, _loading
    _lock, _loading = threading.Lock(), threading.Lock()
    _compiling.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_processes)
