"""The groups of an optimizer over arrays: their options, their schedules, their states and their warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from rose_core import Hyperparameters
from rose_core.hyperparameters import unsigned, validate
from rose_core.namespace import dtype_name
from rose_plan import decay_warnings, differences, is_always_centered_away, one_element_warning, warn_user

__all__ = [
    "OPTIONS",
    "SCHEDULE",
    "dtypes_of",
    "label_of",
    "loaded_group",
    "options_of",
    "plain_options",
    "schedule_of",
    "shapes_of",
    "warn_of_groups",
]

OPTIONS: Final = tuple(field.name for field in fields(Hyperparameters))
# The entries of a schedule, which a group may have beside the options (ROSE-3.4).
SCHEDULE: Final = ("initial_lr", "max_lr")


def plain_options(**options: Any) -> dict[str, Any]:
    """Return validated options in their plain form."""
    return asdict(_hyperparameters(options))


def options_of(group: Mapping[str, Any], number: int) -> Hyperparameters:
    """Return the options of the group with a number, validated again: their owner may have changed them."""
    try:
        options, _ = {option: group[option] for option in OPTIONS}, group["step"]
    except KeyError as error:
        raise ValueError(f"group {number} lacks {error.args[0]}") from None
    return _hyperparameters(options)


def _hyperparameters(options: Mapping[str, Any]) -> Hyperparameters:
    checked = Hyperparameters(**options)
    if checked.sr_seed is None:
        raise ValueError("sr_seed must be an integer in [0, 2**64), got None")
    return checked


def schedule_of(group: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries of a schedule in a group, validated and in their plain form."""
    return {name: validate(name, group[name]) for name in SCHEDULE if name in group}


def loaded_group(current: dict[str, Any], saved: Any, number: int) -> dict[str, Any]:
    """Return the group of a state, with the arrays of the optimizer's group `current`."""
    label = f'state["param_groups"][{number}]'
    required = {"params", "names", "step", *OPTIONS}
    if not isinstance(saved, Mapping):
        raise TypeError(f"{label} must be a mapping, got {type(saved).__name__}")
    saved = {"max_step": current["max_step"], **saved}  # states of 0.1.0 have none, and no shapes and dtypes
    missing, unknown = sorted(required - set(saved)), sorted(set(saved) - required - {*SCHEDULE, "shapes", "dtypes"})
    if text := differences({"lacks the keys": missing, "has the unknown keys": unknown}):
        raise ValueError(f"{label} {text}")
    if saved["names"] != current["names"] or len(saved["params"]) != len(current["params"]):
        raise ValueError(
            f"{label} is of {len(saved['params'])} parameters named {saved['names']}, "
            f"this optimizer's of {len(current['params'])} named {current['names']}"
        )
    for key, values in (("shapes", shapes_of(current["params"])), ("dtypes", dtypes_of(current["params"]))):
        if key in saved and saved[key] != values:
            raise ValueError(f"{label} is of arrays with the {key} {saved[key]}, this optimizer's of {values}")
    step = unsigned("step", saved["step"], bits=32)
    options = plain_options(**{option: saved[option] for option in OPTIONS})
    kept = {key: current[key] for key in ("params", "names", "source")}
    return {**kept, **options, **schedule_of(saved), "step": step}


def shapes_of(arrays: Sequence[Any]) -> list[list[int]]:
    """Return the shape of each array, as JSON holds it."""
    return [list(array.shape) for array in arrays]


def dtypes_of(arrays: Sequence[Any]) -> list[str]:
    """Return the name of the dtype of each array."""
    return [dtype_name(array) for array in arrays]


def label_of(names: list[str] | None, position: int, of: str) -> str:
    """Return the name of the array at a position of "params" or "grads", for errors."""
    return f"{of}[{position if names is None else names[position]!r}]"


def warn_of_groups(groups: Sequence[Mapping[str, Any]], first: int) -> None:
    """Warn about the groups from the first on, once for each reason."""
    numbered = list(enumerate(groups))[first:]
    fixed = [f"{params} in group {number}" for number, group in numbered if (params := _fixed_params(group))]
    texts = [one_element_warning(", ".join(fixed))] if fixed else []
    texts += decay_warnings((f"group {number}", options_of(group, number), group) for number, group in numbered)
    for text in texts:
        warn_user(text)


def _fixed_params(group: Mapping[str, Any]) -> str:
    """Return the names of the arrays that no gradient moves, empty if there are none."""
    return ", ".join(
        f"{label_of(group['names'], position, 'params')} of shape {tuple(array.shape)}"
        for position, array in enumerate(group["params"])
        if is_always_centered_away(tuple(array.shape), centralize=group["centralize"])
    )
