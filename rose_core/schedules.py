"""Learning rates as pure functions of the step, and a function that writes them into an optimizer.

The first step has the number 0. A function returns the learning rate of one step, from plain numbers, so a schedule has
no state: a resumed run passes the number of its next step. `functools.partial` fixes the other arguments.

`cosine`, `warmup_cosine` and `one_cycle` call `math.cos`. C libraries differ in its last bit, so these learning rates
may, too. All other functions have the same bits on every machine.

Examples
--------
A schedule for a loop of your own:

>>> from functools import partial
>>> schedule = partial(linear_warmup, max_lr=0.5, warmup_steps=3)
>>> [schedule(step) for step in range(5)]
[0.125, 0.25, 0.375, 0.5, 0.5]

With a `max_lr` of 1 it is a function for ``torch.optim.lr_scheduler.LambdaLR``, which multiplies its values with the
learning rate of each group.
"""

import math
import numbers
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Final

from rose_core.hyperparameters import unsigned, validate

__all__ = ["constant", "cosine", "linear_warmup", "one_cycle", "set_lr", "warmup_cosine", "wsd"]

_BITS: Final = 32  # of step counts, as in ROSE-9.2
_LARGEST: Final = sys.float_info.max


def constant(step: int, *, max_lr: float) -> float:
    """Return the same learning rate for every step.

    Parameters
    ----------
    step : int
        Number of the step, in [0, 2**32).
    max_lr : float
        The learning rate, a finite number >= 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not such a number.

    Examples
    --------
    >>> constant(7, max_lr=0.25)
    0.25
    """
    _counts(step=step)
    return _rate("max_lr", max_lr)


def linear_warmup(step: int, *, max_lr: float, warmup_steps: int) -> float:
    """Return a learning rate that rises in equal parts, and then stays constant.

    Parameters
    ----------
    step : int
        Number of the step, in [0, 2**32).
    max_lr : float
        Learning rate of the step `warmup_steps` and of all later ones, a finite number >= 0.
    warmup_steps : int
        Number of steps with a smaller learning rate, in [0, 2**32).

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not such a number.

    Notes
    -----
    ``max_lr * min(1, (step + 1) / (warmup_steps + 1))``. No step has the learning rate 0.

    Examples
    --------
    >>> [linear_warmup(step, max_lr=1.0, warmup_steps=3) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    step, warmup_steps = _counts(step=step, warmup_steps=warmup_steps)
    return _rate("max_lr", max_lr) * min(1.0, (step + 1) / (warmup_steps + 1))


def cosine(step: int, *, max_lr: float, steps: int, min_lr: float = 0.0) -> float:
    """Return a learning rate that falls along half a cosine.

    Parameters
    ----------
    step : int
        Number of the step, in [0, 2**32).
    max_lr : float
        Learning rate of step 0, a finite number >= 0.
    steps : int
        Number of steps until `min_lr`, in [0, 2**32). The steps of a run are 0 to ``steps - 1``, so the last one has a
        learning rate above `min_lr`.
    min_lr : float
        Learning rate from the step `steps` on, a number in [0, `max_lr`].

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not such a number.

    Notes
    -----
    ``min_lr + (max_lr - min_lr) * (1 + cos(pi * step / steps)) / 2``, as torch's ``CosineAnnealingLR``.

    Examples
    --------
    >>> [round(cosine(step, max_lr=1.0, steps=4), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    return warmup_cosine(step, max_lr=max_lr, steps=steps, warmup_steps=0, min_lr=min_lr)


def warmup_cosine(step: int, *, max_lr: float, steps: int, warmup_steps: int, min_lr: float = 0.0) -> float:
    """Return a learning rate that rises as in `linear_warmup`, and then falls as in `cosine`.

    Parameters
    ----------
    step : int
        Number of the step, in [0, 2**32).
    max_lr : float
        Learning rate of the step `warmup_steps`, a finite number >= 0.
    steps : int
        Number of all steps, in [0, 2**32).
    warmup_steps : int
        Number of the steps before the one with `max_lr`, in [0, `steps`].
    min_lr : float
        Learning rate from the step `steps` on, a number in [0, `max_lr`].

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not such a number.

    Examples
    --------
    >>> [round(warmup_cosine(step, max_lr=1.0, steps=7, warmup_steps=3), 3) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    step, steps, warmup_steps = _counts(step=step, steps=steps, warmup_steps=warmup_steps)
    max_lr, min_lr = _rates(max_lr, min_lr)
    _require_at_most("warmup_steps", warmup_steps, "steps", steps)
    if step < min(warmup_steps, steps):
        return linear_warmup(step, max_lr=max_lr, warmup_steps=warmup_steps)
    return _on_cosine(max_lr, min_lr, step - warmup_steps, steps - warmup_steps)


def wsd(step: int, *, max_lr: float, steps: int, warmup_steps: int, decay_steps: int, min_lr: float = 0.0) -> float:
    """Return a learning rate that warms up, is stable, and decays (WSD).

    It rises as in `linear_warmup`, stays at `max_lr`, and falls in equal parts over the last `decay_steps`.

    Parameters
    ----------
    step : int
        Number of the step, in [0, 2**32).
    max_lr : float
        Learning rate of the steps between the warmup and the decay, a finite number >= 0.
    steps : int
        Number of all steps, in [0, 2**32).
    warmup_steps, decay_steps : int
        Numbers of the steps that the learning rate rises and falls for. Their sum is at most `steps`.
    min_lr : float
        Learning rate from the step `steps` on, a number in [0, `max_lr`].

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not such a number.

    Examples
    --------
    >>> [wsd(step, max_lr=1.0, steps=9, warmup_steps=1, decay_steps=4) for step in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    step, steps, warmup_steps, decay_steps = _counts(
        step=step, steps=steps, warmup_steps=warmup_steps, decay_steps=decay_steps
    )
    max_lr, min_lr = _rates(max_lr, min_lr)
    _require_at_most("warmup_steps + decay_steps", warmup_steps + decay_steps, "steps", steps)
    start = steps - decay_steps
    if step < start:
        return linear_warmup(step, max_lr=max_lr, warmup_steps=warmup_steps)
    return min_lr if step >= steps else max_lr - (max_lr - min_lr) * ((step - start) / decay_steps)


def one_cycle(
    step: int,
    *,
    max_lr: float,
    steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> float:
    """Return a learning rate that rises and falls along two half cosines.

    Parameters
    ----------
    step : int
        Number of the step, in [0, 2**32).
    max_lr : float
        Largest learning rate, a finite number >= 0.
    steps : int
        Number of all steps, in [0, 2**32).
    pct_start : float
        Share of the steps that the learning rate rises for, in [0, 1].
    div_factor : float
        The first learning rate is ``max_lr / div_factor``; >= 1.
    final_div_factor : float
        The learning rate of the last step is the first one divided by this number; >= 1. Later steps keep it.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not such a number.

    Notes
    -----
    It equals torch's ``OneCycleLR(total_steps=steps, cycle_momentum=False)``. The peak is at the step
    ``pct_start * steps - 1``, and may lie between two steps.

    Examples
    --------
    >>> [round(one_cycle(step, max_lr=1.0, steps=8, pct_start=0.5), 3) for step in range(8)]
    [0.04, 0.28, 0.76, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    step, steps = _counts(step=step, steps=steps)
    max_lr = _rate("max_lr", max_lr)
    pct_start = _number_in("pct_start", pct_start, 0.0, 1.0)
    div_factor = _number_in("div_factor", div_factor, 1.0, _LARGEST)
    final_div_factor = _number_in("final_div_factor", final_div_factor, 1.0, _LARGEST)
    first = max_lr / div_factor
    peak, last = pct_start * steps - 1.0, steps - 1
    if step <= peak:
        return _on_cosine(first, max_lr, step, peak)
    return _on_cosine(max_lr, first / final_div_factor, step - peak, last - peak)


def set_lr(groups: Iterable[MutableMapping[str, Any]], lr: float, *, max_lr: float | None = None) -> None:
    """Write a learning rate into parameter groups, and the peak that a coupled decay refers to.

    Parameters
    ----------
    groups : iterable of dict
        The `param_groups` of an optimizer, or some of them.
    lr : float
        Learning rate of the next step, a finite number >= 0. It replaces the "lr" of each group.
    max_lr : float or None
        Largest learning rate of the schedule, a finite number > 0. It becomes the "max_lr" of each group, to which
        ``wd_schedule=True`` refers. With None, the decay refers to the first learning rate of the run, which is too
        small if the run begins with a warmup.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said here. No group is changed then.

    Examples
    --------
    >>> import numpy as np
    >>> from rose_numpy import Rose
    >>> weights = {"w": np.ones((2, 2))}
    >>> optimizer = Rose(weights, lr=0.5, weight_decay=0.25, wd_schedule=True)
    >>> set_lr(optimizer.param_groups, linear_warmup(0, max_lr=0.5, warmup_steps=1), max_lr=0.5)
    >>> optimizer.step({"w": np.zeros((2, 2))})  # it shrinks the weights by 0.25 * 0.25 / 0.5
    >>> weights["w"].tolist()
    [[0.875, 0.875], [0.875, 0.875]]
    """
    allowed = "groups must be the param_groups of an optimizer, or some of them"
    if isinstance(groups, MutableMapping) or not isinstance(groups, Iterable):
        raise TypeError(f"{allowed}, got {type(groups).__name__}")
    groups = list(groups)
    for group in groups:
        if not isinstance(group, MutableMapping) or "lr" not in group:
            raise TypeError(f'{allowed}, got an entry without "lr" of type {type(group).__name__}')
    entries = {"lr": _rate("lr", lr)}
    if max_lr is not None:
        entries["max_lr"] = _rate("max_lr", max_lr)
        if not entries["max_lr"]:
            raise ValueError(f"max_lr must be None or a finite number > 0, got {max_lr!r}")
    for group in groups:
        group.update(entries)


def _on_cosine(start: float, end: float, step: float, steps: float) -> float:
    """Return the value at a step of half a cosine from `start` to `end`."""
    if step >= steps:
        return end
    rate = end + (start - end) * ((1.0 + math.cos(math.pi * (step / steps))) / 2.0)
    return max(min(start, end), min(rate, max(start, end)))  # the sum may round beyond the start


def _counts(**counts: int) -> list[int]:
    return [unsigned(name, count, bits=_BITS) for name, count in counts.items()]


def _rates(max_lr: float, min_lr: float) -> tuple[float, float]:
    max_lr = _rate("max_lr", max_lr)
    return max_lr, _number_in("min_lr", min_lr, 0.0, max_lr)


def _number_in(name: str, value: float, least: float, most: float) -> float:
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (is_real and least <= value <= most):
        error = ValueError if is_real else TypeError
        raise error(f"{name} must be a number in [{least}, {most}], got {value!r}")
    return float(value)


def _rate(name: str, value: float) -> float:
    return float(validate(name, value))


def _require_at_most(name: str, count: int, limit_name: str, limit: int) -> None:
    if count > limit:
        raise ValueError(f"{name} must be at most {limit_name}, {limit}, got {count}")
