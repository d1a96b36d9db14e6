"""The plot of a diagnosis."""

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any, Final

from rose_diagnosis.extras import optional_module
from rose_diagnosis.parameter import ParameterDiagnosis
from rose_diagnosis.table import remark

__all__ = ["save_plot"]

_DPI: Final = 120
# In inches. Matplotlib limits a side to 2**16 pixels, and viewers to less.
_ROW: Final = 0.22
_TALLEST: Final = 100.0
# With more rows, only some of them are labelled.
_LABELLED: Final = 450
_LONGEST_NAME: Final = 60


def save_plot(entries: Sequence[ParameterDiagnosis], path: str | PathLike[str]) -> None:
    """Save the ranges, the trust and the relative updates, with a row for each parameter."""
    figure = optional_module("matplotlib.figure", "the plot of a diagnosis").Figure(
        figsize=(13, min(2.0 + _ROW * len(entries), _TALLEST)), layout="constrained"
    )
    ranges, trust, updates = figure.subplots(1, 3, sharey=True)
    rows = range(len(entries))

    ranges.hlines(rows, _column(entries, "range_min"), _column(entries, "range_max"), color="C0")
    ranges.plot(_column(entries, "range_median"), rows, "o", color="C0", markersize=4)
    ranges.set(title="Ranges of the slices", xlabel="smallest, median and largest")
    trust.plot(_column(entries, "trust"), rows, "o", color="C1", markersize=4)
    trust.set(title="Trust in each slice's own range", xlabel="trust factor", xlim=(-0.02, 1.02))
    updates.plot(_column(entries, "relative_update"), rows, "o", color="C2", markersize=4)
    updates.set(title="Update relative to the weight", xlabel="quotient of their root mean squares")

    for axes, numbers in (
        (ranges, ("range_min", "range_median", "range_max")),
        (updates, ("relative_update",)),
    ):
        if any(0.0 < value < math.inf for number in numbers for value in _column(entries, number)):
            axes.set_xscale("log", nonpositive="clip")
            axes.tick_params(axis="x", which="both", labelrotation=45)
    for axes in (ranges, trust, updates):
        axes.grid(alpha=0.3)
    labelled = rows[:: -(-len(entries) // _LABELLED) or 1]
    ranges.set_yticks(labelled, [_label(entries[row]) for row in labelled])
    ranges.set_ylim(max(len(entries), 1) - 0.5, -0.5)
    figure.savefig(path, dpi=_DPI, format="png")


def _column(entries: Sequence[ParameterDiagnosis], number: str) -> list[Any]:
    """Return a number of all parameters. NaN stands for a missing number, and is not drawn."""
    return [math.nan if (value := getattr(entry, number)) is None else value for entry in entries]


def _label(entry: ParameterDiagnosis) -> str:
    """Return the name and the remark. The middle of a long name is left out."""
    name, note = entry.name, remark(entry)
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2]}…{name[-_LONGEST_NAME // 2 :]}"
    # Matplotlib reads a dollar as the start of a formula.
    return (f"{name} ({note})" if note else name).replace("$", r"\$")
