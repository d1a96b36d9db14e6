"""Planned steps, which the optimizers of all libraries share: a step is planned and checked before it runs.

- A `Plan` holds the updates of a step, one for each parameter with a gradient.
- `CheckCache` remembers the results of the checks from one step to the next.
- `shared_memory` finds arrays whose updates must not run at once.
- `uninterrupted` runs the writes of a step to their end, whatever signals arrive.
- `skips_step` finds infinities and NaN in gradients, for the option `nonfinite`.
- `StepWarnings` warns about a step that decays or moves a parameter very much.
- `subnormals_kept` runs a step with subnormal numbers, whatever the mode of the thread.
"""

from rose_plan.cache import CheckCache, Checked, CheckedRow, Properties
from rose_plan.finite import checked_nonfinite, skips_step
from rose_plan.interrupts import uninterrupted
from rose_plan.memory import Overlap, Spans, has_repeated_elements, shared_memory, span_of, spans_of
from rose_plan.options import differences, require_no_option, warn_of_misspelt_options
from rose_plan.plan import Group, Plan, Update, update_by_core
from rose_plan.step_warnings import StepWarnings
from rose_plan.subnormals import subnormals_kept
from rose_plan.warnings import decay_warnings, is_always_centered_away, one_element_warning, warn_user

__all__ = [
    "CheckCache",
    "Checked",
    "CheckedRow",
    "Group",
    "Overlap",
    "Plan",
    "Properties",
    "Spans",
    "StepWarnings",
    "Update",
    "checked_nonfinite",
    "decay_warnings",
    "differences",
    "has_repeated_elements",
    "is_always_centered_away",
    "one_element_warning",
    "require_no_option",
    "shared_memory",
    "skips_step",
    "span_of",
    "spans_of",
    "subnormals_kept",
    "uninterrupted",
    "update_by_core",
    "warn_of_misspelt_options",
    "warn_user",
]
