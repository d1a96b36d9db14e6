"""The threads that run a step: how many, and a pool of helpers that survives `fork`."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

__all__ = ["Threads", "get_num_threads", "run_in_threads", "set_num_threads"]

_chosen: int | None = None
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def set_num_threads(count: int | None) -> None:
    """Set how many threads update NumPy arrays, the calling thread included.

    Parameters
    ----------
    count : int or None
        A number >= 1; None restores the setting of Numba.

    Raises
    ------
    ValueError
        If `count` is below 1.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)
    """
    global _chosen  # noqa: PLW0603  (a setting of the process, as in NumPy and PyTorch)
    if count is not None and count < 1:
        raise ValueError(f"count must be None or an integer >= 1, got {count!r}")
    _chosen = count


def get_num_threads() -> int:
    """Return how many threads update NumPy arrays: the number that was set, or the setting of Numba.

    Returns
    -------
    int
        The setting of Numba is ``numba.get_num_threads()`` if its threads run already. Otherwise it is the environment
        variable NUMBA_NUM_THREADS, by default the number of processors.
    """
    if _chosen is not None:
        return _chosen
    import numba  # noqa: PLC0415  (it is optional, and slow to load)

    try:
        numba.threading_layer()
    except ValueError:  # Numba's threads do not run, and numba.get_num_threads() would start them
        return int(numba.config.NUMBA_NUM_THREADS)
    return int(numba.get_num_threads())


def run_in_threads(work: Callable[[], Any], count: int) -> None:
    """Run `work` in up to `count` threads at once: the calling thread, and helpers from a pool.

    Parameters
    ----------
    work : callable
        Called once in each thread. Its result must be right even if fewer threads call it.
    count : int
        The number of threads, the calling thread included.
    """
    if count == 1:
        work()
        return
    helpers = _start(work, count - 1)
    try:
        work()
    finally:
        # Cancel helpers that have not started; wait for the others, which still use the buffers of `work`.
        wait([helper for helper in helpers if not helper.cancel()])
    for helper in helpers:
        if not helper.cancelled():
            helper.result()


@dataclass(frozen=True)
class Threads:
    """How many threads run a launch, and the function that runs work in them, by default `run_in_threads`."""

    count: int
    run: Callable[[Callable[[], Any], int], None] = run_in_threads


def _start(work: Callable[[], Any], count: int) -> list[Future[Any]]:
    """Submit the work to `count` helpers, or to fewer if the system has no more threads or Python is about to exit."""
    helpers: list[Future[Any]] = []
    try:
        while len(helpers) < count:
            helpers.append(_helpers(count).submit(work))
    except RuntimeError:
        pass
    return helpers


def _helpers(count: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size < count:
        _pool, _pool_size = ThreadPoolExecutor(count, thread_name_prefix="rose"), count
    return _pool


def _forget_pool() -> None:
    """Drop the pool in a forked child, which has none of its threads."""
    global _pool  # noqa: PLW0603
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
