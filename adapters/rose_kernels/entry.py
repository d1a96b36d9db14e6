"""The compiled entry, kept on disk between processes where that is possible."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, typeof

from rose_kernels.parallel import tables
from rose_kernels.parallel.worker import work

__all__ = ["entry"]

Entry = Callable[..., None]


@functools.cache
def entry(param_storage: Any, grad_storage: Any, operation: Any) -> Entry:
    """Return `worker.work` for parameters and gradients of some words and an operation dtype, compiled."""
    compiled = _entry()
    kinds = (param_storage, grad_storage, operation)
    integers, floats = np.zeros(1, np.int64), np.zeros(0)
    no_tickets = (np.zeros(0, tables.TENSOR), np.zeros(0, tables.TICKET), np.zeros(0, np.int64), integers)
    nothing = (*no_tickets, integers, integers, floats, floats, 0, *kinds)
    try:
        compiled(*nothing)
    except OSError:  # it is compiled, but could not be kept
        compiled(*nothing)
    # The compiled function itself: to find it by the types of the arguments takes as long as some small tensors.
    found: Entry = compiled.get_overload(tuple(map(typeof, nothing)))
    return lambda *arguments: found(*arguments, *kinds)


@functools.cache
def _entry() -> Any:
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    try:
        return _compiled_for(digest, cache=True)
    except RuntimeError:  # there is no folder to keep it in
        return _compiled_for(digest, cache=False)


def _compiled_for(digest: str, *, cache: bool) -> Any:
    # NOTE: [stale kernels] Numba looks at the file of the function it keeps, not at those of the functions that
    # this one calls; but it tells closures over different values apart, so this is one over what all files hold.
    def update(
        tensors,
        tickets,
        queues,
        lane,
        shared,
        parts,
        means,
        ranges,
        rows_not_kept,
        param_storage,
        grad_storage,
        operation,
    ):
        if len(digest) > 0:
            work(
                tensors,
                tickets,
                queues,
                lane,
                shared,
                parts,
                means,
                ranges,
                rows_not_kept,
                param_storage,
                grad_storage,
                operation,
            )

    return njit(nogil=True, error_model="numpy", cache=cache)(update)
