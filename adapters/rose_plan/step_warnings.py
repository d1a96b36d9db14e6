"""Warnings that come at a step: about a decay that has grown with `lr`, and about very large changes."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from rose_core import Hyperparameters
from rose_core.bounds import largest_change
from rose_plan.plan import Plan
from rose_plan.warnings import grown_decay_warning, large_change_warning, warn_user

__all__ = ["StepWarnings"]

# Warn about elements that move by more than this multiple of lr.
_LARGE: Final = 1000.0
# Reading all gradients takes a while, so it is done at these steps only.
_READING_STEPS: Final = frozenset(10**exponent for exponent in range(10))


class StepWarnings:
    """The warnings of one optimizer. Each comes once."""

    def __init__(self) -> None:
        self._decaying_groups: set[int] = set()
        self._warns_of_changes = True

    def check(
        self, plan: Plan, groups: Sequence[tuple[int, Mapping[str, Any]]], gradient: Callable[[int], Any]
    ) -> None:
        """Warn about a planned step.

        Parameters
        ----------
        plan : the planned step.
        groups : the number and the entries of each group of the plan.
        gradient : returns the gradient at a position of the plan; None if it is not whole, or not on the CPU.
        """
        starts = accumulate((group.size for group in plan.groups), initial=0)
        changes: dict[int, float] = {}
        for (number, entries), group, start in zip(groups, plan.groups, starts, strict=False):
            options = group.options
            if options.wd_schedule is True and number not in self._decaying_groups:
                text = grown_decay_warning(options, entries)
                if text is not None:
                    self._decaying_groups.add(number)
                    warn_user(f"group {number}: {text}")
            may_warn = self._warns_of_changes and options.max_step is None and options.lr > 0.0
            if may_warn and entries["step"] + 1 in _READING_STEPS:
                for position in range(start, start + group.size):
                    grad = gradient(position)
                    if grad is not None and _may_be_large(tuple(grad.shape), options):
                        changes[position] = largest_change(grad, plan.update(position).options)
        large = {plan.name(position): change for position, change in changes.items() if change > _LARGE}
        if large:
            self._warns_of_changes = False
            largest = heapq.nlargest(3, large, key=large.__getitem__)
            warn_user(large_change_warning({name: large[name] for name in largest}, len(large)))


def _may_be_large(shape: tuple[int, ...], options: Hyperparameters) -> bool:
    """Tell whether the changes of such a parameter may be very large.

    An element of a centered slice is at most as large as its range. Its denominator is at least the smaller one of its
    range and the mean range, and no range is more than the number of slices times the mean range.
    """
    is_centered = options.centralize and len(shape) >= 2
    return not is_centered or (options.stabilize and shape[0] > _LARGE)
