"""The texts of the warnings about parameter groups."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rose_core import Hyperparameters
from rose_core.decay import decayed_share, group_reference

__all__ = ["decay_warnings", "is_always_centered_away", "one_element_warning"]

# A thousand steps with this decay leave 37 % of a parameter.
_LARGEST_DECAY: Final = 1e-3


def is_always_centered_away(shape: tuple[int, ...], *, centralize: bool) -> bool:
    """Tell whether centering removes every gradient of this shape: a slice of one element is its own mean."""
    return centralize and len(shape) >= 2 and shape[0] > 0 and all(length == 1 for length in shape[1:])


def one_element_warning(params: str) -> str:
    """Return the warning about parameters with slices of one element; `params` names them."""
    return (
        f"{params}: slices of one element are their own mean, so centralize=True leaves nothing of their "
        "gradient; put them in a group with centralize=False"
    )


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
        f"wd_schedule={options.wd_schedule} with weight_decay={weight_decay:g} shrinks parameters by {share:g} of "
        f"themselves a step at {'the reference learning rate' if lr is None else f'lr={lr:g}'}; "
        f"weight_decay={uncoupled} shrinks them there as weight_decay={weight_decay:g} does without wd_schedule"
    )
