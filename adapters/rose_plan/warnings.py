"""The texts of the warnings, and how they reach the user."""

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rose_core import Hyperparameters
from rose_core.decay import decayed_share, group_reference

__all__ = [
    "decay_warnings",
    "grown_decay_warning",
    "is_always_centered_away",
    "large_change_warning",
    "one_element_warning",
    "warn_user",
]

# The packages between the user and a warning.
_INNER: Final = frozenset({"contextlib", "rose_arrays", "rose_cupy", "rose_numpy", "rose_plan", "rose_torch", "torch"})
# A thousand steps with this decay leave 37 % of a parameter.
_LARGEST_DECAY: Final = 1e-3


def is_always_centered_away(shape: tuple[int, ...], *, centralize: bool) -> bool:
    """Tell whether centering removes every gradient of this shape: a slice of one element is its own mean."""
    return centralize and len(shape) >= 2 and shape[0] > 0 and all(length == 1 for length in shape[1:])


def one_element_warning(params: str) -> str:
    """Return the warning about parameters with slices of one element; `params` names them."""
    return (
        f"{params}: slices of one element are their own mean, so centralize=True leaves nothing of their gradient, and "
        "these parameters never move. Give the optimizer a transposed view, which makes one slice of them all. Or put "
        "them in a group with centralize=False and max_step=1, since the range of a positive slice of one element is 0"
    )


def grown_decay_warning(options: Hyperparameters, group: Mapping[str, Any]) -> str | None:
    """Return the warning about a group with ``wd_schedule=True`` at a step, None if the step decays little.

    A warmup that is written into "lr" makes its first learning rate the reference, which the later ones exceed.
    """
    reference = group_reference(options, group)
    if not options.weight_decay or not reference or options.lr <= reference:
        return None
    share = decayed_share(options.lr, options.weight_decay, reference)
    if share <= _LARGEST_DECAY:
        return None
    return (
        f"wd_schedule=True refers to lr={reference:g}, the first or initial one, and lr={options.lr:g} now "
        f"{_effect(share)}. Pass the peak of the schedule as a number, for example "
        'wd_schedule=1e-3, or write it into the group as "max_lr"'
    )


def _effect(share: float) -> str:
    """Return what a decay by this share of a parameter does at a step."""
    return f"shrinks parameters by {100.0 * share:g} % a step" if share < 1.0 else "sets parameters to 0"


def large_change_warning(changes: Mapping[str, float], count: int) -> str:
    """Return the warning about `count` parameters with very large changes, of which `changes` has the largest."""
    named = ", ".join(f"{name} by up to {change:.3g} * lr" for name, change in changes.items())
    others = f" and {count - len(changes)} more parameters" if count > len(changes) else ""
    return (
        f"this step moves elements of {named}{others}. The elements of a slice of the gradient are nearly equal there, "
        "and Rose divides them by their range. max_step=10 limits a step to 10 * lr, and max_step=float('inf') turns "
        "this warning off"
    )


def warn_user(text: str) -> None:
    """Warn, and point at the line that called this project, also if torch or a decorator lies between."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _INNER:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, UserWarning, stacklevel=level)


def decay_warnings(groups: Iterable[tuple[str, Hyperparameters, Mapping[str, Any]]]) -> list[str]:
    """Return the warnings about groups with a strong coupled decay, given each group's name, options and entries."""
    names: dict[str, list[str]] = {}
    for name, options, group in groups:
        if options.wd_schedule and options.weight_decay and (text := _decay_warning(options, group)):
            names.setdefault(text, []).append(name)
    return [f"{', '.join(of_text)}: {text}" for text, of_text in names.items()]


def _decay_warning(options: Hyperparameters, group: Mapping[str, Any]) -> str | None:
    """Return the warning about a group, None if its decay is weak.

    With ``wd_schedule=True`` it is the decay at the reference learning rate, since the schedule is yet to come.
    """
    weight_decay, reference = options.weight_decay or 0.0, group_reference(options, group)
    lr = reference if options.wd_schedule is True else options.lr
    share = weight_decay if lr is None else decayed_share(lr, weight_decay, reference)
    if share <= _LARGEST_DECAY:
        return None
    uncoupled = f"{weight_decay:g} * lr" if reference is None else f"{weight_decay * reference:g}"
    return (
        f"wd_schedule={options.wd_schedule} with weight_decay={weight_decay:g} {_effect(share)} "
        f"at {'the reference learning rate' if lr is None else f'lr={lr:g}'}; "
        f"weight_decay={uncoupled} shrinks them there as weight_decay={weight_decay:g} does without wd_schedule"
    )
