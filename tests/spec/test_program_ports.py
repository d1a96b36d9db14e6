"""Programs as ports: right ones, and the failures that are possible between two processes."""

import shlex
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rose_spec.check import check
from rose_spec.cli import drive
from rose_spec.oracle import Tensor
from rose_spec.outcome import Outcome
from rose_spec.ports import HarnessError, ProtocolError
from rose_spec.ports.program import ProgramPort
from rose_spec.ports.protocol import Dialect, read_reply, reply_id, write_request
from rose_spec.replies import Answer, NoiseRequest, Refused, StepRequest, Unsupported
from rose_spec.vectors import Vector
from tests.spec.samples import samples

# The beginning of each JSON port: `request` is a request, `answer` returns the right reply, `send` writes a reply.
JSON_PORT = """
import json, sys
import numpy as np
import rose_core
from rose_spec.arrays import from_array, to_array
from rose_spec.ports.port import plain_options
from rose_spec.vectors import tensor_from_json, tensor_to_json

def answer(request):
    if request["kind"] == "noise":
        numbers = {name: int(request[name], 16) for name in ("seed", "step", "index")}
        words = rose_core.noise_words((request["count"],), **numbers, like=np.empty(0))
        return {"id": request["id"], "words": [f"{word:04x}" for word in words.tolist()]}
    param, grad = (to_array(tensor_from_json(request[name])) for name in ("param", "grad"))
    options = plain_options(request["options"])
    if "noise" in request:
        options["noise"] = np.asarray([int(word, 16) for word in request["noise"]]).reshape(param.shape)
    try:
        result = rose_core.update(param, grad, **options)
    except (TypeError, ValueError) as error:
        return {"id": request["id"], "refused": str(error)}
    return {"id": request["id"], "param": tensor_to_json(from_array(result))}

def send(reply):
    print(json.dumps(reply), flush=True)

for number, line in enumerate(sys.stdin):
    request = json.loads(line)
"""

TEXT_PORT = """
import sys
import numpy as np
import rose_core
from rose_spec.arrays import from_array, hex_words, to_array
from rose_spec.oracle import Tensor
from rose_spec.vectors import number_from_json
from urllib.parse import unquote

def read(text):
    dtype, shape, words = text.split(":")
    lengths = [int(length) for length in shape.split(",") if length]
    return to_array(Tensor.from_words(dtype, lengths, [int(word, 16) for word in words.split(",") if word]))

def option(name, text):
    if text == "none":
        return None
    if name in ("lr", "weight_decay", "lr_reference"):
        return number_from_json(text)
    return unquote(text) if name == "compute_dtype" else text == "1"

for line in sys.stdin:
    kind, identity, *rest = line.rstrip("\\n").split(" ")
    fields = dict(field.split("=") for field in rest)
    if kind == "noise":
        numbers = {name: int(fields[name], 16) for name in ("seed", "step", "index")}
        words = rose_core.noise_words((int(fields["count"]),), **numbers, like=np.empty(0)).tolist()
        print(identity, "words=" + ",".join(f"{word:04x}" for word in words), flush=True)
        continue
    param, grad = read(fields.pop("param")), read(fields.pop("grad"))
    noise = fields.pop("noise", None)
    options = {name: option(name, value) for name, value in fields.items()}
    if noise is not None:
        options["noise"] = np.asarray([int(word, 16) for word in noise.split(",") if word]).reshape(param.shape)
    try:
        result = from_array(rose_core.update(param, grad, **options))
    except (TypeError, ValueError) as error:
        print(identity, "refused", error, flush=True)
        continue
    shape = ",".join(map(str, result.shape))
    print(f"{identity} param={result.dtype}:{shape}:{','.join(hex_words(result))}", flush=True)
"""

Runner = Callable[..., tuple[list[Outcome], str]]


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Return a function that runs a script as a port, and returns the outcomes and the error of the harness."""

    def run_script(
        script: str, vectors: list[Vector] | None = None, *, dialect: Dialect = "json", timeout: float = 20.0
    ) -> tuple[list[Outcome], str]:
        file = tmp_path / "port.py"
        file.write_text(script)
        port = ProgramPort(shlex.join([sys.executable, str(file)]), dialect=dialect, timeout=timeout)
        outcomes: list[Outcome] = []
        error = drive(port, steps() if vectors is None else vectors, outcomes)
        return outcomes, error

    return run_script


def steps() -> list[Vector]:
    """Return five vectors, so that a port can break the protocol at the first one or later."""
    return [vector for vector in samples() if vector.kind == "step"][:5]


def wrong(port_loop: str) -> str:
    """Return a port with the given loop body, which starts fast since it imports no array library."""
    head = "import json, sys, time\nfor number, line in enumerate(sys.stdin):\n    request = json.loads(line)\n"
    return head + port_loop


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def test_a_right_port_in_json_passes_every_kind_of_vector(run: Runner) -> None:
    vectors = samples()[:-1]
    outcomes, error = run(f"{JSON_PORT}    send(answer(request))", vectors)
    assert (set(statuses(outcomes)), error) == ({"passed"}, "")


def test_a_right_port_in_text_passes_every_kind_of_vector(run: Runner) -> None:
    vectors = samples()[:-1]
    outcomes, error = run(TEXT_PORT, vectors, dialect="text")
    assert (set(statuses(outcomes)), error) == ({"passed"}, "")


def test_expected_values_are_never_sent(run: Runner, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    run(f"{JSON_PORT}    open({str(heard)!r}, 'a').write(line); send(answer(request))", samples())
    assert "expected" not in heard.read_text()
    assert "sha256" not in heard.read_text()


def test_a_wrong_answer_fails_its_vector_only(run: Runner) -> None:
    change = """    reply = answer(request)
    if number == 1:
        reply["param"]["words"][0] = "3f800001"
    send(reply)
"""
    outcomes, error = run(JSON_PORT + change)
    assert statuses(outcomes) == ["passed", "failed", "passed", "passed", "passed"]
    assert error == ""
    assert "1 element differs, by up to" in outcomes[1].detail


def test_a_port_that_ends_once_is_restarted(run: Runner, tmp_path: Path) -> None:
    flag = tmp_path / "ended"
    loop = (
        f"    if number == 2 and not __import__('os').path.exists({str(flag)!r}):\n"
        f"        open({str(flag)!r}, 'w').close(); sys.exit('no luck today')\n    send(answer(request))"
    )
    outcomes, error = run(JSON_PORT + loop)
    assert statuses(outcomes) == ["passed", "passed", "unanswered", "passed", "passed"]
    assert error == ""
    assert "the program ended without a reply, with exit status 1" in outcomes[2].detail
    assert "no luck today" in outcomes[2].detail


def test_the_run_ends_if_a_port_always_ends_without_a_reply(run: Runner) -> None:
    outcomes, error = run("import sys; sys.exit('broken at birth')")
    assert set(statuses(outcomes)) == {"unanswered"}
    assert "3 requests in a row had no reply" in error
    assert "broken at birth" in error


def test_the_signal_that_killed_a_port_is_named(run: Runner) -> None:
    _, error = run("import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGKILL)")
    assert "killed by signal 9" in error


@pytest.mark.parametrize(
    "loop", ["    time.sleep(60)", "    print('{', end='', flush=True); time.sleep(60)", "    pass"]
)
def test_a_port_that_hangs_or_does_not_reply_reaches_the_time_limit(run: Runner, loop: str) -> None:
    outcomes, error = run(wrong(loop), timeout=0.3)
    assert set(statuses(outcomes)) == {"unanswered"}
    assert "no reply within 0.3 s" in error


def test_a_port_that_does_not_read_reaches_the_time_limit(run: Runner) -> None:
    """A request larger than the buffer of the pipe must not block the runner."""
    value = {"dtype": "float32", "shape": [100000], "words": ["00000000"] * 100000}
    vector = Vector("long", "step", ("ROSE-1.1",), (), {"param": value, "grad": value, "options": {}}, {"param": value})
    _, error = run("import time; time.sleep(60)", [vector] * 3, timeout=0.3)
    assert "no reply within 0.3 s" in error


BREACHES = {
    "garbage": ("    print('Hello, world', flush=True)", "must be a JSON object on one line, got 'Hello, world'"),
    "an array": ("    print('[]', flush=True)", "must be a JSON object on one line"),
    "not UTF-8": (r"    sys.stdout.buffer.write(b'\xff\xfe\n'); sys.stdout.flush()", r"must be UTF-8, got '\\xff\\xfe"),
    "no id": ("    print('{}', flush=True)", "must have the id of its request"),
    "an unknown id": ("    print(json.dumps({'id': 'nobody'}), flush=True)", "an unknown id, 'nobody'"),
    "no answer": ("    print(json.dumps({'id': request['id']}), flush=True)", "one of param, words, refused"),
    "noise for a step": ("    print(json.dumps({'id': request['id'], 'words': []}), flush=True)", "was for a step"),
    "unknown keys": (
        "    print(json.dumps({'id': request['id'], 'refused': '', 'why': 1}), flush=True)",
        "a reply with refused may not have why",
    ),
    "short words": (
        "    print(json.dumps({'id': request['id'], 'param': request['param'] | {'words': ['3f8']}}), flush=True)",
        "must have 8 hexadecimal digits, got '3f8'",
    ),
    "too few words": (
        "    print(json.dumps({'id': request['id'], 'param': request['param'] | {'words': []}}), flush=True)",
        "must have 6 words, got 0",
    ),
    "an unknown dtype": (
        "    print(json.dumps({'id': request['id'], 'param': request['param'] | {'dtype': 'f4'}}), flush=True)",
        "must be one of float64, float32, float16, bfloat16; got 'f4'",
    ),
}


@pytest.mark.parametrize(("loop", "message"), BREACHES.values(), ids=BREACHES)
def test_a_line_outside_the_protocol_ends_the_run(run: Runner, loop: str, message: str) -> None:
    outcomes, error = run(wrong(loop))
    assert set(statuses(outcomes)) == {"unanswered"}
    assert error.startswith(f"{outcomes[0].vector.id}: ")
    assert message in error


def test_a_second_reply_to_a_request_is_an_error_at_the_next_request(run: Runner) -> None:
    outcomes, error = run(f"{JSON_PORT}    send(answer(request)); send(answer(request))")
    assert statuses(outcomes) == ["passed", *["unanswered"] * 4]
    assert f"the port answered {outcomes[0].vector.id!r} twice" in error


def test_a_second_reply_to_the_last_request_is_an_error(run: Runner) -> None:
    outcomes, error = run(f"{JSON_PORT}    send(answer(request)); send(answer(request))", steps()[:1])
    assert statuses(outcomes) == ["passed"]
    assert "after the last reply the port answered 'step-matrix' twice" in error


def test_a_port_that_does_not_exit_at_the_end_of_its_input_is_an_error(run: Runner) -> None:
    script = f"{JSON_PORT}    send(answer(request))\nimport time; time.sleep(60)"
    outcomes, error = run(script, steps()[:1], timeout=2.0)
    assert statuses(outcomes) == ["passed"]
    assert "did not exit within 2 s of the end of its input" in error


def test_the_standard_error_of_a_port_is_shown(run: Runner) -> None:
    _, error = run(wrong("    print('here it went wrong', file=sys.stderr); print('oops', flush=True)"))
    assert "its standard error ends with:\nhere it went wrong" in error


def test_a_program_that_cannot_be_started_is_an_error_of_the_harness() -> None:
    with closing(ProgramPort("/no/such/port")) as port, pytest.raises(HarnessError, match="cannot be started"):
        list(check(port, steps()))


def test_an_empty_command_is_an_error_of_the_harness() -> None:
    with pytest.raises(HarnessError, match="must not be empty"):
        ProgramPort("")


REQUEST = StepRequest("a", Tensor("float32", (), (1.0,)), Tensor("float32", (), (2.0,)), {"weight_decay": None}, [7])


def test_requests_as_text() -> None:
    line = "step a param=float32::3f800000 grad=float32::40000000 weight_decay=none noise=0007"
    assert write_request(REQUEST, "text") == line
    noise = NoiseRequest("b", 8, 2**63, 1, 2)
    assert write_request(noise, "text") == "noise b count=8 seed=8000000000000000 step=00000001 index=00000002"
    blanks = StepRequest("c", Tensor("float32", (0, 3), ()), Tensor("float32", (0, 3), ()), {"compute_dtype": " FP32"})
    assert write_request(blanks, "text") == "step c param=float32:0,3: grad=float32:0,3: compute_dtype=%20FP32"


def test_replies_as_text() -> None:
    line = "a param=float32::3f800000 mean=3ff0000000000000,0000000000000000 trust=3fe0000000000000"
    answer = Answer(Tensor("float32", (), (1.0,)), {"mean": [1.0, 0.0], "trust": [0.5]})
    assert read_reply(line, REQUEST, "float64", "text") == answer
    assert read_reply("a refused lr is bad", REQUEST, "float64", "text") == Refused("lr is bad")
    assert read_reply("a unsupported", REQUEST, "float64", "text") == Unsupported("")


def test_a_reason_in_text_is_the_rest_of_the_line_and_is_not_decoded() -> None:
    assert read_reply("a refused lr=%20 is  100% wrong", REQUEST, "float64", "text") == Refused("lr=%20 is  100% wrong")
    assert read_reply("a unsupported \x1b[2J", REQUEST, "float64", "text") == Unsupported(r"\x1b[2J")


PARAM = '"param": {"dtype": "float32", "shape": [], "words": ["3f800000"]}'


def test_a_null_in_json_is_an_absent_key() -> None:
    right = Answer(Tensor("float32", (), (1.0,)))
    for key in ("refused", "unsupported", "words", "mean", "trust", "why"):
        assert read_reply(f'{{"id": "a", {PARAM}, "{key}": null}}', REQUEST, "float64", "json") == right
    for text in ("true", "[]", "{}", "1"):
        with pytest.raises(ProtocolError, match="refused must be the reason, a string"):
            read_reply(f'{{"id": "a", "refused": {text}}}', REQUEST, "float64", "json")


def test_intermediate_values_of_another_operation_dtype_are_read() -> None:
    """A port that reads compute dtype none as float32 sends words of float32, which is no breach of the protocol."""
    answer = read_reply(f'{{"id": "a", {PARAM}, "range": ["3fc00000"]}}', REQUEST, "float64", "json")
    assert isinstance(answer, Answer)
    assert answer.intermediates == {"range": [1.5]}
    with pytest.raises(ProtocolError, match="words of range must have 16 hexadecimal digits, got '3fc00000'"):
        read_reply(f'{{"id": "a", {PARAM}, "range": ["{0:016x}", "3fc00000"]}}', REQUEST, "float64", "json")


def test_the_other_format_is_suggested() -> None:
    with pytest.raises(ProtocolError, match=r"must be a JSON object, got 'a param=.*; --format text reads text"):
        reply_id("a param=float32::3f800000", "json", "a")
    with pytest.raises(ProtocolError, match=r"must be text, got '\{\}'; --format json reads JSON"):
        reply_id("{}", "text", "a")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a", "must be name=value"),
        ("a param", "must be name=value"),
        ("a param=float32:3f800000", "dtype:lengths:words"),
        ("a param=float32:x:3f800000", "dtype:lengths:words"),
        ("a param=float32::3f800000 param=float32::3f800000", "each field only once"),
        ("a words=0001", "was for a step"),
        ("a param=float32::3f800000 mean=3f80", "words of mean must have 16"),
    ],
)
def test_bad_replies_as_text(line: str, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        read_reply(line, REQUEST, "float64", "text")
