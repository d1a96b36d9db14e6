"""The report for people, in a terminal or a log."""

import math
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rose_spec.check import Outcome
from rose_spec.difference import difference
from rose_spec.report import ClauseResult, Report, counted

__all__ = ["level_name", "print_report", "ulps_text"]

COLOURS: Final = {"exact": "green", "rounded": "yellow", "formula": "yellow", "none": "red"}
# Failing vectors listed one by one; the report in JSON has them all.
LISTED: Final = 12
# Vectors named where several failed in one way.
NAMED: Final = 3
# Beyond it a number of ulps says no more than that the answer is another one.
MOST_ULPS: Final = 1e6


def print_report(report: Report, console: Console) -> None:
    """Print a report."""
    if report.outcomes:
        console.print(_table(report))
    for reason, count in report.reasons_unsupported():
        _line(console, f"unsupported in {counted(count, 'vector')}: {reason}", "yellow")
    _print_failures(report, console)
    if report.diagnosis is not None and (_judged(report) or not report.error):
        _print_diagnosis(report, console)
    outcome = report.smallest_failure()
    if outcome is not None and not report.error and (report.diagnosis is None or report.diagnosis.unexplained):
        _print_outcome(outcome, report, console)
    if report.error:
        lost = len(report.failures) - len(_judged(report))
        _line(console, f"{counted(lost, 'vector')} unanswered: {report.error}" if lost else report.error, "red")
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.most_common())
    _line(console, f"{counts or 'no vectors'}, in {report.seconds:.1f} s")
    verdict = "The run failed, which says nothing of conformance." if report.error else report.verdict()
    _line(console, verdict, "bold green" if report.status == 0 else "bold red")


def level_name(result: ClauseResult) -> str:
    """Return the highest level that a clause's vectors reach together."""
    return "unsupported" if not result.tested else result.level or "none"


def ulps_text(result: ClauseResult) -> str:
    """Return by how many ulps the answers miss at most."""
    if result.level == "exact":
        return ""
    return "inf" if result.ulps == math.inf else ">1e6" if result.ulps > MOST_ULPS else f"{result.ulps:.3g}"


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
    lines: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in _judged(report):
        # Answers that are wrong by as much are not wrong in the same way.
        own = outcome.vector.id if math.isfinite(outcome.ulps) else ""
        lines.setdefault((outcome.status, outcome.detail, own), []).append(outcome)
    for (status, detail, _), alike in list(lines.items())[:LISTED]:
        _line(console, f"{_headed(status, alike)}: {detail}", "red")
    if (rest := sum(map(len, list(lines.values())[LISTED:]))) > 0:
        _line(console, f"... and {rest} more; --json FILE lists them all")


def _judged(report: Report) -> list[Outcome]:
    """Return the failures but those of vectors that were not asked after an error of the protocol."""
    return [outcome for outcome in report.failures if outcome.reply is not None or not report.error]


def _headed(status: str, alike: Sequence[Outcome]) -> str:
    """Return what came of one vector, or of several that share it."""
    if len(alike) == 1:
        return f"{status} {alike[0].vector.id} ({', '.join(alike[0].vector.clauses)})"
    names = [outcome.vector.id for outcome in alike[:NAMED]]
    return f"{len(alike)} vectors {status} ({', '.join(names)}{', ...' if len(alike) > NAMED else ''})"


def _print_diagnosis(report: Report, console: Console) -> None:
    for explanation in report.diagnosis.explanations:
        _line(console, explanation.text, "bold")


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
