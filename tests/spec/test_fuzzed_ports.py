"""Scripted programs with any replies: every run ends with a report and an exit status, and only right answers pass."""

import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rose_spec.arrays import hex_words
from rose_spec.catalogue import VariantPort
from rose_spec.cli import drive
from rose_spec.diagnosis import explain
from rose_spec.floats import FORMATS
from rose_spec.ports import ProtocolError
from rose_spec.ports.process import LineTooLong
from rose_spec.ports.program import ProgramPort
from rose_spec.ports.protocol import Dialect, read_reply, reply_id, write_request
from rose_spec.replies import Answer, NoiseRequest, Request, StepRequest, Words
from rose_spec.report import Report
from rose_spec.statement import statement
from rose_spec.text import print_report
from tests.spec.samples import samples
from tests.strategies import examples

VECTORS = {vector.id: vector for vector in samples() if not vector.id.startswith("digest")}
NAMES = ("step-matrix", "step-scalar", "step-noise", "refuse-lr", "refuse-shape", "trajectory-schedule", "noise-words")
KEYS = ("id", "param", "words", "refused", "unsupported", "mean", "range", "trust", "denominator", "dtype", "shape")

TEXTS = st.text(st.characters() | st.sampled_from("\ud800\x1b\0\u202e,:= "), max_size=20)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.sampled_from(["3f800000", "float32", "ID"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | TEXTS, inner, max_size=4),
    max_leaves=12,
)
# Changes of a right reply: a field is replaced or removed, the text is cut, or nothing is sent.
CHANGES = st.one_of(
    st.just(("keep",)),
    st.tuples(st.just("set"), st.sampled_from(KEYS), VALUES),
    st.tuples(st.just("drop"), st.sampled_from(KEYS)),
    st.tuples(st.just("word"), st.sampled_from(["", "7fffffff", "0", "xyzw", "FFC0", "3F800000"])),
    st.tuples(st.just("cut"), st.integers(0, 200)),
    st.tuples(st.just("value"), VALUES),
    st.tuples(st.just("bytes"), st.binary(max_size=80).map(lambda line: line.replace(b"\n", b""))),
    st.tuples(st.just("text"), TEXTS.map(lambda text: text.replace("\n", ""))),
    st.tuples(st.just("raise"), st.sampled_from([TimeoutError(), EOFError("ended"), LineTooLong()])),
)


def right_reply(request: Request) -> dict[str, Any]:
    """Return the right reply in the form of JSON."""
    port = VariantPort(())
    reply = port.noise(request) if isinstance(request, NoiseRequest) else port.step(request)
    if isinstance(reply, Answer):
        param = reply.param
        return {"param": {"dtype": param.dtype, "shape": list(param.shape), "words": hex_words(param)}}
    if isinstance(reply, Words):
        return {"words": [f"{word:04x}" for word in reply.words]}
    return {"refused": getattr(reply, "reason", "")}


def as_text(identity: Any, reply: Any) -> str:
    """Return a reply, right or wrong, in the text format."""
    if not isinstance(reply, dict):
        return f"{identity} {reply}"
    if "refused" in reply:
        return f"{identity} refused {reply['refused']}"

    def field(value: Any) -> str:
        if isinstance(value, dict):
            return ":".join(field(part) for part in value.values())
        return ",".join(map(str, value)) if isinstance(value, list) else str(value)

    return " ".join([str(identity), *(f"{name}={field(value)}" for name, value in reply.items())])


class ScriptedProcess:
    """A program that changes its right replies as a script says."""

    def __init__(self, changes: Sequence[Any], requests: dict[str, Request], dialect: Dialect, rest: bytes) -> None:
        self.changes, self.requests, self.dialect, self.rest = list(changes), requests, dialect, rest
        self.killed = False

    def write(self, line: str) -> None:
        self.identity = json.loads(line)["id"] if self.dialect == "json" else line.split(" ")[1]

    def readline(self, limit: int, deadline: float) -> bytes:  # noqa: ARG002
        change = self.changes.pop(0) if self.changes else ("keep",)
        if change[0] == "raise":
            raise change[1]
        if change[0] == "bytes":
            return bytes(change[1])
        text = self.changed({"id": self.identity, **right_reply(self.requests[self.identity])}, *change)
        return text.encode(errors="surrogatepass")

    def changed(self, reply: dict[str, Any], kind: str, *values: Any) -> str:
        if kind == "set":
            reply[values[0]] = values[1]
        elif kind == "drop":
            reply.pop(values[0], None)
        elif kind == "word" and "param" in reply:
            reply["param"]["words"][:1] = [values[0]]
        value = values[0] if kind == "value" else reply
        if kind == "text":
            return str(values[0])
        if self.dialect == "json":
            text = json.dumps(value)
        else:
            identity = value.pop("id", self.identity) if isinstance(value, dict) else self.identity
            text = as_text(identity, value)
        return text[: values[0]] if kind == "cut" else text

    def finish(self, limit: int, deadline: float) -> bytes:  # noqa: ARG002
        return self.rest

    def error_tail(self) -> bytes:
        return b"\x1b[2J\xff\ntail"

    def kill(self) -> None:
        self.killed = True


class RecordingPort(ProgramPort):
    """A scripted program whose requests are known to its script."""

    def __init__(self, changes: Sequence[Any], dialect: Dialect, rest: bytes) -> None:
        self.requests: dict[str, Request] = {}
        self.processes: list[ScriptedProcess] = []
        left = list(changes)

        def start(arguments: Sequence[str]) -> ScriptedProcess:  # noqa: ARG001
            self.processes.append(ScriptedProcess(left, self.requests, dialect, rest))
            self.processes[-1].changes = left  # a restarted process continues the script
            return self.processes[-1]

        super().__init__("scripted", dialect=dialect, start=start)

    def step(self, request: StepRequest) -> Any:
        self.requests[request.id] = request
        return super().step(request)

    def noise(self, request: NoiseRequest) -> Any:
        self.requests[request.id] = request
        return super().noise(request)


def is_printable(text: str) -> bool:
    """Tell whether a terminal obeys no character of a text but line feeds."""
    return all(character == "\n" or character.isprintable() for character in text)


def check_run(changes: Sequence[Any], dialect: Dialect, rest: bytes) -> None:
    """Run a scripted program, and check the report in every form."""
    port = RecordingPort(changes, dialect, rest)
    report = Report(port.name, "command", "1.0.2", "exact", [])
    report.error = drive(port, [VECTORS[name] for name in NAMES], report.outcomes)
    assert [outcome.vector.id for outcome in report.outcomes] == list(NAMES)
    assert all(process.killed for process in port.processes)
    report.diagnosis = explain(report.outcomes, seconds=0.5) if report.failures else None
    printed = io.StringIO()
    print_report(report, Console(file=printed, width=100))
    content = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert is_printable(printed.getvalue())
    assert statement(report).encode()
    assert content["exit_status"] == report.status in (0, 1, 2)
    if all(change == ("keep",) for change in changes) and not rest.strip():
        assert report.status == 0
    if report.status == 0:
        assert {outcome.status for outcome in report.outcomes} <= {"passed", "unsupported"}


SCRIPTS = st.lists(CHANGES, max_size=14)
RESTS = st.sampled_from([b"", b"\n", b"{}\n", b"\xff", b'{"id": "step-matrix"}', b"x" * 100_000])


@given(changes=SCRIPTS, dialect=st.sampled_from(["json", "text"]), rest=RESTS)
@examples(40)
def test_a_run_ends_with_a_report(changes: list[Any], dialect: Dialect, rest: bytes) -> None:
    check_run(changes, dialect, rest)


@pytest.mark.slow
@given(changes=SCRIPTS, dialect=st.sampled_from(["json", "text"]), rest=RESTS)
@settings(examples(3000), deadline=None)
def test_thousands_of_runs_end_with_a_report(changes: list[Any], dialect: Dialect, rest: bytes) -> None:
    check_run(changes, dialect, rest)


@given(
    line=TEXTS | st.text(max_size=60) | VALUES.map(json.dumps),
    name=st.sampled_from(NAMES),
    dialect=st.sampled_from(["json", "text"]),
)
@examples(300)
def test_any_line_is_read_or_refused(line: str, name: str, dialect: Dialect) -> None:
    request: Request = NoiseRequest(name, 7, 1, 2, 3)
    if name.startswith("step"):
        request = StepRequest.of(VECTORS[name])
    try:
        reply_id(line, dialect, name)
        reply = read_reply(line, request, "float64", dialect)
    except ProtocolError as error:
        text = str(error)
    else:
        text = getattr(reply, "reason", "")
    assert is_printable(text)
    assert len(text) < 6000


@pytest.mark.parametrize("dialect", ["json", "text"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_right_script_passes(name: str, dialect: Dialect) -> None:
    check_run([("keep",)] * len(name), dialect, b"")
    assert write_request(StepRequest.of(VECTORS["step-noise"]), dialect).isprintable()
