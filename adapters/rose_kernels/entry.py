"""The entry point of the compiled kernels, cached on disk between processes if possible."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, typeof

from rose_kernels.parallel import tables
from rose_kernels.parallel.worker import run_tasks

__all__ = ["entry_point"]


@functools.cache
def entry_point(param_storage: Any, grad_storage: Any, operation: Any) -> Callable[..., None]:
    """Return `worker.run_tasks`, compiled for these storage types and operation dtype, and bound to them."""
    dispatcher = _dispatcher()
    types = (param_storage, grad_storage, operation)
    integers, floats = np.zeros(1, np.int64), np.zeros(0)
    no_tasks = (np.zeros(0, tables.TENSOR), np.zeros(0, tables.TASK), np.zeros(0, np.int64), integers)
    arguments = (*no_tasks, integers, integers, floats, floats, 0, *types)
    try:
        dispatcher(*arguments)
    except OSError:  # compiled, but the cache could not be written
        dispatcher(*arguments)
    # Call the compiled function directly: the dispatcher takes 0.2 ms to find it by the types of the arguments.
    compiled: Callable[..., None] = dispatcher.get_overload(tuple(map(typeof, arguments)))
    return lambda *values: compiled(*values, *types)


@functools.cache
def _dispatcher() -> Any:
    digest = _digest(Path(__file__).parent)
    try:
        return _dispatcher_for(digest, cache=True)
    except RuntimeError:  # no folder is writable
        return _dispatcher_for(digest, cache=False)


def _digest(folder: Path) -> str:
    """Return a digest of all sources in a folder and its subfolders."""
    return hashlib.sha256(b"".join(source.read_bytes() for source in sorted(folder.rglob("*.py")))).hexdigest()


def _dispatcher_for(digest: str, *, cache: bool) -> Any:
    # NOTE: [stale kernels] Numba recompiles a cached function when its file changes, but not when a function that it
    # calls changes. It also keeps closures over different values apart. So this closure uses a digest of all sources.
    def run(
        tensors,
        tasks,
        queues,
        threads_started,
        shared,
        partials,
        means,
        ranges,
        recomputed_rows,
        param_storage,
        grad_storage,
        operation,
    ):
        if len(digest) > 0:
            run_tasks(
                tensors,
                tasks,
                queues,
                threads_started,
                shared,
                partials,
                means,
                ranges,
                recomputed_rows,
                param_storage,
                grad_storage,
                operation,
            )

    return njit(nogil=True, error_model="numpy", cache=cache)(run)
