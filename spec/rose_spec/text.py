"""The report for people, in a terminal or a log."""

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rose_spec.check import Outcome
from rose_spec.report import ClauseResult, Report, difference

__all__ = ["level_name", "print_report", "ulps_text"]

COLOURS: Final = {"exact": "green", "rounded": "yellow", "formula": "yellow", "none": "red"}
# Failing vectors listed one by one; the report in JSON has them all.
LISTED: Final = 12


def print_report(report: Report, console: Console) -> None:
    """Print a report."""
    if report.outcomes:
        console.print(_table(report))
    for reason, count in report.reasons_unsupported():
        _line(console, f"unsupported in {count} vectors: {reason}", "yellow")
    _print_failures(report, console)
    if report.diagnosis is not None:
        _print_diagnosis(report, console)
    outcome = report.smallest_failure()
    if outcome is not None and (report.diagnosis is None or report.diagnosis.unexplained):
        _print_outcome(outcome, report, console)
    _line(console, report.error, "red")
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.most_common())
    _line(console, f"{counts or 'no vectors'}, in {report.seconds:.1f} s")
    _line(console, report.verdict(), "bold green" if report.status == 0 else "bold red")


def level_name(result: ClauseResult) -> str:
    """Return the highest level that a clause's vectors reach together."""
    return "unsupported" if not result.tested else result.level or "none"


def ulps_text(result: ClauseResult) -> str:
    """Return by how many ulps the answers miss at most."""
    return "" if result.level == "exact" else "inf" if result.ulps == float("inf") else f"{result.ulps:.3g}"


def _table(report: Report) -> Table:
    table = Table(title=f"{escape(report.port)}, Rose {report.revision}", title_justify="left", box=None)
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
    for outcome in report.failures[:LISTED]:
        clauses = ", ".join(outcome.vector.clauses)
        _line(console, f"{outcome.status} {outcome.vector.id} ({clauses}): {outcome.detail}", "red")
    if (rest := len(report.failures) - LISTED) > 0:
        _line(console, f"... and {rest} more; --json FILE lists them all")


def _print_diagnosis(report: Report, console: Console) -> None:
    explanations, unexplained = report.diagnosis.explanations, report.diagnosis.unexplained
    for explanation in explanations:
        _line(console, explanation.text, "bold")
    if unexplained and explanations:
        _line(console, f"{len(unexplained)} are explained by no known deviation.", "bold")


def _print_outcome(outcome: Outcome, report: Report, console: Console) -> None:
    """Show one failing vector, with what was expected and what came."""
    _line(
        console, f"The smallest failing vector is {outcome.vector.id} (python -m rose_spec show {outcome.vector.id}):"
    )
    found = difference(outcome, report.rule)
    if found is None or not found.elements:
        _line(console, f"  {outcome.detail}")
        return
    param = found.request.param
    _line(console, f"  request {found.request.id}: {param.dtype} of shape {list(param.shape)}")
    for place, want_word, want, got_word, got in found.elements:
        _line(console, f"  element {place}: expected {want_word} ({want!r}), got {got_word} ({got!r})")
    if found.count > len(found.elements):
        _line(console, f"  ... and {found.count - len(found.elements)} more elements")
    _line(console, f"  first intermediate value to differ is {found.intermediate}" if found.intermediate else "")


def _line(console: Console, text: str, style: str = "") -> None:
    """Print a line as it is: nothing in it is markup, and nothing breaks it."""
    if text:
        console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)
