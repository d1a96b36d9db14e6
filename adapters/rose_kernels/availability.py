"""Whether the kernels can run here: they need Numba, which is optional, and a little-endian machine."""

import functools
import importlib.util
import sys

__all__ = ["resolve_fused"]


def resolve_fused(fused: bool | None) -> bool:
    """Return whether an optimizer uses the kernels.

    Parameters
    ----------
    fused : bool or None
        The option of the optimizer; None means the kernels if they are available.

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        If `fused` is neither True, False nor None.
    RuntimeError
        If `fused` is True and there are no kernels.

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
    """Return why there are no kernels, or an empty string if there are."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed (pip install 'rose-core[fast]')"
    return "" if sys.byteorder == "little" else "this machine is big-endian"
