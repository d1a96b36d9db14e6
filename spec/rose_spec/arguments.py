"""The command line of the kit."""

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

exit status: 0 the port conforms at the asked level; 1 it does not, or supports too little;
2 the harness or the protocol failed.
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
    _add_list(_command(commands, "list", "list the vectors, one a line", LIST_EXAMPLES))
    show = _command(commands, "show", "show one vector", "example: python -m rose_spec show ID")
    show.add_argument("id", metavar="ID", help="id of the vector, as list prints it")
    show.add_argument("--json", action="store_true", help="print the vector as it stands in its file")
    _add_revision(show)
    _command(commands, "lint", "check the vectors' files: schema, ids, clauses, flags, notes, size", "")
    generate = _command(commands, "generate", "write the vectors' files anew, from their sources and the oracle", "")
    generate.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file would change")
    return top


def _command(commands: Any, name: str, text: str, epilog: str) -> argparse.ArgumentParser:
    sentence = f"{text[0].upper()}{text[1:]}."
    formatter = argparse.RawDescriptionHelpFormatter
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=sentence, epilog=epilog, formatter_class=formatter
    )
    return command


def _add_run(run: argparse.ArgumentParser) -> None:
    ports = run.add_argument_group("the port, one of").add_mutually_exclusive_group(required=True)
    ports.add_argument("--python", metavar="MODULE:FUNCTION", help="update(param, grad, **options) over NumPy arrays")
    ports.add_argument("--torch-optimizer", metavar="MODULE:CLASS", help="a torch.optim.Optimizer")
    ports.add_argument("--program", metavar="CMD", help="a program that is asked line by line; no shell runs it")
    python = run.add_argument_group("for --python")
    python.add_argument(
        "--noise-function", metavar="MODULE:FUNCTION", help="portable noise, called as rose_core.noise_words is"
    )
    torch = run.add_argument_group("for --torch-optimizer")
    torch.add_argument(
        "--option", metavar="NAME=VALUE", action="append", type=_assignment, help="pass it always, by the port's name"
    )
    torch.add_argument(
        "--rename", metavar="OURS=THEIRS", action="append", type=_pair, help="what the port calls an option of Rose"
    )
    program = run.add_argument_group("for --program")
    program.add_argument("--format", choices=("json", "text"), help="how a line is written (json)")
    program.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="for each reply (10)")
    what = run.add_argument_group("what is checked")
    what.add_argument("--level", choices=LEVELS, default="exact", help="the level that must be reached (exact)")
    what.add_argument("--select", metavar="GLOB", help="only vectors whose id matches")
    what.add_argument(
        "--clause",
        metavar="CLAUSE",
        type=_clause,
        help="only vectors that cite a clause, ROSE-4.2 or 4.2, or section, ROSE-4",
    )
    what.add_argument(
        "--volume", type=int, choices=(1000, 100000), default=0, help="also digests, of up to so many generated cases"
    )
    _add_revision(what)
    output = run.add_argument_group("reports besides the one on the terminal")
    output.add_argument("--json", metavar="FILE", help="write the report for programs")
    output.add_argument("--markdown", metavar="FILE", help="write a conformance statement for a README")


def _add_list(command: argparse.ArgumentParser) -> None:
    command.add_argument("--clause", metavar="CLAUSE", type=_clause, help="only those that cite a clause or section")
    command.add_argument("--kind", choices=get_args(Kind), help="only those of a kind")
    command.add_argument("--topic", metavar="NAME", help="only those of a file, by its name without .json")
    _add_revision(command)


def _add_revision(command: Any) -> None:
    command.add_argument("--revision", choices=REVISIONS, default="1.0.2", help="revision of the rule (1.0.2)")


def _clause(text: str) -> str:
    """Return a clause or section by its full name."""
    name = text.strip().upper()
    return name if name.startswith("ROSE-") else f"ROSE-{name}"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    return name, value


def _assignment(text: str) -> tuple[str, Any]:
    """Return a name and a value, which is a Python literal or else a string."""
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
