"""The threads of torch's OpenMP runtime, which run the kernels.

After an operation of torch, its threads spin for 4 to 5 ms and wait for the next one. Another thread pool would have
to share the processors with them, which slows a step down by this time.
"""

import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch

from rose_kernels import Threads, run_in_threads
from rose_plan import subnormals_kept

__all__ = ["subnormals_kept_in_threads", "threads_of_torch"]

P = ParamSpec("P")
R = TypeVar("R")

_Member = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# The runtime of a forked child waits forever for threads that only its parent has.
_forked = False


def threads_of_torch() -> Threads:
    """Return the number of threads that torch is set to, and the pool to run them in: torch's own if possible."""
    count = torch.get_num_threads()
    return Threads(count) if _forked or _parallel() is None else Threads(count, _run)


def subnormals_kept_in_threads(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function run with subnormal numbers, although `torch.set_flush_denormal` may treat them as zeros.

    That setting acts on the calling thread and on threads that start later. Which ones have it cannot be known, so
    torch uses one thread meanwhile.
    """
    return subnormals_kept(function, while_changed=_one_thread)


@contextmanager
def _one_thread() -> Iterator[None]:
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def _run(work: Callable[[], Any], count: int) -> None:
    if count < max(2, torch.get_num_threads()):  # the runtime would end threads of torch to run fewer
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
    """Return the function of the OpenMP runtime that runs a parallel region, None if torch has another runtime.

    torch has no public call for it. A pool of Python threads costs 4 to 5 ms a step more (see the module).
    """
    try:
        # The handle of a library also finds the symbols of its dependencies.
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (AttributeError, OSError):
        return None
    parallel.argtypes, parallel.restype = [_Member, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return parallel


def _forget_threads() -> None:
    global _forked  # noqa: PLW0603  (a state of the process)
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
