"""rose_core gives the answers of all vectors, and a port with another default fails a vector."""

import copy
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import rose_core
from rose_spec.cases import digest, generated_cases
from rose_spec.oracle import Rule, Tensor
from rose_spec.trajectory import ParamStep, Trajectory, update_by_oracle
from rose_spec.validation import reason_to_refuse
from rose_spec.vectors import Vector, load_vectors, options_from_json, tensor_to_json
from tests.bits import words
from tests.spec.core_port import core_update, request_of, to_array

VECTORS = load_vectors()


def of_kind(kind: str) -> list[Vector]:
    return [vector for vector in VECTORS if vector.kind == kind]


def by_id(vector: Vector) -> str:
    return vector.id


@pytest.mark.parametrize("vector", of_kind("step"), ids=by_id)
def test_rose_core_takes_every_step(vector: Vector) -> None:
    assert tensor_to_json(core_update(*request_of(vector))) == vector.expected["param"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if "range" in v.expected], ids=by_id)
def test_rose_core_has_the_intermediate_values(vector: Vector) -> None:
    param, grad, options, _ = request_of(vector)
    given_options = options_from_json(options)
    compute = given_options.compute_dtype or param.dtype
    chosen = {"centralize": given_options.centralize, "stabilize": given_options.stabilize, "compute_dtype": compute}
    array = to_array(grad)
    statistics = rose_core.slice_statistics(-array if given_options.maximize else array, **chosen)
    for name in ("mean", "range", "denominator", "trust"):
        value = getattr(statistics, name)
        got = None if value is None else [f"{w:0{2 * value.dtype.itemsize}x}" for w in words(value).ravel().tolist()]
        expected = vector.expected.get(name)
        assert got == ([expected] if isinstance(expected, str) else expected), name


@pytest.mark.parametrize("vector", of_kind("refusal"), ids=by_id)
def test_rose_core_and_the_oracle_refuse_every_refusal(vector: Vector) -> None:
    param, grad, options, noise = request_of(vector)
    assert reason_to_refuse(options_from_json(options), param, grad, noise)
    with pytest.raises((ValueError, TypeError)):
        core_update(param, grad, options, noise)


@pytest.mark.parametrize("vector", of_kind("noise"), ids=by_id)
def test_rose_core_draws_the_noise(vector: Vector) -> None:
    numbers = {name: int(vector.input[name], 16) for name in ("seed", "step", "index")}
    noise = rose_core.noise_words((vector.input["count"],), **numbers, like=np.empty(0))
    assert [f"{word:04x}" for word in noise.tolist()] == vector.expected["words"]


@pytest.mark.parametrize("vector", of_kind("trajectory"), ids=by_id)
def test_rose_core_follows_every_trajectory(vector: Vector) -> None:
    def update(step: ParamStep) -> Tensor:
        return core_update(step.param, step.grad, step.options, step.noise)

    params = Trajectory(vector.input).run(update)
    assert [[tensor_to_json(param) for param in group] for group in params] == vector.expected["params"]


@pytest.mark.parametrize("vector", [v for v in of_kind("digest") if v.input["count"] <= 1000], ids=by_id)
def test_rose_core_has_the_digests(vector: Vector) -> None:
    cases = generated_cases(int(vector.input["seed"], 16), vector.input["count"])
    results = (core_update(case.param, case.grad, case.options, case.noise) for case in cases)
    assert digest(results) == vector.expected["sha256"]


@pytest.mark.parametrize("option", [field.name for field in fields(rose_core.Hyperparameters) if field.name != "lr"])
def test_every_default_has_a_vector(option: str) -> None:
    flagged = [vector for vector in VECTORS if f"default-{option}" in vector.flags]
    assert flagged
    for vector in flagged:
        given_options = vector.input.get("options") or vector.input["groups"][0]["options"]
        assert option not in given_options


OTHERS = {
    "weight_decay": 0.0,
    "centralize": False,
    "stabilize": False,
    "compute_dtype": "fp32",
    "maximize": True,
    "wd_schedule": True,
    "bf16_sr": False,
    "sr_seed": f"{1:016x}",
}


@pytest.mark.parametrize("option", OTHERS)
def test_another_default_fails_a_vector(option: str) -> None:
    assert any(
        answer_with(vector, {option: OTHERS[option]}) != vector.expected["param" if vector.kind == "step" else "params"]
        for vector in VECTORS
        if f"default-{option}" in vector.flags
    )


def answer_with(vector: Vector, default: dict[str, Any]) -> Any:
    """Return the oracle's answer with another default for an option that is left out."""
    if vector.kind == "step":
        param, grad, options, noise = request_of(vector)
        chosen = options_from_json({**default, **options})
        return tensor_to_json(Rule(chosen).update(param, grad, noise).param)
    value = copy.deepcopy(dict(vector.input))
    for group in value["groups"]:
        group["options"] = {**default, **group["options"]}
    return [[tensor_to_json(param) for param in group] for group in Trajectory(value).run(update_by_oracle)]
