"""The worked examples of SPEC.md are vectors whose answers and intermediate values the oracle and rose_core give."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rose_core
from rose_spec.check import check_vector, expected_step
from rose_spec.ports.python_function import PythonPort
from rose_spec.replies import StepRequest
from rose_spec.vectors import Vector, tensor_to_json, words_to_json
from tests.bits import DTYPES, raw_words

SPEC = (Path(__file__).parents[2] / "spec" / "SPEC.md").read_text(encoding="utf-8")
BLOCKS = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", SPEC, re.MULTILINE | re.DOTALL)]
EXAMPLES = [Vector.from_json(block) for block in BLOCKS]
STEPS = [example for example in EXAMPLES if example.kind == "step"]


def test_there_are_examples_of_steps_and_of_noise() -> None:
    assert {example.kind for example in EXAMPLES} == {"step", "noise"}
    assert len({example.id for example in EXAMPLES}) == len(EXAMPLES) >= 4


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)
def test_rose_core_answers_an_example_exactly(example: Vector) -> None:
    port = PythonPort("rose_core:update", "rose_core:noise_words")
    assert check_vector(port, example).status == "passed"


@pytest.mark.parametrize("example", STEPS, ids=lambda example: example.id)
def test_the_oracle_has_the_intermediate_values(example: Vector) -> None:
    step = expected_step(StepRequest.of(example))
    values: dict[str, Any] = {"param": tensor_to_json(step.param)}
    for name in ("mean", "range", "denominator"):
        if getattr(step, name) is not None:
            values[name] = words_to_json("float64", getattr(step, name))
    if step.trust is not None:
        values["trust"] = words_to_json("float64", [step.trust])[0]
    assert values == example.expected


def test_slice_statistics_has_the_values_of_the_matrix() -> None:
    example = next(example for example in STEPS if example.id == "example-matrix")
    grad = example.input["grad"]
    words = np.asarray([int(word, 16) for word in grad["words"]], np.uint32).reshape(grad["shape"])
    statistics = rose_core.slice_statistics(words.view(DTYPES[grad["dtype"]][0]))
    for name, value in statistics._asdict().items():
        expected = example.expected[name]
        wanted = [int(word, 16) for word in ([expected] if name == "trust" else expected)]
        assert raw_words(value).ravel().tolist() == wanted, name
