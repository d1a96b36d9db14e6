"""Gradients with infinities or NaN, and what a step does with them: the option `nonfinite`."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from rose_core.namespace import array_namespace, convert, dtype_name, library

__all__ = ["NONFINITE", "SkippedStep", "checked_nonfinite", "require_finite"]

NONFINITE: Final = ("propagate", "skip", "raise")


class SkippedStep(Exception):  # noqa: N818  (it is no error, and never leaves an optimizer)
    """A step that is skipped as a whole."""


def checked_nonfinite(nonfinite: Any) -> str:
    """Return the option `nonfinite`, or raise an error that names it."""
    if nonfinite not in NONFINITE:
        raise ValueError(f"nonfinite must be one of {', '.join(map(repr, NONFINITE))}, got {nonfinite!r}")
    return str(nonfinite)


def require_finite(nonfinite: str, grads: Sequence[Any], name: Callable[[int], str]) -> None:
    """Raise if a gradient has an infinity or a NaN, unless these propagate. `name` names the parameter of a gradient.

    Raises
    ------
    SkippedStep
        With ``nonfinite="skip"``.
    FloatingPointError
        With ``nonfinite="raise"``.
    """
    if nonfinite == "propagate":
        return
    for position, is_finite in enumerate([_is_finite(grad) for grad in grads]):  # a device computes all at once
        if bool(is_finite):
            continue
        if nonfinite == "skip":
            raise SkippedStep
        raise FloatingPointError(
            f"the gradient of {name(position)} has an infinity or a NaN, which nonfinite='raise' refuses; allowed are "
            "'propagate', as the rule does, and 'skip', which leaves such a step out"
        )


def _is_finite(grad: Any) -> Any:
    xp = array_namespace(grad)
    if dtype_name(grad) == "bfloat16" and library(grad) != "torch":
        grad = convert(grad, "float32")
    return xp.all(xp.isfinite(grad))
