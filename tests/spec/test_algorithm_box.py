"""The code of the algorithm box in SPEC.md gives the answers of all vectors of single steps."""

import builtins
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from rose_spec.oracle import Options, Rule, Tensor, round_to_bfloat16
from rose_spec.ports.port import plain_options
from rose_spec.summation import reproducible_sum
from rose_spec.vectors import Vector, load_vectors, number_from_json, tensor_to_json
from tests.spec.core_port import request_of, to_array, to_tensor

SPEC = (Path(__file__).parents[2] / "spec" / "SPEC.md").read_text(encoding="utf-8")
(BOX,) = re.findall(r"^```python\n(.*?)^```$", SPEC, re.MULTILINE | re.DOTALL)
DTYPES = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def is_limited(options: Mapping[str, Any]) -> bool:
    """Tell whether a step has a finite `max_step`."""
    word = options.get("max_step")
    return word is not None and math.isfinite(number_from_json(word))


# The box leaves out parameters without elements (ROSE-1.4) and the extension ROSE-6.4.
STEPS = [
    v for v in load_vectors() if v.kind == "step" and v.input["param"]["words"] and not is_limited(v.input["options"])
]


def slices_last(array: np.ndarray) -> np.ndarray:
    """Return an array of rank 1 or more with its slices along the last axis, so that one value a slice broadcasts."""
    rows = 1 if array.ndim == 1 else array.shape[0]
    return array.reshape(rows, array.size // rows).T


class Box:
    """The names that the box uses, for one vector."""

    def __init__(self, param: Tensor, grad: Tensor, options: dict[str, Any], noise: list[int] | None) -> None:
        chosen = Options(**options)
        rule = Rule(chosen)
        rule.choose_formats(param.dtype, stochastic=noise is not None)  # ROSE-2.1, ROSE-2.5
        self.compute, self.operation = DTYPES[rule.compute.name], DTYPES[rule.operation.name]
        self.shape, self.dtype, self.noise = param.shape, param.dtype, noise
        arrays = [to_array(param), to_array(grad)]
        if param.shape:
            arrays = [slices_last(array) for array in arrays]
            self.n, self.m = arrays[0].shape
        self.param, self.grad, self.rank = *arrays, len(param.shape)
        self.wd_lr = chosen.lr if chosen.lr_reference is None else chosen.lr / chosen.lr_reference
        for name in ("lr", "weight_decay", "centralize", "stabilize", "maximize"):
            setattr(self, name, getattr(chosen, name))

    where, sign, sqrt = staticmethod(np.where), staticmethod(np.sign), staticmethod(np.sqrt)

    def rc(self, value: Any) -> Any:
        return np.asarray(value).astype(self.operation).astype(self.compute).astype(self.operation)

    def max(self, *values: Any) -> Any:
        return builtins.max(values) if len(values) > 1 else np.max(values[0], axis=0)

    def min(self, value: np.ndarray) -> Any:
        return np.min(value, axis=0)

    def sum(self, values: np.ndarray) -> np.ndarray:
        columns = values.astype(np.float64).reshape(values.shape[0], -1).T
        sums = np.asarray([reproducible_sum(column.tolist()) for column in columns])
        return sums.reshape(values.shape[1:])

    def clip(self, value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(value, low), high) + value.dtype.type(0)

    def cast(self, x: np.ndarray) -> Tensor:
        wide = x.T.reshape(self.shape)
        narrow = wide.astype(np.float64 if self.dtype == "float64" else np.float32)
        if self.noise is None:
            return to_tensor(narrow.astype(DTYPES[self.dtype]))
        pairs = zip(narrow.ravel().tolist(), self.noise, strict=True)
        return Tensor(self.dtype, self.shape, tuple(round_to_bfloat16(value, word) for value, word in pairs))

    def run(self, box: str) -> Tensor:
        """Run the box and return the new parameter."""
        names = {name: getattr(self, name) for name in dir(self) if not name.startswith("_")}
        with np.errstate(all="ignore"):
            exec(box, names)
        result: Tensor = names["param"]
        return result


def is_answered(box: str, vector: Vector) -> bool:
    param, grad, options, noise = request_of(vector)
    result = Box(param, grad, plain_options(options), noise).run(box)
    return tensor_to_json(result) == vector.expected["param"]


def test_the_box_answers_steps_with_an_infinite_limit() -> None:
    assert any(v.input["options"].get("max_step") is not None for v in STEPS)


@pytest.mark.parametrize("vector", STEPS, ids=lambda vector: vector.id)
def test_the_box_gives_the_answer_of_a_vector(vector: Vector) -> None:
    assert is_answered(BOX, vector)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("-grad if maximize else grad", "grad"),
        ("1 - wd_lr * weight_decay", "1 - lr * weight_decay"),
        ("rc(-lr)", "-lr"),
        ("clip(rc(sum(g) / n), min(g), max(g))", "rc(sum(g) / n)"),
        ("abs(max(g))", "max(g)"),
        ("if mean != 0 else 1", ""),
        ("w < 1 / 2", "True"),
        ("((-lr) * g) / where(D == 0, 1, D)", "(-lr) * (g / where(D == 0, 1, D))"),
        ("where(D == 0, 1, D)", "D"),
    ],
)
def test_a_wrong_box_fails_a_vector(line: str, wrong: str) -> None:
    assert line in BOX
    assert not all(is_answered(BOX.replace(line, wrong), vector) for vector in STEPS)
