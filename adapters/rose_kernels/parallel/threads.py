"""The threads that help the caller: started when first needed, and again in a process that was forked."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

__all__ = ["Threads", "get_num_threads", "run_in_threads", "set_num_threads"]

_chosen: int | None = None
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def set_num_threads(count: int | None) -> None:
    """Set how many threads update NumPy arrays, the caller's included.

    Parameters
    ----------
    count : int or None
        A number >= 1; None goes back to Numba's setting.

    Raises
    ------
    ValueError
        If it is below 1.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)
    """
    global _chosen  # noqa: PLW0603  (a setting of the process, like that of the libraries)
    if count is not None and count < 1:
        raise ValueError(f"count must be None or an integer >= 1, got {count!r}")
    _chosen = count


def get_num_threads() -> int:
    """Return how many threads update NumPy arrays: what was set here, else what is set for Numba.

    Returns
    -------
    int
        ``numba.get_num_threads()`` where Numba's own threads run already, else the environment's NUMBA_NUM_THREADS,
        by default the number of processors.
    """
    if _chosen is not None:
        return _chosen
    import numba  # noqa: PLC0415  (it is optional, and slow to load)

    try:
        numba.threading_layer()
    except ValueError:  # not started, and asking for the number would start it
        return int(numba.config.NUMBA_NUM_THREADS)
    return int(numba.get_num_threads())


def run_in_threads(work: Callable[[], Any], count: int) -> None:
    """Run `work` in so many threads at once, of which the caller is one; it must be right with fewer, too."""
    helpers = _start(work, count - 1)
    try:
        work()
    finally:
        # Who has not begun has nothing left to do; who has must end before the memory it works on may go.
        wait([helper for helper in helpers if not helper.cancel()])
    for helper in helpers:
        if not helper.cancelled():
            helper.result()


class Threads(NamedTuple):
    """How many threads run the kernels, and what runs work in them, which must be right with fewer, too."""

    count: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody calls here
    run: Callable[[Callable[[], Any], int], None] = run_in_threads


def _start(work: Callable[[], Any], count: int) -> list[Future[Any]]:
    """Hand the work to helpers, to fewer where the system has no more threads to give or is about to exit."""
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
    """Leave the threads to the process that has them: a forked child has none of them."""
    global _pool  # noqa: PLW0603
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
