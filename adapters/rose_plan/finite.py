"""Gradients with infinities or NaN, and what a step does with them: the option `nonfinite`."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from rose_core.namespace import array_namespace, convert, dtype_name, library, quiet

__all__ = ["checked_nonfinite", "skips_step"]

_NONFINITE: Final = ("propagate", "skip", "raise")


def checked_nonfinite(nonfinite: Any) -> str:
    """Return the option `nonfinite`, or raise an error that names it."""
    if nonfinite not in _NONFINITE:
        raise ValueError(f"nonfinite must be one of {', '.join(map(repr, _NONFINITE))}, got {nonfinite!r}")
    return str(nonfinite)


@quiet
def skips_step(nonfinite: str, grads: Sequence[Any], name: Callable[[int], str]) -> bool:
    """Return whether a step with these gradients is skipped, because one of them has an infinity or a NaN.

    `name` returns the name of the parameter at a position.

    Raises
    ------
    FloatingPointError
        If there is such a gradient, with ``nonfinite="raise"``.
    """
    if nonfinite == "propagate":
        return False
    for position, is_finite in enumerate([_is_finite(grad) for grad in grads]):  # a device computes all at once
        if not bool(is_finite):
            if nonfinite == "skip":
                return True
            raise FloatingPointError(
                f"the gradient of {name(position)} has an infinity or a NaN, which nonfinite='raise' refuses; allowed "
                "are 'propagate', as the rule does, and 'skip', which leaves such a step out"
            )
    return False


def _is_finite(grad: Any) -> Any:
    """Return whether all elements are finite. The extrema are NaN if an element is, and take no memory."""
    xp = array_namespace(grad)
    if 0 in grad.shape:
        return True
    if dtype_name(grad) == "bfloat16" and library(grad) != "torch":
        low, high = (convert(xp.asarray(end), "float32") for end in (xp.min(grad), xp.max(grad)))
    else:
        low, high = xp.min(grad), xp.max(grad)
    return xp.isfinite(low) & xp.isfinite(high)
