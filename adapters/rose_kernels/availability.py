"""Whether there are kernels: they need Numba, which is optional, and memory that holds the lower half first."""

import functools
import importlib.util
import sys

__all__ = ["resolve_fused"]


def resolve_fused(fused: bool | None) -> bool:
    """Return whether an optimizer uses the kernels.

    Parameters
    ----------
    fused : bool or None
        What its owner asks for; None is the best that is available.

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        If it is neither True, False nor None.
    RuntimeError
        If it is True and there are no kernels.

    Examples
    --------
    >>> resolve_fused(False)
    False
    """
    if fused is not None and not isinstance(fused, bool):
        raise TypeError(f"fused must be True, False or None, got {fused!r}")
    if fused and (reason := _reason_of_absence()):
        raise RuntimeError(f"fused=True needs the compiled kernels, and {reason}; fused=None does without")
    return not _reason_of_absence() if fused is None else fused


@functools.cache
def _reason_of_absence() -> str:
    """Return why there are no kernels, empty where there are."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed (pip install 'rose-core[fast]')"
    return "" if sys.byteorder == "little" else "this machine is big-endian"
