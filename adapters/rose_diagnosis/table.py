"""The table of a diagnosis, as plain text."""

import math
import textwrap
from collections.abc import Sequence
from typing import Final

from rose_diagnosis.parameter import ParameterDiagnosis

__all__ = ["CENTERED_SHARE", "LARGE_STEP", "format_table", "status"]

CENTERED_SHARE: Final = 0.5
"""A parameter gets a remark if centering removes more than this share of its gradient."""

LARGE_STEP: Final = 10.0
"""A parameter gets a remark if an element moves by more than this multiple of the learning rate."""

_HEADER: Final = (
    ("parameter", ""),
    ("shape", ""),
    ("", "trust"),
    ("range:", "min"),
    ("", "median"),
    ("", "max"),
    ("zero", "den."),
    ("cen-", "tered"),
    ("update", "/weight"),
    ("step", "/lr"),
)
_UPDATE: Final = _HEADER.index(("update", "/weight"))
_TEXTS: Final = 2  # the columns on the left, whose cells are shortened
_SHORTEST: Final = 9  # the least width of a column of texts


def format_table(entries: Sequence[ParameterDiagnosis], width: int | None) -> str:
    """Return a table with a line for each parameter, and the remarks below it, in at most `width` columns."""
    rows = [[*(cells[line] for cells in _HEADER)] for line in (0, 1)] + [_cells(entry) for entry in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        _shrink(widths, width)
    lines = [" ".join(_fitted(row, widths)).rstrip() for row in rows]
    lines.insert(2, "-" * max(map(len, lines)))
    notes = [f"{entry.name}: {note}" for entry in entries if (note := _remark(entry))]
    if any(row[_UPDATE].endswith("*") for row in rows):
        notes.append("* the weights are 0, and this is the update itself")
    for note in notes:
        lines += textwrap.wrap(note, width or 10**6, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def status(entry: ParameterDiagnosis) -> str:
    """Return the reason why a parameter has no finite update, empty if it has one."""
    if entry.stays_in_place:
        return "stays in place: centered slices of one element"
    if entry.update_rms is None:
        return "empty" if 0 in entry.shape else "no gradient"
    return "not finite" if entry.update_rms != entry.update_rms else ""


def _remark(entry: ParameterDiagnosis) -> str:
    """Return all remarks on a parameter, empty if there are none."""
    if found := status(entry):
        return found
    notes = []
    if len(entry.shape) > 1 and entry.slice_elements == 1:
        notes.append("slices of one element")
    if (entry.centered_share or 0.0) > CENTERED_SHARE:
        notes.append(f"centering removes {entry.centered_share:.0%} of the gradient")
    if (entry.largest_step or 0.0) > LARGE_STEP:
        notes.append(f"an element moves by {_short(entry.largest_step)} times lr")
    return "; ".join(notes)


def _cells(entry: ParameterDiagnosis) -> list[str]:
    return [
        entry.name,
        "x".join(map(str, entry.shape)) or "scalar",
        "" if entry.trust is None else f"{entry.trust:.2f}",
        *(_short(value) for value in (entry.range_min, entry.range_median, entry.range_max)),
        _percent(entry.zero_denominators),
        _percent(entry.centered_share),
        _short(entry.update_rms) + "*" if entry.param_rms == 0.0 else _short(entry.relative_update),
        _short(entry.largest_step),
    ]


def _short(value: float | None) -> str:
    """Return a number with two digits, as short as possible."""
    if value is None:
        return ""
    if value == 0.0 or 0.001 <= value < 999.5:
        return f"{value:.2g}" if value < 99.5 else f"{value:.0f}"
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def _percent(value: float | None) -> str:
    return "" if value is None else "nan" if math.isnan(value) else f"{value:.0%}"


def _shrink(widths: list[int], width: int) -> None:
    """Take from the columns of texts what the table is too wide by, from the names first."""
    excess = sum(widths) + len(widths) - 1 - width
    for column in range(_TEXTS):
        taken = max(0, min(excess, widths[column] - _SHORTEST))
        widths[column], excess = widths[column] - taken, excess - taken


def _fitted(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the cells with the widths of their columns. Texts are on the left, and lose their middle if too long."""
    fitted = []
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        if column >= _TEXTS:
            fitted.append(cell.rjust(width))
        elif len(cell) <= width:
            fitted.append(cell.ljust(width))
        else:
            end = (width - 1) // 2
            fitted.append(f"{cell[: width - 1 - end]}…{cell[-end:]}")
    return fitted
