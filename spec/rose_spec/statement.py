"""The conformance statement of a port in Markdown, for its README."""

from importlib.metadata import version

from rose_spec.report import CONFORMS, ClauseResult, Report, counted
from rose_spec.text import level_name, ulps_text

__all__ = ["statement"]


def statement(report: Report) -> str:
    """Return the conformance statement of a run."""
    lines = ["### Conformance to Rose", "", _cell(report.verdict()), ""]
    lines += [
        f"- port: `{report.port}`",
        f"- rule: Rose {report.revision}, checked with the conformance kit of rose-core {version('rose-core')}",
        f"- command: `{report.command}`",
        f"- vectors: {_counts(report)}",
        "",
        "| clause | level | vectors | passed | unsupported | failed | max ulps |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [_row(result) for result in (*report.by_section(), report.total)] + [""]
    for reason, count in report.reasons_unsupported():
        lines += [f"- unsupported in {counted(count, 'vector')}: {_cell(reason)}"]
    if report.status != CONFORMS:
        lines += [f"- {_cell(explanation.text)}" for explanation in getattr(report.diagnosis, "explanations", ())]
    return "\n".join(lines).rstrip() + "\n"


def _counts(report: Report) -> str:
    counts = report.counts
    numbers = ", ".join(f"{counts[name]} {name}" for name in ("passed", "unsupported", "failed", "unanswered"))
    return f"{numbers}; {report.selected()}" if report.selection else numbers


def _row(result: ClauseResult) -> str:
    counts = result.counts
    failed = counts["failed"] + counts["unanswered"]
    numbers = f"{result.vectors} | {counts['passed']} | {counts['unsupported']} | {failed}"
    return f"| {result.clause} | {level_name(result)} | {numbers} | {ulps_text(result)} |"


def _cell(text: str) -> str:
    """Return a text on one line, escaped for a table."""
    return " ".join(text.split()).replace("|", "\\|")
