"""The interface of a port, and helpers for all kinds of ports."""

import signal
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Protocol, runtime_checkable

from rose_spec.oracle import Tensor
from rose_spec.replies import Exchange, NoiseRequest, Reply, StepRequest
from rose_spec.vectors import NUMBERS, number_from_json

__all__ = [
    "HarnessError",
    "Port",
    "ProtocolError",
    "Terminated",
    "TrajectoryPort",
    "described",
    "escaped",
    "lacking",
    "load_object",
    "plain_options",
    "printable",
]

# The most characters of a text from a port that are kept.
MAX_TEXT: Final = 500


class HarnessError(Exception):
    """The run cannot continue, and has no verdict on the port."""


class ProtocolError(HarnessError):
    """The port broke the protocol, or did not reply."""


class Terminated(BaseException):
    """The kit received SIGTERM. No `except Exception` of a port catches it."""


class Port(Protocol):
    """An implementation of Rose that takes single steps."""

    name: str

    def step(self, request: StepRequest) -> Reply: ...

    def noise(self, request: NoiseRequest) -> Reply: ...

    def close(self) -> None: ...


@runtime_checkable
class TrajectoryPort(Protocol):
    """A port that runs whole trajectories by itself, with their schedules and portable noise."""

    def trajectory(self, name: str, value: Mapping[str, Any]) -> tuple[list[Exchange], list[list[Tensor]] | Reply]:
        """Run a trajectory's "input". Return its steps, and the last parameters or the reply that ended it."""
        ...


def load_object(reference: str) -> Any:
    """Return the object that `module:name` refers to."""
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise HarnessError(f"a port must be named module:name, got {reference!r}")
    try:
        found = getattr(import_module(module), name)
    except BaseException as error:  # a module may raise anything
        raise HarnessError(f"{reference} cannot be imported: {described(error)}") from error
    if not callable(found):
        raise HarnessError(f"{reference} must be a function or a class, got {found!r}")
    return found


def described(error: BaseException) -> str:
    """Return the type and the text of an error on one line. Ctrl-C and SIGTERM are raised again.

    A process that ignores SIGINT receives no Ctrl-C, so the port itself has raised a KeyboardInterrupt there.
    """
    receives_interrupts = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    if isinstance(error, Terminated) or (isinstance(error, KeyboardInterrupt) and receives_interrupts):
        raise error
    try:
        text = str(error)
    except BaseException as other:  # a port may raise an error of any class
        text = f"an error whose text raises {type(other).__name__}"
    return printable(" ".join(f"{type(error).__name__}: {text[: 4 * MAX_TEXT]}".split()))


def lacking(error: Exception) -> str:
    """Return the feature that a port lacks, from the error that it raised."""
    text = described(error)
    return text.removeprefix(f"{type(error).__name__}:").strip() or text


def printable(text: str) -> str:
    """Return a text of a port, cut to `MAX_TEXT` characters, with escapes for characters that are not printable."""
    return escaped(text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}...")


def escaped(text: str) -> str:
    """Return a text with escapes for the characters that are not printable."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with Python numbers for float64 words."""
    return {
        name: number_from_json(value) if name in NUMBERS and isinstance(value, str) else value
        for name, value in options.items()
    }
