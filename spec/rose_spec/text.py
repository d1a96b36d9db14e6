"""The report as text, for a terminal or a log."""

import math
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rose_spec.difference import difference
from rose_spec.outcome import Outcome
from rose_spec.ports.port import escaped
from rose_spec.report import ClauseResult, Report, counted

__all__ = ["level_name", "print_report", "ulps_text"]

COLOURS: Final = {"exact": "green", "rounded": "yellow", "formula": "yellow", "none": "red"}
# The most lines about failing vectors; the report in JSON has all vectors.
MAX_LINES: Final = 12
# The most ids in a line about several vectors.
MAX_IDS: Final = 3
# A larger number of ulps is not printed: the answer is simply a different one.
MAX_ULPS: Final = 1e6


def print_report(report: Report, console: Console) -> None:
    """Print a report."""
    if any(outcome.reply is not None for outcome in report.outcomes):
        console.print(_table(report))
    else:
        _line(console, f"{report.port}, Rose {report.revision}")
    reasons = report.reasons_unsupported()
    for reason, count in reasons[:MAX_LINES]:
        _line(console, f"unsupported in {counted(count, 'vector')}: {reason}", "yellow")
    if rest := sum(count for _, count in reasons[MAX_LINES:]):
        _line(console, f"unsupported in {counted(rest, 'vector')} for other reasons", "yellow")
    _print_failures(report, console)
    if report.diagnosis is not None and (_asked(report) or not report.error):
        _print_diagnosis(report, console)
    outcome = report.smallest_failure()
    if outcome is not None and not report.error and (report.diagnosis is None or report.diagnosis.unexplained):
        _print_outcome(outcome, report, console)
    if report.error:
        lost = len(report.failures) - len(_asked(report))
        _line(console, f"{counted(lost, 'vector')} unanswered: {report.error}" if lost else report.error, "red")
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.most_common())
    _line(console, f"{counts or 'no vectors'}, in {report.seconds:.1f} s")
    verdict = "The run failed, so there is no verdict on conformance." if report.error else report.verdict()
    _line(console, verdict, "bold green" if report.status == 0 else "bold red")


def level_name(result: ClauseResult) -> str:
    """Return the level that all vectors of a clause reach, or "none" or "unsupported"."""
    return "unsupported" if not result.tested else result.level or "none"


def ulps_text(result: ClauseResult) -> str:
    """Return the largest difference in ulps, empty if all answers are exact."""
    if result.level == "exact":
        return ""
    return "inf" if result.ulps == math.inf else ">1e6" if result.ulps > MAX_ULPS else f"{result.ulps:.3g}"


def _table(report: Report) -> Table:
    table = Table(title=f"{escape(escaped(report.port))}, Rose {report.revision}", title_justify="left", box=None)
    table.add_column("clause")
    table.add_column("level")
    for name in ("vectors", "passed", "unsupported", "failed", "max ulps"):
        table.add_column(name, justify="right")
    for result in report.by_section():
        _add_row(table, result)
    table.add_section()
    _add_row(table, report.total)
    return table


def _add_row(table: Table, result: ClauseResult) -> None:
    level, counts = level_name(result), result.counts
    numbers = (result.vectors, counts["passed"], counts["unsupported"], counts["failed"] + counts["unanswered"])
    texts = [str(number) if number else "" for number in numbers]
    colour = COLOURS.get(level, "yellow")
    table.add_row(result.clause, f"[{colour}]{level}[/]", *texts, ulps_text(result))


def _print_failures(report: Report, console: Console) -> None:
    """Print the failing vectors, on one line if they share their status and their detail."""
    lines: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in _asked(report):
        # An equal number of ulps is a coincidence, so vectors with a finite difference are never grouped.
        name = outcome.vector.id if math.isfinite(outcome.ulps) else ""
        lines.setdefault((outcome.status, outcome.detail, name), []).append(outcome)
    for (status, detail, _), outcomes in list(lines.items())[:MAX_LINES]:
        _line(console, f"{_heading(status, outcomes)}: {detail}", "red")
    if (rest := sum(map(len, list(lines.values())[MAX_LINES:]))) > 0:
        _line(console, f"... and {rest} more; --json FILE lists all of them")


def _asked(report: Report) -> list[Outcome]:
    """Return the failures without the vectors that were not asked because of an error of the protocol."""
    return [outcome for outcome in report.failures if outcome.reply is not None or not report.error]


def _heading(status: str, outcomes: Sequence[Outcome]) -> str:
    """Return the status and the id of one vector, or of several that share a line."""
    if len(outcomes) == 1:
        return f"{status} {outcomes[0].vector.id} ({', '.join(outcomes[0].vector.clauses)})"
    names = [outcome.vector.id for outcome in outcomes[:MAX_IDS]]
    return f"{len(outcomes)} vectors {status} ({', '.join(names)}{', ...' if len(outcomes) > MAX_IDS else ''})"


def _print_diagnosis(report: Report, console: Console) -> None:
    for explanation in report.diagnosis.explanations:
        _line(console, explanation.text, "bold")


def _print_outcome(outcome: Outcome, report: Report, console: Console) -> None:
    """Print one failing vector, with the expected and the returned values."""
    _line(
        console, f"The smallest failing vector is {outcome.vector.id} (python -m rose_spec show {outcome.vector.id}):"
    )
    found = difference(outcome, report.rule)
    if found is None or not found.elements:
        _line(console, f"  {outcome.detail}")
        return
    param = found.request.param
    _line(console, f"  request {found.request.id}: {param.dtype} of shape {list(param.shape)}")
    for index, want_word, want, got_word, got in found.elements:
        _line(console, f"  element {index}: expected {want_word} ({want!r}), got {got_word} ({got!r})")
    if found.count > len(found.elements):
        _line(console, f"  ... and {found.count - len(found.elements)} more elements")
    _line(console, f"  the first intermediate value that differs is {found.intermediate}" if found.intermediate else "")


def _line(console: Console, text: str, style: str = "") -> None:
    """Print a text, without markup and new line breaks; characters that a terminal obeys are escaped."""
    lines = [escaped(line) for line in text.split("\n")]
    if text:
        console.print("\n".join(lines), style=style or None, markup=False, highlight=False, soft_wrap=True)
