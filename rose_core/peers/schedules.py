"""Schedules of the learning rate."""

from collections.abc import Callable

from rose_core.hyperparameters import real_number, unsigned
from rose_core.schedules import wsd

__all__ = ["wsd_schedule"]


def wsd_schedule(
    peak_lr: float,
    total_steps: int,
    warmup_fraction: float = 0.1,
    decay_fraction: float = 0.1,
    *,
    final_lr_ratio: float | None = 0.0,
) -> Callable[[int], float]:
    """Return a schedule with a warmup, a stable phase and a decay: the learning rate as a function of the step.

    Parameters
    ----------
    peak_lr : float
        The learning rate of the stable phase, >= 0.
    total_steps : int
        The number of steps, in [0, 2**32).
    warmup_fraction, decay_fraction : float
        The parts of the steps in which the rate rises and falls, in [0, 1]. Their numbers of steps are rounded down.
    final_lr_ratio : float or None
        The rate of the last step, as a multiple of `peak_lr`, in [0, 1]. None ends at one over the number of decay
        steps, as rollfast 0.2 does.

    Returns
    -------
    callable
        Takes the number of steps before, in [0, 2**32). After the last step the rate stays.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or the two parts exceed all steps; the message names it.

    See Also
    --------
    rose_core.schedules.wsd : the same with numbers of steps instead of fractions.

    Notes
    -----
    With W warmup steps, D decay steps and T steps, the rate of the step after t others is ``(t + 1) / (W + 1)`` of the
    peak for ``t <= W``, and falls linearly for ``t > T - D``. With D = 1, it stays at the peak until the last step,
    which has ``final_lr_ratio * peak_lr``. With T = 0, the rate is 0.

    Examples
    --------
    >>> lr = wsd_schedule(1.0, 20, 0.1, 0.2)
    >>> [round(lr(t), 3) for t in (0, 1, 2, 16, 17, 18, 19)]
    [0.333, 0.667, 1.0, 1.0, 0.667, 0.333, 0.0]
    """
    peak, total = real_number("peak_lr", peak_lr, "a number >= 0"), unsigned("total_steps", total_steps, bits=32)
    fractions = {"warmup_fraction": warmup_fraction, "decay_fraction": decay_fraction}
    if final_lr_ratio is not None:
        fractions["final_lr_ratio"] = final_lr_ratio
    for name, value in fractions.items():
        if not 0.0 <= real_number(name, value, "a number in [0, 1]") <= 1.0:
            raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")
    if not 0.0 <= peak < float("inf"):
        raise ValueError(f"peak_lr must be a finite number >= 0, got {peak_lr!r}")
    warmup, decay = int(total * warmup_fraction), int(total * decay_fraction)

    if warmup + decay > total:
        raise ValueError(
            f"warmup_fraction + decay_fraction must be at most 1, got {warmup_fraction!r} + {decay_fraction!r}"
        )
    steps, min_lr = total, 0.0
    if final_lr_ratio is not None and decay > 0:  # `wsd` reaches `min_lr` one step after the decay
        steps, decay, min_lr = total - 1, decay - 1, final_lr_ratio * peak

    def schedule(step: int) -> float:
        before = min(unsigned("step", step, bits=32), max(total - 1, 0))
        return wsd(before, max_lr=peak, steps=steps, warmup_steps=warmup, decay_steps=decay, min_lr=min_lr)

    return schedule
