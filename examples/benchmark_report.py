"""The results of a benchmark as tables for a terminal or in Markdown, as a JSON file, and as a plot."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil
from benchmark_cases import ADD, CASES
from benchmark_measurement import Measurement, Result, Spread
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from rich import box
from rich.table import Table

__all__ = ["environment", "legend", "plot", "save", "scaling_table", "summary", "table"]

PACKAGES: Final = ("numpy", "torch", "numba", "rose-core", "rose-opt")
# The contenders in the plot, with their colours. The tables have all contenders.
DRAWN: Final = {
    "rose_torch fused fp64": "C3",
    "rose_torch fp64": "C1",
    "rose-opt fp64": "C0",
    "rose-opt fp32": "C9",
    "AdamW fused": "C7",
    ADD: "black",
}


def legend(rounds: int) -> str:
    """Return an explanation of the columns of the tables."""
    return (
        "Time in adds: the time of a step divided by the time of torch.add(x, y, out=z) in float32 for as many "
        f"elements; median, minimum and maximum of {rounds} interleaved rounds. Speed: relative to rose-opt at the "
        "same compute dtype. MiB in a step: memory that a step allocates and frees. MiB kept: memory between steps "
        "besides parameters and gradients. Rose rounds bfloat16 parameters stochastically, AdamW and SGD round to "
        "nearest."
    )


def table(result: Result, *, markdown: bool = False) -> Table:
    """Return the table of a result. If the tensors are small, it has a column for the time per tensor."""
    small = ["µs a\ntensor"] if result.parameters < 1000 * result.tensors else []
    grid = _table(
        f"{CASES[result.case].title}, {result.dtype}, {_threads(result.threads)}\n"
        f"{_millions(result.parameters)} parameters in {result.tensors:,} tensor{'s' * (result.tensors > 1)}",
        ["time\nin adds", "least\nto most", "speed vs\nrose-opt", "ms", *small, "MiB in\na step", "MiB\nkept"],
        markdown,
    )
    for row in result.measurements:
        adds, seconds = result.in_adds(row), median(row.seconds)
        cells = [_number(adds.median), f"{_number(adds.least)}-{_number(adds.most)}", _number(result.speed(row))]
        cells += [_number(1e3 * seconds), *[_number(1e6 * seconds / result.tensors) for _ in small]]
        grid.add_row(row.label, *cells, _mebibytes(row.step_bytes), _mebibytes(row.kept_bytes), style=_style(row))
    return grid


def summary(results: Sequence[Result], *, markdown: bool = False) -> Table:
    """Return a table of the times in adds with a column for each case. All results have one dtype and thread count."""
    first = results[0]
    title = f"Time of a step in adds: {first.dtype}, {_threads(first.threads)}"
    grid = _table(title, [result.case for result in results], markdown)
    for row in first.measurements:
        if row.contender != ADD:
            grid.add_row(row.label, *(_cell(result, row) for result in results), style=_style(row))
    return grid


def _cell(result: Result, row: Measurement) -> str:
    measured = result.find(row.contender, row.compute)
    return _number(None if measured is None else result.in_adds(measured).median)


def scaling_table(results: Sequence[Result], *, markdown: bool = False) -> Table:
    """Return a table of the times with a column for each number of parameters."""
    title = f"Milliseconds a step, by the number of parameters: float32, {_threads(results[0].threads)}"
    grid = _table(title, [_millions(result.parameters) for result in results], markdown)
    for row in results[0].measurements:
        measured = [result.find(row.contender, row.compute) for result in results]
        grid.add_row(row.label, *(_number(1e3 * median(m.seconds)) for m in measured), style=_style(row))
    return grid


def _table(title: str, headers: list[str], markdown: bool) -> Table:
    """Return an empty table of numbers. Many columns are packed closely, to fit into 80 characters."""
    if markdown:
        title, headers = title.replace("\n", ": "), [header.replace("\n", " ") for header in headers]
        grid = Table("", title=title, title_justify="left", box=box.MARKDOWN)
    else:
        gap = (0, 1, 0, 0) if len(headers) < 7 else 0
        grid = Table("", title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=gap)
    grid.min_width = max(len(line) for line in title.splitlines())
    for header in headers:
        grid.add_column(header, justify="right", no_wrap=True)
    return grid


def _style(row: Measurement) -> str:
    if row.contender.startswith("rose_"):
        return "bold"
    return "dim" if row.contender.startswith("torch.add") else ""


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _millions(count: int) -> str:
    return f"{count:,}" if count < 995_000 else f"{_number(round(count / 1e6, 2))} M"


def _mebibytes(count: int | None) -> str:
    # Linux counts pages in batches, so less than a MiB cannot be distinguished from nothing.
    return "-" if count is None else f"{max(0, count) / 2**20:,.0f}"


def _number(value: float | None) -> str:
    """Return a value with three significant digits, and with at most three decimals."""
    if value is None:
        return "-"
    return f"{value:,.{next((d for d, least in enumerate((100, 10, 1)) if value >= least), 3)}f}"


def environment() -> dict[str, Any]:
    """Return the versions and the hardware, on which the times depend."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": os.cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the name of the processor. Linux has it in a file, and `platform` knows it elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def save(path: Path, options: dict[str, Any], results: list[Result], scaling: list[Result], notes: list[str]) -> None:
    """Write all measurements to a JSON file, with the time of every round."""
    content = {
        "environment": environment(),
        "command": sys.argv,
        "options": options,
        "results": [_plain(result) for result in results],
        "scaling": [_plain(result) for result in scaling],
        "notes": notes,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _plain(result: Result) -> dict[str, Any]:
    """Return a result in plain values, with the ratios of the tables."""
    plain = asdict(result)
    for entry, measured in zip(plain["measurements"], result.measurements, strict=True):
        entry |= {"in_adds": result.in_adds(measured)._asdict(), "speed_vs_rose_opt": result.speed(measured)}
    return plain


def plot(path: Path, results: list[Result], scaling: list[Result]) -> None:
    """Save a plot: bars of the time in adds for each dtype, and curves of the time against the size."""
    threads = max(result.threads for result in results)
    results = [result for result in results if result.threads == threads]
    dtypes = list(dict.fromkeys(result.dtype for result in results))
    figure = Figure(figsize=(14 if scaling else 10, 3.4 + 2.4 * len(dtypes)), layout="constrained")
    figure.suptitle(f"Time of a step ({_cpu()}, {_threads(threads)})")
    left = [[dtype, "scaling"] if scaling else [dtype] for dtype in dtypes]
    axes = figure.subplot_mosaic(left, width_ratios=(5, 3) if scaling else (1,))
    for dtype in dtypes:
        _bars(axes[dtype], [result for result in results if result.dtype == dtype], dtype)
    if scaling:
        _curves(axes["scaling"], scaling)
    handles = {}
    for each in reversed(axes.values()):  # bars last, since they show a colour better than lines
        handles |= dict(zip(*reversed(each.get_legend_handles_labels()), strict=True))
    names = [name for name in DRAWN if name in handles]
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower center",
        ncols=len(names) if scaling else 3,
        frameon=False,
    )
    figure.savefig(path, dpi=120, format="png")


def _bars(axes: Any, results: list[Result], dtype: str) -> None:
    """Draw a group of bars for each case."""
    names = [name for name in DRAWN if name != ADD and any(name == m.label for m in results[0].measurements)]
    width = 0.84 / len(names)
    for number, name in enumerate(names):
        rows = [next(m for m in result.measurements if m.label == name) for result in results]
        heights = [result.in_adds(row).median for result, row in zip(results, rows, strict=True)]
        positions = [case + (number - (len(names) - 1) / 2) * width for case in range(len(results))]
        bars = axes.bar(positions, heights, 0.92 * width, color=DRAWN[name], label=name)
        axes.bar_label(bars, [_number(height) for height in heights], fontsize=7, rotation=90, padding=2)
    axes.axhline(1.0, color=DRAWN[ADD], linewidth=0.8, label=ADD)
    axes.set(title=f"{dtype} parameters", ylabel="time in adds", yscale="log")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.margins(x=0.01, y=0.2)
    axes.set_xticks(range(len(results)), [result.case for result in results])
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _curves(axes: Any, scaling: list[Result]) -> None:
    """Draw the median of each contender, and a band from its minimum to its maximum."""
    sizes = [result.parameters for result in scaling]
    for number, row in enumerate(scaling[0].measurements):
        rounds = [[1e3 * second for second in result.measurements[number].seconds] for result in scaling]
        medians, least, most = zip(*map(Spread.of, rounds), strict=True)
        axes.plot(sizes, medians, "o-", color=DRAWN[row.label], markersize=4, label=row.label)
        axes.fill_between(sizes, least, most, color=DRAWN[row.label], alpha=0.15)
    axes.set(title="float32, GPT shapes", xlabel="parameters", ylabel="ms a step", xscale="log", yscale="log")
    axes.set_xticks(sizes, [_millions(size) for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3)
