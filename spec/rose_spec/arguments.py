"""The arguments of the command line."""

import argparse
import ast
from typing import Any, get_args

from rose_spec.comparison import LEVELS
from rose_spec.vectors import REVISIONS, Kind

__all__ = ["parser"]

EXAMPLES = """\
examples:
  python -m rose_spec run --python rose_core:update --noise-function rose_core:noise_words
  python -m rose_spec run --torch-optimizer rose_opt:Rose --level formula
  python -m rose_spec run --torch-optimizer my_port:Rose --rename weight_decay=wd --option fused=False
  python -m rose_spec run --program "node rose.js" --markdown CONFORMANCE.md
  python -m rose_spec run --program ./rose --format text --clause ROSE-4 --json report.json

exit status: 0 if the port conforms at the required level; 1 if it does not, or supports too little;
2 if the harness or the protocol failed; 130 after Ctrl-C.
"""
LIST_EXAMPLES = """\
examples:
  python -m rose_spec list --clause ROSE-4.2
  python -m rose_spec list --kind trajectory
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m rose_spec",
        description="The conformance kit of Rose: vectors, an oracle, and a runner for ports in any language.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(_command(commands, "run", "check a port", EXAMPLES))
    _add_list(_command(commands, "list", "list the vectors, one on each line", LIST_EXAMPLES))
    show = _command(commands, "show", "show one vector", "example: python -m rose_spec show ID")
    show.add_argument("id", metavar="ID", help="the id of the vector, as the list command prints it")
    show.add_argument("--json", action="store_true", help="print the vector as JSON, as in its file")
    _add_revision(show)
    _command(commands, "lint", "check the vector files: schema, ids, clauses, flags, notes, size", "")
    generate = _command(commands, "generate", "write the vector files again, from their tables and the oracle", "")
    generate.add_argument("--check", action="store_true", help="write nothing, and exit with 1 if a file would change")
    _command(commands, "mutants", "count the mutants of the oracle that no vector catches, which takes a minute", "")
    return top


def _command(commands: Any, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
    sentence = f"{text[0].upper()}{text[1:]}."
    formatter = argparse.RawDescriptionHelpFormatter
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=sentence, epilog=epilog, formatter_class=formatter
    )
    return command


def _add_run(run: argparse.ArgumentParser) -> None:
    _add_ports(run)
    _add_selection(run.add_argument_group("level and selection of vectors"))
    run.add_argument(
        "--total-timeout",
        metavar="SECONDS",
        type=_seconds,
        help="time limit of the whole run (default: 600, with --volume 100000 it is 6000)",
    )
    reports = run.add_argument_group("report files")
    reports.add_argument("--json", metavar="FILE", help="write the report as JSON")
    reports.add_argument("--markdown", metavar="FILE", help="write a conformance statement in Markdown, for a README")


def _add_ports(run: argparse.ArgumentParser) -> None:
    ports = run.add_argument_group("port (exactly one)").add_mutually_exclusive_group(required=True)
    ports.add_argument("--python", metavar="MODULE:FUNCTION", help="update(param, grad, **options) over NumPy arrays")
    ports.add_argument("--torch-optimizer", metavar="MODULE:CLASS", help="a torch.optim.Optimizer")
    ports.add_argument(
        "--program", metavar="CMD", help="a program that replies to each line of its input; started without a shell"
    )
    python = run.add_argument_group("with --python")
    python.add_argument(
        "--noise-function", metavar="MODULE:FUNCTION", help="portable noise, called like rose_core.noise_words"
    )
    torch = run.add_argument_group("with --torch-optimizer")
    torch.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        type=_assignment,
        help="pass this option of the port in every vector",
    )
    torch.add_argument(
        "--rename", metavar="OPTION=NAME", action="append", type=_pair, help="the port's name for an option of Rose"
    )
    program = run.add_argument_group("with --program")
    program.add_argument("--format", choices=("json", "text"), help="format of requests and replies (default: json)")
    program.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="time limit for each reply (default: 10)")


def _add_selection(selection: Any) -> None:
    selection.add_argument(
        "--level", choices=LEVELS, default="exact", help="the level that the port must reach (default: exact)"
    )
    selection.add_argument("--select", metavar="GLOB", help="run only vectors whose id matches")
    selection.add_argument(
        "--clause",
        metavar="CLAUSE",
        type=_clause,
        help="run only vectors that cite this clause (ROSE-4.2 or 4.2) or section (ROSE-4)",
    )
    selection.add_argument(
        "--volume", type=int, choices=(1000, 100000), default=0, help="also run digests of up to this many steps"
    )
    _add_revision(selection)


def _add_list(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--clause", metavar="CLAUSE", type=_clause, help="only vectors that cite this clause or section"
    )
    command.add_argument("--kind", choices=get_args(Kind), help="only vectors of this kind")
    command.add_argument("--topic", metavar="NAME", help="only vectors of this file, named without .json")
    _add_revision(command)


def _add_revision(command: Any) -> None:
    command.add_argument("--revision", choices=REVISIONS, default="1.0.2", help="revision of the rule (default: 1.0.2)")


def _clause(text: str) -> str:
    """Return the full name of a clause or section."""
    name = text.strip().upper()
    return name if name.startswith("ROSE-") else f"ROSE-{name}"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    return name, value


def _assignment(text: str) -> tuple[str, Any]:
    """Return a name and its value: a Python literal if possible, otherwise a string."""
    name, value = _pair(text)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds <= 86400.0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds in (0, 86400], got {text!r}")
    return seconds
