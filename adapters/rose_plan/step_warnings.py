"""Warnings that come at a step: about a decay that has grown with `lr`, and about very large changes."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from rose_core.chunks import largest_change
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
            if self._warns_of_changes and options.max_step is None and entries["step"] + 1 in _READING_STEPS:
                for position in range(start, start + group.size):
                    grad = gradient(position)
                    if grad is not None:
                        changes[position] = largest_change(grad, plan.update(position).options)
        large = {plan.name(position): change for position, change in changes.items() if change > _LARGE}
        if large:
            self._warns_of_changes = False
            largest = heapq.nlargest(3, large, key=large.__getitem__)
            warn_user(large_change_warning({name: large[name] for name in largest}, len(large)))
