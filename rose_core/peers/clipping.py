"""Norms of many gradients, and the scale that clips them."""

from collections.abc import Iterable, Mapping
from typing import Any

from rose_core.hyperparameters import real_number
from rose_core.namespace import array_namespace, as_float64, convert, detached, floating_dtype, quiet
from rose_core.peers.arithmetic import clip_factor, squares_of, total_of

__all__ = ["global_grad_clip_scale", "l2_norm"]


@quiet
def l2_norm(arrays: Any, /) -> Any:
    """Return the l2 norm of the finite elements of arrays, with the same bits in every order of the elements.

    Parameters
    ----------
    arrays : array, mapping of names to arrays, or iterable of arrays
        Arrays of float64, float32, float16 or bfloat16, of one library and on one device. None is skipped. NaN and
        infinite elements are left out.

    Returns
    -------
    array of float64, rank 0
        The norm.

    Raises
    ------
    TypeError, ValueError
        If there is no array, or one is not allowed.

    Examples
    --------
    >>> import numpy as np
    >>> float(l2_norm([np.asarray([3.0, float("nan")]), np.asarray([[4.0]])]))
    5.0
    """
    parts = []
    for name, array in _named(arrays):
        floating_dtype(array, name)
        (x,) = detached(array)
        x = as_float64(convert(x, "float32") if str(x.dtype).endswith("float16") else x)
        xp = array_namespace(x)
        parts.append(squares_of(xp.where(xp.isfinite(x), x, 0.0)))
    if not parts:
        raise ValueError("there must be at least one array, got none")
    norm = total_of(parts).l2
    return array_namespace(norm).asarray(norm)


@quiet
def global_grad_clip_scale(grads: Any, /, max_norm: float) -> Any:
    """Return the factor that scales gradients down to a norm of at most `max_norm`: 1 if theirs is not larger.

    The norm leaves out NaN and infinite elements, as `l2_norm` does. They stay in the gradients, which the caller
    multiplies. Unlike torch, nothing is added to the norm. rlx-optim flips the sign of the gradients for
    a negative `max_norm`, which is refused here.

    Parameters
    ----------
    grads : array, mapping of names to arrays, or iterable of arrays
        The gradients, as `l2_norm` takes them.
    max_norm : float
        The largest norm, >= 0. Infinity never clips.

    Returns
    -------
    array of float64, rank 0
        The factor, in [0, 1].

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> float(global_grad_clip_scale([np.asarray([3.0, 4.0])], 1.0))
    0.2
    """
    limit = real_number("max_norm", max_norm, "a number >= 0")
    if not limit >= 0.0:
        raise ValueError(f"max_norm must be a number >= 0, got {max_norm!r}")
    norm = l2_norm(grads)
    return array_namespace(norm).asarray(clip_factor(norm, limit))


def _named(arrays: Any) -> list[tuple[str, Any]]:
    """Return the arrays that are not None, with a name for errors."""
    if hasattr(arrays, "dtype"):
        return [("the array", arrays)]
    if isinstance(arrays, Mapping):
        return [(f"array {name!r}", array) for name, array in arrays.items() if array is not None]
    if not isinstance(arrays, Iterable) or isinstance(arrays, str | bytes):
        raise TypeError(f"arrays must be an array, a mapping or an iterable of arrays, got {type(arrays).__name__}")
    return [(f"array {number}", array) for number, array in enumerate(arrays) if array is not None]
