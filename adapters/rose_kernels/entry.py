"""The entry point of the compiled kernels, cached on disk between processes if possible."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import njit, typeof

from rose_kernels.layout import Kind
from rose_kernels.llvm.cache import compile_or_load, folder_of_cache, is_cached
from rose_kernels.llvm.storage import STORAGE_TYPES
from rose_kernels.parallel import tables
from rose_kernels.parallel.worker import run_tasks

__all__ = ["cache_folder", "entry_point", "is_compiled"]

_OPERATIONS: Final = {"fp64": np.float64, "fp32": np.float32}


@functools.cache
def entry_point(kind: Kind) -> Callable[..., None]:
    """Return `worker.run_tasks`, compiled for a kind or loaded from the cache, and bound to its types."""
    dispatcher, signature, types = _dispatcher(), _signature(kind), _types(kind)
    compile_or_load(dispatcher, signature)
    # Call the compiled function directly: the dispatcher takes 0.2 ms to find it by the types of the arguments.
    compiled: Callable[..., None] = dispatcher.get_overload(signature)
    return lambda *values: compiled(*values, *types)


def is_compiled(kind: Kind) -> bool:
    """Tell whether `entry_point` need not compile, because the cache has the kernels of a kind."""
    return is_cached(_dispatcher(), _signature(kind))


def cache_folder() -> str | None:
    """Return the folder of the cache, None if no folder is writable."""
    return folder_of_cache(_dispatcher())


def _types(kind: Kind) -> tuple[Any, ...]:
    """Return the types that stand for a kind in compiled code."""
    return STORAGE_TYPES[kind.param], STORAGE_TYPES[kind.grad], _OPERATIONS[kind.compute]


def _signature(kind: Kind) -> tuple[Any, ...]:
    """Return Numba's types of the arguments of `run_tasks`."""
    integers, floats = np.zeros(1, np.int64), np.zeros(0)
    tables_and_queues = (np.zeros(0, tables.TENSOR), np.zeros(0, tables.TASK), integers, integers)
    return tuple(map(typeof, (*tables_and_queues, integers, integers, floats, floats, 0, *_types(kind))))


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
