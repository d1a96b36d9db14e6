"""The decoupled weight decay and the learning rate it refers to (ROSE-3)."""

from collections.abc import Mapping
from typing import Any

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
]


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
    if not weight_decay:
        return 1.0
    wd_lr = lr if lr_reference is None else lr / lr_reference
    return max(0.0, 1.0 - wd_lr * weight_decay)


def scheduled_decay_factor(options: Hyperparameters, group: Mapping[str, Any]) -> float:
    """Return the decay factor of a group's step, which is the first to be recorded as its `initial_lr` (ROSE-3.4)."""
    initial_lr = recorded_initial_lr(group.get("initial_lr"), options.lr)
    reference = schedule_reference(options.wd_schedule, max_lr=group.get("max_lr"), initial_lr=initial_lr)
    return decay_factor(options.lr, weight_decay=options.weight_decay, lr_reference=reference)


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


def after_step(group: Mapping[str, Any], lr: float) -> dict[str, Any]:
    """Return what a group keeps of a step with `lr`: its `initial_lr` and how many steps it counts (ROSE-9.2)."""
    initial_lr = recorded_initial_lr(group.get("initial_lr"), lr)
    step = unsigned("step", group["step"], bits=32) + int(lr != 0.0)
    return {"step": step} | ({"initial_lr": initial_lr} if initial_lr else {})


def recorded_initial_lr(initial_lr: Any, lr: float) -> Any:
    """Return the `initial_lr` that a group has from a step with `lr` on, None or 0 if still none (ROSE-3.4)."""
    return initial_lr or lr or initial_lr


def apply_decay(x: Array, factor: float, compute: ComputeDtype) -> Any:
    """Shrink the parameter, held in the operation dtype (ROSE-3.1)."""
    if factor == 1.0:
        return x
    return round_to_compute(x * round_number(factor, compute), compute)
