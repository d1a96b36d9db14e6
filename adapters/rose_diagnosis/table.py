"""The table of a diagnosis."""

from collections.abc import Sequence
from typing import Any, Final

from rose_diagnosis.extras import optional_module
from rose_diagnosis.parameter import ParameterDiagnosis

__all__ = ["build_table", "remark"]

_NUMBERS: Final = ("trust", "range\nmin", "median", "max", "zero de-\nnominators", "update /\nweight")


def build_table(entries: Sequence[ParameterDiagnosis]) -> Any:
    """Return a `rich.table.Table` with a row for each parameter. At 80 columns, no number is wrapped."""
    purpose = "the table of a diagnosis"
    boxes, text = optional_module("rich.box", purpose), optional_module("rich.text", purpose)
    table = optional_module("rich.table", purpose).Table(box=boxes.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("parameter", "shape", "dtype"):
        table.add_column(name, overflow="fold")
    for name in _NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("remark")
    for entry in entries:
        shape = " x ".join(map(str, entry.shape)) or "scalar"
        table.add_row(text.Text(entry.name), shape, entry.dtype, *_numbers(entry), remark(entry))
    return table


def remark(entry: ParameterDiagnosis) -> str:
    """Return a remark on the parameter, empty if there is none."""
    if entry.stays_in_place:
        return "stays in place: centred slices of one element"
    if entry.update_rms is None:
        return "empty" if 0 in entry.shape else "no gradient"
    if entry.update_rms != entry.update_rms:
        return "not finite"
    return "slices of one element" if len(entry.shape) > 1 and entry.slice_elements == 1 else ""


def _numbers(entry: ParameterDiagnosis) -> list[str]:
    zeros = entry.zero_denominators
    return [
        _short(entry.trust, ".3f"),
        *(_short(value, ".2e") for value in (entry.range_min, entry.range_median, entry.range_max)),
        _short(zeros, ".1%" if zeros else ".0%"),
        _short(entry.relative_update, ".2e"),
    ]


def _short(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
