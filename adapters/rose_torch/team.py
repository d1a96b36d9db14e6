"""PyTorch's own threads, those of its OpenMP runtime, for kernels to run in.

After an operation of torch they stay awake for some milliseconds, waiting for the next, and threads of another pool
would have to share the processors with them.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Any

import torch

from rose_kernels import Threads, run_in_threads

__all__ = ["threads_of_torch"]

_Member = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# A forked child has none of the threads that the runtime believes to be there, and would wait for them for ever.
_forked = False


def threads_of_torch() -> Threads:
    """Return as many threads as torch is set to: its own, where they can be had."""
    count = torch.get_num_threads()
    return Threads(count) if _forked or _parallel() is None else Threads(count, _run)


def _run(work: Callable[[], Any], count: int) -> None:
    if count < max(2, torch.get_num_threads()):  # for a smaller team the runtime would end some of torch's threads
        run_in_threads(work, count)
        return
    errors: list[BaseException] = []

    def member(_: Any) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    _parallel()(_Member(member), None, count, 0)
    if errors:
        raise errors[0]


@functools.cache
def _parallel() -> Any:
    """Return the function that the compiler calls for a parallel region, from the runtime that torch is linked with."""
    try:
        # A library's handle finds what is in the libraries it depends on.
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (AttributeError, OSError):
        return None
    parallel.argtypes, parallel.restype = [_Member, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return parallel


def _forget_team() -> None:
    global _forked  # noqa: PLW0603  (a state of the process)
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)
