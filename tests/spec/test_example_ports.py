"""The example ports conform at level exact, for the vectors and for random bits."""

import math
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rose_spec.check import check, expected_step
from rose_spec.comparison import same
from rose_spec.floats import FORMATS
from rose_spec.oracle import Tensor
from rose_spec.ports.program import ProgramPort
from rose_spec.replies import Answer, StepRequest
from rose_spec.vectors import load_vectors, number_to_json

FOLDER = Path(__file__).parents[2] / "examples" / "ports"
SHAPES = [(), (1,), (6,), (1, 1), (3, 1), (1, 5), (4, 3), (2, 3, 2), (0, 3), (2, 40)]
LIMIT = 160


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the C port and return the program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang) is installed")
    program = tmp_path_factory.mktemp("ports") / "rose"
    strict = ["-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", "-ffp-contract=off"]
    subprocess.run([compiler, *strict, "-o", str(program), str(FOLDER / "rose.c"), "-lm"], check=True)
    return program


@pytest.fixture(params=["c", "javascript"])
def port(request: pytest.FixtureRequest) -> Iterator[ProgramPort]:
    """Yield an example port, which is closed after the test."""
    if request.param == "c":
        opened = ProgramPort(str(request.getfixturevalue("compiled")), dialect="text", timeout=30.0)
    elif shutil.which("node") is None:
        pytest.skip("node is not installed")
    else:
        opened = ProgramPort(f"node {FOLDER / 'rose.mjs'}", dialect="json", timeout=30.0)
    yield opened
    opened.close()


def test_all_vectors_pass_at_exact(port: ProgramPort) -> None:
    vectors = [vector for vector in load_vectors() if vector.input.get("count", 0) <= 1000]
    outcomes = list(check(port, vectors))
    assert [(o.vector.id, o.detail) for o in outcomes if o.status != "passed"] == []


def test_answers_to_random_bits_are_those_of_the_oracle(port: ProgramPort) -> None:
    rng = random.Random(20)
    for number in range(400):
        request = random_step(rng, str(number))
        reply, expected = port.step(request), expected_step(request)
        assert isinstance(reply, Answer), (request, reply)
        assert (reply.param.dtype, reply.param.shape) == (expected.param.dtype, expected.param.shape)
        assert all(map(same, reply.param.values, expected.param.values)), (request, reply, expected)
        for name, values in reply.intermediates.items():
            right = getattr(expected, name)
            assert all(map(same, values, right if isinstance(right, list) else [right])), (request, name)


@pytest.mark.parametrize("name", ["rose.c", "rose.mjs"])
def test_an_example_port_is_short_and_names_the_command_that_checks_it(name: str) -> None:
    lines = (FOLDER / name).read_text().splitlines()
    assert len(lines) < LIMIT
    assert max(map(len, lines)) <= 120
    assert "python -m rose_spec run --program" in "\n".join(lines[:4])


def random_step(rng: random.Random, name: str) -> StepRequest:
    """Return a step of random dtypes, shape, options and bits."""
    dtype, grad_dtype, shape = rng.choice(list(FORMATS)), rng.choice(list(FORMATS)), rng.choice(SHAPES)
    options: dict[str, Any] = {
        "lr": number_to_json(rng.choice([0.0, 1e-3, 0.3, 7.0, 1e-45])),
        "weight_decay": rng.choice([None, number_to_json(0.1), number_to_json(1e4)]),
        "lr_reference": rng.choice([None, number_to_json(0.7)]),
        "centralize": rng.random() < 0.5,
        "stabilize": rng.random() < 0.5,
        "maximize": rng.random() < 0.2,
        "compute_dtype": rng.choice(["fp64", "fp32", "fp16", "bf16", None]),
    }
    stochastic = dtype == "bfloat16" and options["compute_dtype"] not in ("fp16", "bf16") and rng.random() < 0.7
    noise = [rng.getrandbits(16) for _ in range(math.prod(shape))] if stochastic else None
    return StepRequest(name, tensor(rng, dtype, shape), tensor(rng, grad_dtype, shape), options, noise)


def tensor(rng: random.Random, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Return an array of random bits: any bits, values near 1 or -1, or values near 0."""
    form, kind = FORMATS[dtype], rng.randrange(3)
    one, sign = form.encode(1.0), 1 << (form.width - 1)
    draw = [
        lambda: rng.getrandbits(form.width),
        lambda: one + rng.randrange(-(one >> 5), one >> 5) | rng.choice([0, sign]),
        lambda: rng.randrange(2 ** (form.precision // 2)) | rng.choice([0, sign]),
    ][kind]
    return Tensor.from_words(dtype, shape, [draw() for _ in range(math.prod(shape))])
