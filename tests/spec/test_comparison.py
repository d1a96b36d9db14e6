"""The level of an answer, and its distance in ulps."""

import math
from dataclasses import replace

import pytest

from rose_spec.check import check_vector
from rose_spec.comparison import Level, Scale, compare
from rose_spec.floats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format
from rose_spec.oracle import Tensor
from rose_spec.ports.python_function import PythonPort
from rose_spec.replies import Answer
from tests.spec.scripted import VECTORS, ScriptedPort, outcome_of

LEVELS_OF_VALUES: list[tuple[float, float, Format, str, Level | None]] = [
    (1.0, 1.0, FLOAT64, "float64", "exact"),
    (1.0 + 4 * 2.0**-52, 1.0, FLOAT64, "float64", "rounded"),
    (1.0 + 5 * 2.0**-52, 1.0, FLOAT64, "float64", "formula"),
    (1.0 + 4 * 2.0**-23, 1.0, FLOAT32, "float64", "rounded"),
    (1.0 + 2.0**-23, 1.0, FLOAT64, "float32", "rounded"),
    (1.0 + 2 * 2.0**-23, 1.0, FLOAT64, "float32", "formula"),
    (1.0 + 2.0**-7, 1.0, FLOAT64, "bfloat16", "rounded"),
    (1.0 + 2.0**-6, 1.0, FLOAT64, "bfloat16", None),
    (1.0 + 2.0**-5, 1.0, BFLOAT16, "bfloat16", "rounded"),
    (1.0 + 2.0**-8, 1.0, FLOAT16, "float16", "rounded"),
    (1.0 + 2e-5, 1.0, FLOAT64, "float64", None),
    (-0.0, 0.0, FLOAT64, "float64", "rounded"),
    (math.nan, math.nan, FLOAT64, "float64", "exact"),
    (math.nan, 1.0, FLOAT64, "float64", None),
    (math.inf, -math.inf, FLOAT64, "float64", None),
    (1e-5, 0.0, FLOAT64, "float64", "formula"),
]


@pytest.mark.parametrize(("got", "expected", "compute", "dtype", "level"), LEVELS_OF_VALUES)
def test_levels(got: float, expected: float, compute: Format, dtype: str, level: Level | None) -> None:
    scale = Scale(Tensor(dtype, (), (0.0,)), compute, lr=1.0)
    assert compare(Tensor(dtype, (), (got,)), Tensor(dtype, (), (expected,)), scale).level == level


def test_a_difference_is_measured_in_ulps_of_the_larger_of_parameter_and_result() -> None:
    scale = Scale(Tensor("float64", (), (4.0,)), FLOAT64, lr=0.0)
    nearly = compare(Tensor("float64", (), (1.0 + 8 * 2.0**-52,)), Tensor("float64", (), (1.0,)), scale)
    assert (nearly.ulps, nearly.level, nearly.differing) == (2.0, "rounded", (0,))


def test_the_word_of_a_nan_matters_only_at_exact_and_after_stochastic_rounding() -> None:
    outcome = outcome_of(PythonPort("rose_core:update"), "step-nan-noise")
    assert isinstance(outcome.reply, Answer)
    payload = Tensor.from_words("bfloat16", (2,), [0x7FC1, 0x7FC0])
    marked = check_vector(ScriptedPort(Answer(payload)), VECTORS["step-nan-noise"])
    assert (outcome.level, marked.level, marked.ulps) == ("exact", "rounded", 0.0)
    assert marked.detail == "1 element differs, by up to 0 ulps; element 0: expected 7fc0, got 7fc1"


def test_the_allowed_difference_grows_with_the_steps_of_a_trajectory() -> None:
    got, expected = Tensor("float64", (), (1.0 + 8 * 2.0**-52,)), Tensor("float64", (), (1.0,))
    scale = Scale(expected, FLOAT64, lr=0.0)
    assert compare(got, expected, scale).level == "formula"
    assert compare(got, expected, replace(scale, steps=2)).level == "rounded"
