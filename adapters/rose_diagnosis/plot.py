"""The plot of a diagnosis."""

import importlib
import math
from collections.abc import Sequence
from os import PathLike
from typing import Any, Final

from rose_diagnosis.parameter import ParameterDiagnosis
from rose_diagnosis.table import status

__all__ = ["draw", "save_plot"]

_DPI: Final = 120
# In inches. Matplotlib limits a side to 2**16 pixels, and viewers to less.
_ROW: Final = 0.22
_TALLEST: Final = 100.0
# With more rows, only some of them are labelled.
_LABELLED: Final = 450
_LONGEST_NAME: Final = 60
# The ends of a logarithmic axis lie beyond its numbers by this factor.
_MARGIN: Final = 2.0


def save_plot(entries: Sequence[ParameterDiagnosis], path: str | PathLike[str]) -> None:
    """Save the ranges, the trust and the relative updates, with a row for each parameter."""
    draw(entries).savefig(path, dpi=_DPI, format="png")


def draw(entries: Sequence[ParameterDiagnosis]) -> Any:
    """Return the `matplotlib.figure.Figure` of the plot."""
    figure = _matplotlib("matplotlib.figure").Figure(
        figsize=(13, min(2.0 + _ROW * len(entries), _TALLEST)), layout="constrained"
    )
    ranges, trust, updates = figure.subplots(1, 3, sharey=True)
    rows = range(len(entries))

    ranges.hlines(rows, _column(entries, "range_min"), _column(entries, "range_max"), color="C0")
    ranges.plot(_column(entries, "range_median"), rows, "o", color="C0", markersize=4)
    ranges.set(title="Ranges of the slices", xlabel="smallest, median and largest")
    trust.plot(_column(entries, "trust"), rows, "o", color="C1", markersize=4)
    trust.set(title="Trust factor", xlabel="1: the range of each slice, 0: their mean", xlim=(-0.02, 1.02))
    updates.plot(_column(entries, "relative_update"), rows, "o", color="C2", markersize=4)
    updates.set(title="Update relative to the weight", xlabel="quotient of their root mean squares")

    _scale(ranges, entries, ("range_min", "range_median", "range_max"))
    _scale(updates, entries, ("relative_update",))
    for axes in (ranges, trust, updates):
        axes.grid(alpha=0.3)
    labelled = rows[:: -(-len(entries) // _LABELLED) or 1]
    ranges.set_yticks(labelled, [_label(entries[row]) for row in labelled])
    ranges.set_ylim(max(len(entries), 1) - 0.5, -0.5)
    return figure


def _scale(axes: Any, entries: Sequence[ParameterDiagnosis], numbers: Sequence[str]) -> None:
    """Make the axis logarithmic, from below the smallest positive number. A 0 is a triangle at its left end."""
    columns = [_column(entries, number) for number in numbers]
    positive = [value for column in columns for value in column if 0.0 < value < math.inf]
    if not positive:
        return
    axes.set_xscale("log", nonpositive="clip")
    axes.tick_params(axis="x", which="both", labelrotation=45)
    left, right = min(positive) / _MARGIN, max(positive) * _MARGIN
    axes.set_xlim(left, right)
    zeros = [row for row in range(len(entries)) if any(column[row] == 0.0 for column in columns)]
    if zeros:
        axes.plot([left] * len(zeros), zeros, "<", color="C3", markersize=6, clip_on=False, label="0")
        axes.legend(loc="lower right")


def _matplotlib(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError("the plot of a diagnosis needs matplotlib: pip install matplotlib") from error


def _column(entries: Sequence[ParameterDiagnosis], number: str) -> list[Any]:
    """Return a number of all parameters. NaN stands for a missing number, and is not drawn."""
    return [math.nan if (value := getattr(entry, number)) is None else value for entry in entries]


def _label(entry: ParameterDiagnosis) -> str:
    """Return the name and the status. The middle of a long name is left out."""
    name, note = entry.name, status(entry)
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2]}…{name[-_LONGEST_NAME // 2 :]}"
    # Matplotlib reads a dollar as the start of a formula.
    return (f"{name} ({note})" if note else name).replace("$", r"\$")
