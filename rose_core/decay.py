"""The decoupled weight decay and the learning rate it refers to (ROSE-3)."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rose_core.hyperparameters import Hyperparameters, unsigned, validate
from rose_core.namespace import Array
from rose_core.rounding import ComputeDtype, round_number, round_to_compute

__all__ = [
    "after_step",
    "apply_decay",
    "decay_factor",
    "recorded_initial_lr",
    "schedule_reference",
    "scheduled_decay_factor",
    "warnings_of_decay",
]

# A thousand such steps leave 37 %.
_LARGEST_DECAY: Final = 1e-3


def decay_factor(lr: float, *, weight_decay: float | None, lr_reference: float | None) -> float:
    """Return the factor by which a step shrinks the parameter.

    Parameters
    ----------
    lr : float
        Learning rate of the step, a finite number >= 0.
    weight_decay : float or None
        Coefficient, a finite number >= 0; None is 0.
    lr_reference : float or None
        Reference learning rate of a schedule-coupled decay, a finite number > 0; None decays in
        proportion to `lr` itself.

    Returns
    -------
    float
        A factor in [0, 1]; 1 where nothing decays.

    Raises
    ------
    TypeError, ValueError
        If an argument is not such a number.

    Notes
    -----
    ``max(0, 1 - wd_lr * weight_decay)`` with ``wd_lr = lr`` or ``lr / lr_reference``: ROSE-3.2, ROSE-3.3.

    Examples
    --------
    >>> decay_factor(0.5, weight_decay=0.25, lr_reference=None)
    0.875
    >>> decay_factor(0.5, weight_decay=0.25, lr_reference=0.5)
    0.75
    """
    lr = validate("lr", lr)
    weight_decay = validate("weight_decay", weight_decay)
    lr_reference = validate("lr_reference", lr_reference)
    return max(0.0, 1.0 - _decay(lr, weight_decay, lr_reference)) if weight_decay else 1.0


def _decay(lr: float, weight_decay: float, lr_reference: float | None) -> float:
    """Return what share of the parameter a step takes away."""
    wd_lr = lr if lr_reference is None else lr / lr_reference
    return wd_lr * weight_decay


def scheduled_decay_factor(options: Hyperparameters, group: Mapping[str, Any]) -> float:
    """Return the decay factor of a group's step, which is the first to be recorded as its `initial_lr` (ROSE-3.4)."""
    return decay_factor(options.lr, weight_decay=options.weight_decay, lr_reference=_reference_of(options, group))


def _reference_of(options: Hyperparameters, group: Mapping[str, Any]) -> float | None:
    initial_lr = recorded_initial_lr(group.get("initial_lr"), options.lr)
    return schedule_reference(options.wd_schedule, max_lr=group.get("max_lr"), initial_lr=initial_lr)


def schedule_reference(wd_schedule: bool | float, *, max_lr: Any = None, initial_lr: Any = None) -> float | None:
    """Return the reference learning rate of a group, None without one (ROSE-3.4)."""
    if wd_schedule is False:
        return None
    if wd_schedule is not True:
        return wd_schedule
    for option, value in (("max_lr", max_lr), ("initial_lr", initial_lr)):
        if value is not None and (reference := validate(option, value)):
            return float(reference)
    return None


def warnings_of_decay(groups: Iterable[tuple[str, Hyperparameters, Mapping[str, Any]]]) -> list[str]:
    """Return what to tell of groups, each with its name and its options, whose coupled decay is strong.

    With ``wd_schedule=True`` that is the decay at the reference, where a schedule is yet to come.
    """
    named: dict[str, list[str]] = {}
    for name, options, group in groups:
        if options.wd_schedule and options.weight_decay and (text := _warning_of_decay(options, group)):
            named.setdefault(text, []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in named.items()]


def _warning_of_decay(options: Hyperparameters, group: Mapping[str, Any]) -> str | None:
    weight_decay, reference = options.weight_decay or 0.0, _reference_of(options, group)
    lr = reference if options.wd_schedule is True else options.lr
    decay = weight_decay if lr is None else _decay(lr, weight_decay, reference)
    if decay <= _LARGEST_DECAY:
        return None
    uncoupled = f"{weight_decay:g} * lr" if reference is None else f"{weight_decay * reference:g}"
    return (
        f"wd_schedule={options.wd_schedule} with weight_decay={weight_decay:g} shrinks parameters by {decay:g} of "
        f"themselves a step at {'the reference learning rate' if lr is None else f'lr={lr:g}'}; "
        f"weight_decay={uncoupled} shrinks them there as weight_decay={weight_decay:g} does without wd_schedule"
    )


def after_step(group: Mapping[str, Any], lr: float) -> dict[str, Any]:
    """Return what a group keeps of a step with `lr`: its `initial_lr` and how many steps it counts (ROSE-9.2)."""
    initial_lr = recorded_initial_lr(group.get("initial_lr"), lr)
    step = unsigned("step", group["step"], bits=32) + int(lr != 0.0)
    return {"step": step} | ({"initial_lr": initial_lr} if initial_lr else {})


def recorded_initial_lr(initial_lr: Any, lr: float) -> Any:
    """Return the `initial_lr` that a group has from a step with `lr` on, None or 0 if still none (ROSE-3.4)."""
    return initial_lr or lr or initial_lr


def apply_decay(x: Array, factor: float, compute: ComputeDtype) -> Any:
    """Shrink the parameter, held in the operation dtype, which is written over (ROSE-3.1)."""
    if factor == 1.0:
        return x
    x *= round_number(factor, compute)
    return round_to_compute(x, compute)
