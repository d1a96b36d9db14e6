"""Run a port that is a Python object in a child process, so that it cannot end or block the kit."""

import multiprocessing
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Final

from rose_spec.arguments import parser
from rose_spec.cli import INTERRUPTED, TERMINATED, main, terminable, total_limit
from rose_spec.ports.port import Terminated
from rose_spec.report import HARNESS_FAILED

__all__ = ["REPORTING", "run"]

# The seconds after the time limit of the run in which the child may search for known mistakes and write its reports.
REPORTING: Final = 20.0
GRACE: Final = 1.0  # seconds that the child may take to end after SIGTERM


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status.

    A function or an optimizer is checked in a child process. If this process ends without a verdict, or has none some
    seconds after the time limit of the run, the status is 2.
    """
    parsed = parser().parse_args(arguments)
    if parsed.command != "run" or parsed.program:  # a program is a process of its own already
        return main(arguments)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_status, args=(sender, list(arguments)))
    child.start()
    sender.close()
    try:
        with terminable():
            return _status(receiver, total_limit(parsed) + REPORTING)
    except KeyboardInterrupt:
        print("rose_spec: interrupted, so there is no report", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    finally:
        child.terminate()
        child.join(GRACE)
        child.kill()
        child.join()


def _send_status(sender: Connection, arguments: Sequence[str]) -> None:
    """Run a command line in the child, and send its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives Ctrl-C too, and ends this process
    sender.send(main(arguments))


def _status(receiver: Connection, limit: float) -> int:
    """Return the exit status that the child sends within `limit` seconds, or 2 if it sends none."""
    problem = "the port still runs after the time limit of the run; --total-timeout sets another one"
    try:
        if receiver.poll(limit):
            status: int = receiver.recv()
            return status
    except EOFError:
        problem = "the port ended the process of the run, so there is no verdict"
    print(f"rose_spec: {problem}", file=sys.stderr)
    return HARNESS_FAILED
