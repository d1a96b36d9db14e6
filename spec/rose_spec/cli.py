"""The commands of the kit."""

import argparse
import io
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track

from rose_spec.arguments import parser
from rose_spec.check import check
from rose_spec.comparison import Level
from rose_spec.oracle import Rule
from rose_spec.outcome import Outcome
from rose_spec.ports import HarnessError, Port
from rose_spec.ports.port import Terminated
from rose_spec.report import CONFORMS, DOES_NOT_CONFORM, HARNESS_FAILED, Report
from rose_spec.revision_1_0_0 import Rule100
from rose_spec.selection import Selection, select
from rose_spec.statement import statement
from rose_spec.text import print_report
from rose_spec.vectors import Vector, number_from_json, tensor_from_json

__all__ = [
    "INTERRUPTED",
    "TERMINATED",
    "TIMEOUT",
    "TOTAL_TIMEOUT",
    "TOTAL_TIMEOUT_WITH_VOLUME",
    "drive",
    "main",
    "terminable",
    "total_limit",
]

# The exit statuses of a shell for SIGINT and SIGTERM.
INTERRUPTED: Final = 130
TERMINATED: Final = 143
# Seconds.
TIMEOUT: Final = 10.0
TOTAL_TIMEOUT: Final = 600.0
TOTAL_TIMEOUT_WITH_VOLUME: Final = 6000.0
# The oracle of each revision.
RULES: Final[Mapping[str, type[Rule]]] = {"1.0.2": Rule, "1.0.0": Rule100}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1, or 2 if the harness failed."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a port's text may have characters that the terminal lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parsed = parser().parse_args(given)
    commands = {"run": _run, "list": _list, "show": _show, "lint": _lint, "generate": _generate, "mutants": _mutants}
    try:
        with terminable():
            status = commands[parsed.command](parsed, f"python -m rose_spec {shlex.join(given)}")
        sys.stdout.flush()  # raises BrokenPipeError here if the reader is gone
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at exit
        return HARNESS_FAILED
    except HarnessError as error:
        print(f"rose_spec: {error}", file=sys.stderr)
        return HARNESS_FAILED
    except KeyboardInterrupt:
        print("rose_spec: interrupted, so there is no report", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    return status


@contextmanager
def terminable() -> Iterator[None]:
    """Raise an exception at SIGTERM, so that the program of a port is killed."""

    def terminate(number: int, frame: object) -> None:  # noqa: ARG001  (the signature of a signal handler)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(parsed: argparse.Namespace, command: str) -> int:
    """Check a port."""
    entries = select(parsed.revision, Selection(clause=parsed.clause, pattern=parsed.select, volume=parsed.volume))
    for file in (parsed.json, parsed.markdown):
        _require_writable(file)  # fail before the run
    if parsed.json and parsed.markdown and Path(parsed.json).resolve() == Path(parsed.markdown).resolve():
        raise HarnessError(f"--json and --markdown must name different files, got {parsed.json} twice")
    deadline = time.monotonic() + total_limit(parsed)
    port = _port(parsed, deadline)
    report = _checked(port, [entry.vector for entry in entries], parsed, command, deadline)
    _write(parsed.json, report.to_json())
    _write(parsed.markdown, statement(report))
    print_report(report, Console(width=None if sys.stdout.isatty() else 120))
    return report.status


def total_limit(parsed: argparse.Namespace) -> float:
    """Return the time limit of the whole run in seconds."""
    default = TOTAL_TIMEOUT_WITH_VOLUME if parsed.volume > 1000 else TOTAL_TIMEOUT
    return float(parsed.total_timeout or default)


def _checked(
    port: Port, vectors: Sequence[Vector], parsed: argparse.Namespace, command: str, deadline: float
) -> Report:
    """Return the report of a run, and show its progress on the standard error of a terminal."""
    started = time.perf_counter()
    report = Report(port.name, command, parsed.revision, parsed.level, [], rule=RULES[parsed.revision])
    report.selection = str(Selection(clause=parsed.clause, pattern=parsed.select))
    report.available = len(select(parsed.revision, Selection(volume=parsed.volume)))
    errors = Console(stderr=True)
    shown = track(vectors, port.name, console=errors, transient=True, disable=not errors.is_terminal)
    report.error = drive(port, shown, report.outcomes, parsed.level, report.rule, deadline)
    is_diagnosed = report.failures and errors.is_terminal
    with errors.status("searching for known deviations") if is_diagnosed else nullcontext():
        report.diagnosis = _diagnosis(report)
    report.seconds = time.perf_counter() - started
    return report


def drive(
    port: Port,
    vectors: Iterable[Vector],
    outcomes: list[Outcome],
    required: Level = "exact",
    rule: type[Rule] = Rule,
    deadline: float = math.inf,
) -> str:
    """Check a port, append the outcomes to `outcomes`, and close the port. Return the error of the harness, or ""."""
    error = ""
    try:
        for outcome in check(port, vectors, required, rule, deadline):
            outcomes.append(outcome)  # noqa: PERF402  (keeps the outcomes before an error)
    except HarnessError as failure:
        error = str(failure)
    except BaseException:  # Ctrl-C: end the program of the port at once
        getattr(port, "kill", port.close)()
        raise
    try:
        port.close()
    except HarnessError as failure:
        error = error or str(failure)
    return error


def _diagnosis(report: Report) -> Any:
    """Return the diagnosis of the failures, or None if nothing failed."""
    if not report.failures:
        return None
    # Imported only for a port that does not conform, since building the catalogue takes time.
    from rose_spec.catalogue import CATALOGUE, SUCCESSOR  # noqa: PLC0415
    from rose_spec.diagnosis import explain  # noqa: PLC0415

    known = CATALOGUE if report.revision == "1.0.2" else (SUCCESSOR,)
    return explain(report.outcomes, known, report.required)


def _port(parsed: argparse.Namespace, deadline: float) -> Port:
    """Return the port that the command line names. Only its kind is imported, so that torch is optional."""
    _refuse_misplaced(parsed)
    if parsed.python:
        from rose_spec.ports.python_function import PythonPort  # noqa: PLC0415

        return PythonPort(parsed.python, parsed.noise_function)
    if parsed.torch_optimizer:
        from rose_spec.ports.torch_optimizer import TorchPort  # noqa: PLC0415

        return TorchPort(parsed.torch_optimizer, _unique(parsed.option, "--option"), _unique(parsed.rename, "--rename"))
    from rose_spec.ports.program import ProgramPort  # noqa: PLC0415

    timeout = parsed.timeout or TIMEOUT
    return ProgramPort(parsed.program, dialect=parsed.format or "json", timeout=timeout, deadline=deadline)


def _unique(pairs: Sequence[tuple[str, Any]] | None, argument: str) -> dict[str, Any]:
    """Return pairs as a mapping, in which each name must be unique."""
    found: dict[str, Any] = {}
    for name, value in pairs or ():
        if name in found:
            raise HarnessError(f"{argument} {name} is given twice, as {found[name]!r} and {value!r}")
        found[name] = value
    return found


def _refuse_misplaced(parsed: argparse.Namespace) -> None:
    """Refuse an argument that belongs to another kind of port."""
    arguments: Mapping[str, tuple[str, ...]] = {
        "python": ("noise_function",),
        "torch_optimizer": ("option", "rename"),
        "program": ("format", "timeout"),
    }
    for kind, names in arguments.items():
        for name in names:
            if getattr(parsed, name) is not None and not getattr(parsed, kind):
                raise HarnessError(f"--{name.replace('_', '-')} needs --{kind.replace('_', '-')}")


def _list(parsed: argparse.Namespace, command: str) -> int:  # noqa: ARG001  (one signature for all commands)
    """List vectors."""
    for entry in select(parsed.revision, Selection(parsed.clause, parsed.kind, parsed.topic)):
        vector = entry.vector
        print(f"{vector.id}  {vector.kind}  {', '.join(vector.clauses)}  {' '.join(vector.flags)}".rstrip())
    return CONFORMS


def _show(parsed: argparse.Namespace, command: str) -> int:  # noqa: ARG001
    """Show a vector."""
    entries = [entry for entry in select(parsed.revision, Selection()) if entry.vector.id == parsed.id]
    if not entries:
        raise HarnessError(f"no vector of revision {parsed.revision} has the id {parsed.id!r}; list prints the ids")
    vector = entries[0].vector
    if parsed.json:
        print(json.dumps(vars(vector)))
        return CONFORMS
    print(f"{vector.id}: {vector.kind}, {', '.join(vector.clauses)}, in {entries[0].topic}.json")
    for flag in vector.flags:
        print(f"  {flag}: {entries[0].notes.get(flag, '')}")
    for heading, content in (("input", vector.input), ("expected", vector.expected)):
        print(heading)
        _show_value(content, 1)
    return CONFORMS


def _show_value(value: Any, depth: int, name: str = "") -> None:
    """Print a part of a vector, with the decimal value of each word of an array."""
    indent = "  " * depth
    if isinstance(value, dict) and set(value) == {"dtype", "shape", "words"}:
        pairs = zip(value["words"], tensor_from_json(value).values, strict=True)
        print(f"{indent}{name}: {value['dtype']} {value['shape']} " + ", ".join(f"{w} ({v!r})" for w, v in pairs))
    elif isinstance(value, dict):
        print(f"{indent}{name}" if name else "", end="\n" if name else "")
        for key, part in value.items():
            _show_value(part, depth + bool(name), key)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for number, part in enumerate(value):
            _show_value(part, depth, f"{name}[{number}]")
    else:
        print(f"{indent}{name}: {_scalar(value)}")


def _scalar(value: Any) -> str:
    """Return a value as text; a float64 word is followed by its decimal value."""
    if isinstance(value, list):
        return ", ".join(_scalar(part) for part in value)
    is_word = isinstance(value, str) and len(value) == 16 and not value.strip("0123456789abcdef")
    return f"{value} ({number_from_json(value)!r})" if is_word else json.dumps(value).strip('"')


def _lint(parsed: argparse.Namespace, command: str) -> int:  # noqa: ARG001
    """Check the vector files."""
    from rose_spec.lint import lint  # noqa: PLC0415  (needs jsonschema, which `run` does without)

    return _print_lines(lint(), "no problem found")


def _generate(parsed: argparse.Namespace, command: str) -> int:  # noqa: ARG001
    """Write the vector files, or print the names of those that differ."""
    from rose_spec.generate import generate  # noqa: PLC0415  (imports the tables of all vectors)

    names = generate(check=parsed.check)
    verb = "differs" if parsed.check else "written"
    status = _print_lines([f"{verb}: {name}" for name in names], "nothing to change")
    return status if parsed.check else CONFORMS


def _mutants(parsed: argparse.Namespace, command: str) -> int:  # noqa: ARG001
    """Count the mutants of the oracle."""
    from rose_spec.survivors import count_mutants  # noqa: PLC0415  (only this command needs it)

    count = count_mutants()
    print(count)
    lines = [f"no vector catches {name}" for name in count.surviving]
    return _print_lines([*lines, *(f"recorded as equivalent, but not: {name}" for name in count.stale)], "none is left")


def _print_lines(lines: Sequence[str], otherwise: str) -> int:
    """Print lines, or `otherwise` if there are none, and return the exit status 1 or 0."""
    print("\n".join(lines) or otherwise)
    return DOES_NOT_CONFORM if lines else CONFORMS


def _write(file: str | None, content: str) -> None:
    """Write a report, if its file is given. A regular file is replaced as a whole; links and devices are not."""
    if file is None:
        return
    path = Path(file)
    is_replaced = not path.is_symlink() and (path.is_file() or not path.exists())
    written = path.with_name(f"{path.name}.{os.getpid()}") if is_replaced else path
    try:
        written.write_text(content, encoding="utf-8")
        if written != path:
            written.replace(path)
    except OSError as error:
        raise HarnessError(f"the report cannot be written to {file}: {error}") from error
    finally:
        if written != path:
            written.unlink(missing_ok=True)


def _require_writable(file: str | None) -> None:
    """Raise an error if a report cannot be written, without writing it."""
    if file is None:
        return
    path = Path(file)
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise HarnessError(f"the report cannot be written to {file}: it must be a file in a folder that exists")
