"""The decoupled weight decay and the learning rate it refers to (ROSE-3)."""

from collections.abc import Mapping
from typing import Any

from rose_core.hyperparameters import Hyperparameters, unsigned, validate

__all__ = [
    "after_step",
    "checked_decay_factor",
    "decay_factor",
    "decayed_share",
    "group_decay_factor",
    "group_reference",
]


def decay_factor(lr: float, *, weight_decay: float | None, lr_reference: float | None) -> float:
    """Return the factor that a step multiplies the parameter with.

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
    lr, weight_decay = validate("lr", lr), validate("weight_decay", weight_decay)
    return checked_decay_factor(lr, weight_decay, validate("lr_reference", lr_reference))


def checked_decay_factor(lr: float, weight_decay: float | None, lr_reference: float | None) -> float:
    """Return the decay factor, given numbers that are checked already."""
    return max(0.0, 1.0 - decayed_share(lr, weight_decay, lr_reference)) if weight_decay else 1.0  # ROSE-3.2


def group_decay_factor(options: Hyperparameters, group: Mapping[str, Any]) -> float:
    """Return the decay factor of a step of a parameter group."""
    return checked_decay_factor(options.lr, options.weight_decay, group_reference(options, group))


def decayed_share(lr: float, weight_decay: float, lr_reference: float | None) -> float:
    """Return the share of the parameter that a step takes away, which may exceed 1."""
    wd_lr = lr if lr_reference is None else lr / lr_reference  # ROSE-3.3
    return wd_lr * weight_decay


def group_reference(options: Hyperparameters, group: Mapping[str, Any]) -> float | None:
    """Return the learning rate that the decay of a group refers to, None without one (ROSE-3.4)."""
    if options.wd_schedule is False:
        return None
    if options.wd_schedule is not True:
        return options.wd_schedule
    initial_lr = _recorded_initial_lr(group, options.lr)
    for option, value in (("max_lr", group.get("max_lr")), ("initial_lr", initial_lr)):
        if value is not None and (reference := validate(option, value)):
            return float(reference)
    return None


def after_step(group: Mapping[str, Any], lr: float) -> dict[str, Any]:
    """Return the entries of a group that a step changes: the step count (ROSE-9.2) and `initial_lr` (ROSE-3.4)."""
    initial_lr = _recorded_initial_lr(group, lr)
    step = unsigned("step", group["step"], bits=32) + int(lr != 0.0)
    return {"step": step} | ({"initial_lr": initial_lr} if initial_lr else {})


def _recorded_initial_lr(group: Mapping[str, Any], lr: float) -> Any:
    """Return the `initial_lr` of a group from a step with `lr` on: the first `lr` that is not 0 (ROSE-3.4)."""
    return group.get("initial_lr") or lr
