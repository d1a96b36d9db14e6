"""Ports with scripted replies, and the sample vectors for them."""

from collections.abc import Callable
from typing import Any

from rose_spec.check import check, check_vector
from rose_spec.outcome import Outcome
from rose_spec.ports import Port
from rose_spec.ports.python_function import PythonPort
from rose_spec.replies import NoiseRequest, Reply, StepRequest
from rose_spec.report import Report
from tests.spec.samples import samples

__all__ = ["VECTORS", "FunctionPort", "ScriptedPort", "outcome_of", "reported"]

VECTORS = {vector.id: vector for vector in samples()}


class FunctionPort(PythonPort):
    """A port around a function object."""

    def __init__(self, update: Callable[..., Any], noise: Callable[..., Any] | None = None) -> None:
        super().__init__("rose_core:update")
        self._update, self._noise = update, noise


class ScriptedPort:
    """A port that always gives the same reply, or raises it."""

    name = "scripted"

    def __init__(self, reply: Reply | Exception) -> None:
        self.reply = reply

    def step(self, request: StepRequest) -> Reply:  # noqa: ARG002
        return self.respond()

    def noise(self, request: NoiseRequest) -> Reply:  # noqa: ARG002
        return self.respond()

    def respond(self) -> Reply:
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def close(self) -> None: ...


def outcome_of(port: Port, name: str) -> Outcome:
    return check_vector(port, VECTORS[name])


def reported(port: Port, names: list[str] | None = None) -> Report:
    chosen = [VECTORS[name] for name in names or VECTORS if name != "digest-many"]
    return Report(port.name, "command", "1.0.2", "exact", list(check(port, chosen)))
