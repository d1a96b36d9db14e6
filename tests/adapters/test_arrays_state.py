"""The state of rose_numpy: plain values for JSON, from which a run continues bit for bit."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rose_numpy import Rose
from tests.adapters.models import assert_same_model, grads, model
from tests.adapters.refusals import refuses

Params = list[dict[str, np.ndarray]]


def new_params() -> Params:
    return [model("bfloat16"), model("float32"), model("bfloat16")]


def new_optimizer(params: Params) -> Rose:
    """Return an optimizer of several groups with different options."""
    named, plain, scheduled = params
    return Rose(
        [
            {"params": named},
            {"params": list(plain.values()), "centralize": False, "wd_schedule": 0.5},
            {"params": scheduled, "wd_schedule": True, "sr_seed": 2**64 - 1, "compute_dtype": None},
        ],
        lr=0.25,
        weight_decay=0.125,
        maximize=True,
        sr_seed=3,
    )


def run(optimizer: Rose, steps: range) -> None:
    """Take steps with a schedule. The lr of the last group is 0 in the first step."""
    for step in steps:
        for number, group in enumerate(optimizer.param_groups):
            group["lr"] = 0.25 / (1 + step) if step or number < 2 else 0.0
        optimizer.step([grads(step), list(grads(step).values()), grads(step)])


def uninterrupted(steps: int) -> Params:
    """Return the parameters after a run of this number of steps."""
    params = new_params()
    run(new_optimizer(params), range(steps))
    return params


def assert_same_params(params: Params, expected: Params) -> None:
    for group, expected_group in zip(params, expected, strict=True):
        assert_same_model(group, expected_group, "rose_numpy")


def test_the_state_has_plain_values() -> None:
    optimizer = Rose({"w": np.ones(2)}, lr=np.float32(0.5), compute_dtype=np.float32, weight_decay=None)
    optimizer.param_groups[0]["max_lr"] = np.float32(0.5)
    optimizer.step({"w": np.ones(2)})
    expected = {
        "params": [0],
        "names": ["w"],
        "lr": 0.5,
        "weight_decay": 0.0,
        "wd_schedule": False,
        "centralize": True,
        "stabilize": True,
        "bf16_sr": True,
        "compute_dtype": "fp32",
        "maximize": False,
        "sr_seed": 0,
        "max_step": None,
        "shapes": [[2]],
        "dtypes": ["float64"],
        "step": 1,
        "initial_lr": 0.5,
        "max_lr": 0.5,
    }
    assert json.loads(json.dumps(optimizer.state_dict())) == {"param_groups": [expected]}


def test_python_writes_and_reads_an_infinite_max_step_as_json() -> None:
    optimizer = Rose({"w": np.ones(2)}, lr=0.5, max_step=float("inf"))
    text = json.dumps(optimizer.state_dict())
    assert '"max_step": Infinity' in text
    resumed = Rose({"w": np.ones(2)}, lr=0.5)
    resumed.load_state_dict(json.loads(text))
    assert resumed.param_groups[0]["max_step"] == float("inf")


def test_the_indices_of_parameters_count_across_groups() -> None:
    groups = new_optimizer(new_params()).state_dict()["param_groups"]
    assert [group["params"] for group in groups] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]
    assert groups[1]["names"] is None


@pytest.mark.parametrize("saved_after", [0, 1, 4])
def test_a_run_resumed_from_json_continues_bit_for_bit(saved_after: int) -> None:
    params = new_params()
    optimizer = new_optimizer(params)
    run(optimizer, range(saved_after))
    text = json.dumps(optimizer.state_dict())
    resumed = Rose([{"params": p if n != 1 else list(p.values())} for n, p in enumerate(params)], lr=9.0)
    resumed.load_state_dict(json.loads(text))
    run(resumed, range(saved_after, 6))
    assert_same_params(params, uninterrupted(6))


def test_a_step_does_not_change_a_loaded_state() -> None:
    optimizer = new_optimizer(new_params())
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    before = copy.deepcopy(state)
    run(optimizer, range(2))
    assert state == before


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_has_copies_of_the_arrays_and_continues_bit_for_bit(copied: Callable[[Rose], Rose]) -> None:
    params = new_params()
    optimizer = new_optimizer(params)
    run(optimizer, range(2))
    copy_ = copied(optimizer)
    run(copy_, range(2, 4))
    assert_same_params(params, uninterrupted(2))
    names = list(params[0])
    held = [dict(zip(names, group["params"], strict=True)) for group in copy_.param_groups]
    assert_same_params(held, uninterrupted(4))


def test_an_optimizer_copied_together_with_its_parameters_updates_the_copies() -> None:
    params = new_params()
    copied_params, copied_optimizer = copy.deepcopy((params, new_optimizer(params)))
    run(copied_optimizer, range(2))
    assert_same_params(copied_params, uninterrupted(2))


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda group: group.pop(key)


GROUP = 'state["param_groups"][2]'
NAMES = ["scale", "bias", "unused", "weight", "kernel"]
INVALID_GROUPS: dict[str, tuple[Callable[[dict[str, Any]], Any], type[Exception], str]] = {
    "a missing option": (without("lr"), ValueError, f"{GROUP} lacks the keys ['lr']"),
    "a missing step count": (
        without("step"),
        ValueError,
        f"{GROUP} lacks the keys ['step']",
    ),
    "an unknown key": (
        lambda group: group.update(momentum=0.9),
        ValueError,
        f"{GROUP} has the unknown keys ['momentum']",
    ),
    "too few parameters": (
        lambda group: group.update(params=[10, 11]),
        ValueError,
        f"{GROUP} is of 2 parameters named {NAMES}, this optimizer's of 5 named {NAMES}",
    ),
    "other names": (
        lambda group: group.update(names=["a", "b", "c", "d", "e"]),
        ValueError,
        f"{GROUP} is of 5 parameters named ['a', 'b', 'c', 'd', 'e'], this optimizer's of 5 named {NAMES}",
    ),
    "no names": (
        lambda group: group.update(names=None),
        ValueError,
        f"{GROUP} is of 5 parameters named None, this optimizer's of 5 named {NAMES}",
    ),
    "an invalid option": (
        lambda group: group.update(lr=float("nan")),
        ValueError,
        "lr must be a finite number >= 0, got nan",
    ),
    "an invalid initial_lr": (
        lambda group: group.update(initial_lr=-1),
        ValueError,
        "initial_lr must be a finite number >= 0, got -1",
    ),
    "an invalid step count": (
        lambda group: group.update(step=-1),
        ValueError,
        "step must be an integer in [0, 2**32), got -1",
    ),
    "no seed": (
        lambda group: group.update(sr_seed=None),
        ValueError,
        "sr_seed must be an integer in [0, 2**64), got None",
    ),
}


@pytest.mark.parametrize(("broken", "error", "text"), INVALID_GROUPS.values(), ids=INVALID_GROUPS)
def test_an_invalid_last_group_of_a_state_changes_nothing(
    broken: Callable[[dict[str, Any]], Any], error: type[Exception], text: str
) -> None:
    optimizer = new_optimizer(new_params())
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 0.75
    broken(state["param_groups"][2])
    with refuses(optimizer, error, text):
        optimizer.load_state_dict(state)


NOT_A_STATE = 'state must be a mapping with a list "param_groups", as state_dict returns it'
INVALID_STATES: dict[str, tuple[Any, type[Exception], str]] = {
    "a list": ([], TypeError, NOT_A_STATE),
    "no groups": ({}, TypeError, NOT_A_STATE),
    "groups in a mapping": ({"param_groups": {}}, TypeError, NOT_A_STATE),
    "one group": ({"param_groups": [{}]}, ValueError, "state has 1 groups, this optimizer 3"),
    "a group that is not a mapping": (
        {"param_groups": [[], [], []]},
        TypeError,
        'state["param_groups"][0] must be a mapping, got list',
    ),
}


@pytest.mark.parametrize(("state", "error", "text"), INVALID_STATES.values(), ids=INVALID_STATES)
def test_an_invalid_state_changes_nothing(state: Any, error: type[Exception], text: str) -> None:
    optimizer = new_optimizer(new_params())
    with refuses(optimizer, error, text):
        optimizer.load_state_dict(state)
