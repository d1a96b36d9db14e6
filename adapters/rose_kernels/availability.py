"""Whether the kernels can run here: they need Numba, which is optional, and a little-endian machine."""

import functools
import importlib.util
import os
import sys
from contextlib import suppress

__all__ = ["reason_of_absence", "resolve_fused"]


def resolve_fused(fused: bool | None) -> bool | None:
    """Check the option `fused`.

    Parameters
    ----------
    fused : bool or None
        The option of an optimizer or of a group.

    Returns
    -------
    bool or None
        True to demand the kernels, None to use them when they are compiled, False to use the core: also in place of
        None if there are no kernels.

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
    reason = reason_of_absence()
    if fused and reason:
        raise RuntimeError(f"fused=True needs the compiled kernels, and {reason}; fused=None does without")
    return False if reason else fused


def reason_of_absence() -> str:
    """Return why there are no kernels, or an empty string if there are."""
    if not _has_numba():
        return "Numba is not installed (pip install numba)"
    if _jit_is_disabled():
        return "NUMBA_DISABLE_JIT turns Numba's compiler off"
    return "" if sys.byteorder == "little" else "this machine is big-endian"


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def _jit_is_disabled() -> bool:
    config = getattr(sys.modules.get("numba"), "config", None)  # None while another thread imports Numba
    if config is not None:
        return bool(config.DISABLE_JIT)
    with suppress(ValueError):  # Numba ignores what is not an integer
        return int(os.environ.get("NUMBA_DISABLE_JIT", "0")) != 0
    return False
