"""Mistakes that used to do nothing, or something else: each is refused with a sentence that says what works."""

from typing import Any

import numpy as np
import pytest
import torch

import rose_numpy
import rose_torch
from tests.adapters.models import normal, parameter
from tests.adapters.refusals import raises
from tests.bits import assert_same_bits


def weights() -> dict[str, np.ndarray]:
    return {"w": normal(0, (3, 4)), "b": normal(1, (3,))}


GRADS = {"w": normal(2, (3, 4)), "b": normal(3, (3,))}
REPLACED = (
    "params['w'] was replaced by another array, which the optimizer does not update; write new values into the array, "
    "as in params['w'][...] = values, or make a new optimizer"
)


def test_an_array_that_was_replaced_is_refused() -> None:
    params = weights()
    optimizer = rose_numpy.Rose(params, lr=0.1)
    optimizer.step(GRADS)
    old, params["w"] = params["w"], params["w"] * 2
    before = params["b"].copy()
    with raises(ValueError, REPLACED):
        optimizer.step(GRADS)
    assert_same_bits(params["b"], before)
    params["w"] = old
    params["w"][...] *= 2
    optimizer.step(GRADS)


def test_an_array_that_was_replaced_in_a_list_or_a_group_is_refused() -> None:
    listed = list(weights().values())
    optimizer = rose_numpy.Rose(listed, lr=0.1)
    listed[0] = listed[0].copy()
    with raises(ValueError, REPLACED.replace("'w'", "0")):
        optimizer.step(list(GRADS.values()))
    params = weights()
    optimizer = rose_numpy.Rose([{"params": params}], lr=0.1)
    params["w"] = params["w"].copy()
    with raises(ValueError, REPLACED):
        optimizer.step([GRADS])


@pytest.mark.parametrize("change", ["added", "removed"])
def test_an_array_that_was_added_or_removed_is_refused(change: str) -> None:
    params = weights()
    optimizer = rose_numpy.Rose(params, lr=0.1)
    if change == "added":
        params["new"] = normal(4, (2,))
    else:
        del params["b"]
    expected = (
        f"params have the arrays {list(params)} now, and had ['w', 'b'] when the optimizer was made; add arrays with "
        "add_param_group, or make a new optimizer"
    )
    with raises(ValueError, expected):
        optimizer.step(GRADS)


def test_an_iterable_may_end() -> None:
    arrays = list(weights().values())
    optimizer = rose_numpy.Rose(iter(arrays), lr=0.1)
    optimizer.step(list(GRADS.values()))
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step(list(GRADS.values()))


@pytest.mark.parametrize("option", ["lr", "weight_decay", "max_step"])
@pytest.mark.parametrize("of_torch", [False, True])
def test_an_option_is_no_attribute_of_the_optimizer(option: str, of_torch: bool) -> None:
    optimizer: Any = (
        rose_torch.Rose([parameter(normal(0, (3,)))], lr=0.1) if of_torch else rose_numpy.Rose(weights(), lr=0.1)
    )
    expected = f"{option} is an option of the groups; set it as optimizer.param_groups[0]['{option}']"
    with raises(AttributeError, expected):
        setattr(optimizer, option, 0.5)


OPTIONS = "lr, weight_decay, wd_schedule, centralize, stabilize, bf16_sr, compute_dtype, maximize, sr_seed, max_step"


def test_an_unknown_entry_of_a_group_is_refused_at_the_step() -> None:
    optimizer = rose_numpy.Rose(weights(), lr=0.1)
    optimizer.param_groups[0]["learning_rate"] = 0.5
    expected = f"group 0 has the unknown options ['learning_rate']; allowed are {OPTIONS}, initial_lr, max_lr"
    with raises(TypeError, expected):
        optimizer.step(GRADS)


def test_an_unknown_keyword_names_the_class_that_was_called() -> None:
    expected = f"Rose has no option 'learning_rate'; it has {OPTIONS}, nonfinite, fused"
    with raises(TypeError, expected):
        rose_numpy.Rose(weights(), lr=0.1, learning_rate=0.5)


@pytest.mark.parametrize(("key", "what"), [("shapes", "[[3, 4], [3]]"), ("dtypes", "['float32', 'float32']")])
def test_a_state_of_other_arrays_is_refused(key: str, what: str) -> None:
    state = rose_numpy.Rose(weights(), lr=0.1).state_dict()
    others = (
        {"w": normal(0, (4, 3)), "b": normal(1, (3,))}
        if key == "shapes"
        else {name: array.astype(np.float64) for name, array in weights().items()}
    )
    optimizer = rose_numpy.Rose(others, lr=0.2)
    theirs = optimizer.state_dict()["param_groups"][0][key]
    expected = f'state["param_groups"][0] is of arrays with the {key} {what}, this optimizer\'s of {theirs}'
    with raises(ValueError, expected):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.2


def test_a_state_of_version_0_1_0_loads() -> None:
    optimizer = rose_numpy.Rose(weights(), lr=0.1)
    state = optimizer.state_dict()
    for key in ("shapes", "dtypes", "max_step"):
        del state["param_groups"][0][key]
    optimizer.load_state_dict(state)
    optimizer.step(GRADS)


NESTED = {"layers": [{"w": normal(0, (3, 4)), "b": normal(1, (3,))}, {"w": normal(2, (2, 3))}], "scale": normal(3, ())}


def copied(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: copied(value) for name, value in tree.items()}
    return [copied(value) for value in tree] if isinstance(tree, list) else tree.copy()


def test_nested_structures_are_taken() -> None:
    params, grads = copied(NESTED), copied(NESTED)
    flat = {
        "layers.0.w": params["layers"][0]["w"].copy(),
        "layers.0.b": params["layers"][0]["b"].copy(),
        "layers.1.w": params["layers"][1]["w"].copy(),
        "scale": params["scale"].copy(),
    }
    flat_grads = dict(zip(flat, [grads["layers"][0]["w"], None, grads["layers"][1]["w"], grads["scale"]], strict=True))
    grads["layers"][0]["b"] = None
    nested = rose_numpy.Rose(params, lr=0.1)
    nested.step(grads)
    rose_numpy.Rose(flat, lr=0.1).step(flat_grads)
    assert nested.param_groups[0]["names"] == list(flat)
    for name, array in zip(flat, nested.param_groups[0]["params"], strict=True):
        assert_same_bits(array, flat[name])
    nested.load_state_dict(nested.state_dict())
    params["layers"][1]["w"] = params["layers"][1]["w"].copy()
    with raises(ValueError, REPLACED.replace("'w'", "'layers.1.w'")):
        nested.step(grads)


def test_a_nested_gradient_that_is_missing_is_named() -> None:
    params, grads = copied(NESTED), copied(NESTED)
    optimizer = rose_numpy.Rose(params, lr=0.1)
    del grads["layers"][0]["b"]
    grads["layers"][0]["bias"] = None
    expected = (
        "grads must have the names of params (None skips one); missing are ['layers.0.b'] and unknown are "
        "['layers.0.bias']"
    )
    with raises(ValueError, expected):
        optimizer.step(grads)


def test_nested_names_must_differ() -> None:
    with raises(ValueError, "params must have one array of each name, got several of ['a.b']"):
        rose_numpy.Rose({"a": {"b": normal(0, (2,))}, "a.b": normal(1, (2,))}, lr=0.1)


@pytest.mark.parametrize(
    ("array", "got"), [([1.0, 2.0], "params['w.0'] must be a numpy.ndarray, got float"), (3.0, None), ("abc", None)]
)
def test_what_is_no_array_is_refused_by_the_name_of_the_library(array: Any, got: str | None) -> None:
    expected = got or f"params['w'] must be a numpy.ndarray, got {type(array).__name__}"
    with raises(TypeError, expected):
        rose_numpy.Rose({"w": array}, lr=0.1)
    with raises(TypeError, "params['w'] must be a numpy.ndarray, got Tensor"):
        rose_numpy.Rose({"w": torch.ones(2)}, lr=0.1)


def test_the_text_of_an_optimizer_has_its_steps_and_its_options() -> None:
    optimizer = rose_numpy.Rose(weights(), lr=0.1, nonfinite="skip", fused=False)
    optimizer.step(GRADS)
    lines = repr(optimizer).splitlines()
    assert lines[0] == "Rose ("
    assert "    step: 1" in lines
    assert lines[-3:] == ["  nonfinite: skip", "  fused: False", ")"]


def test_a_list_of_layers_is_no_list_of_groups() -> None:
    layers = [{"w": normal(0, (3, 4))}, {"w": normal(1, (2, 3))}]
    optimizer = rose_numpy.Rose(layers, lr=0.1)
    assert optimizer.param_groups[0]["names"] == ["0.w", "1.w"]
    expected = [layer["w"].copy() for layer in layers]
    rose_numpy.Rose(expected, lr=0.1).step([GRADS["w"], normal(5, (2, 3))])
    optimizer.step([{"w": GRADS["w"]}, {"w": normal(5, (2, 3))}])
    for layer, want in zip(layers, expected, strict=True):
        assert_same_bits(layer["w"], want)


@pytest.mark.parametrize("params", [{"a": {}}, [[], {}], [{"params": {}}], [{"params": []}]])
def test_a_structure_without_arrays_is_refused(params: Any) -> None:
    with raises(ValueError, "params of group 0 must hold at least one array, got none"):
        rose_numpy.Rose(params, lr=0.1)


@pytest.mark.parametrize("params", [{}, []])
def test_a_later_group_without_arrays_is_refused_by_its_number(params: Any) -> None:
    with raises(ValueError, "params of group 1 must hold at least one array, got none"):
        rose_numpy.Rose([{"params": weights()}, {"params": params}], lr=0.1)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda grads: grads.pop("b"), "missing are ['b']"),
        (lambda grads: grads.update(c=None), "unknown are ['c']"),
    ],
)
def test_only_names_that_differ_are_listed(change: Any, text: str) -> None:
    optimizer, grads = rose_numpy.Rose(weights(), lr=0.1), dict(GRADS)
    change(grads)
    with raises(ValueError, f"grads must have the names of params (None skips one); {text}"):
        optimizer.step(grads)


@pytest.mark.parametrize("key", ["lr", "step"])
def test_a_group_that_lacks_an_entry_is_named(key: str) -> None:
    optimizer = rose_numpy.Rose([{"params": [array]} for array in weights().values()], lr=0.1)
    del optimizer.param_groups[1][key]
    for call in (lambda: optimizer.step([[GRADS["w"]], [GRADS["b"]]]), optimizer.state_dict):
        with raises(ValueError, f"group 1 lacks {key}"):
            call()
