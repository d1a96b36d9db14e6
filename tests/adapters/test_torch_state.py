"""Saved, copied and pickled optimizers of rose_torch continue bit for bit, with the same noise."""

import copy
import io
import json
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import rose_numpy
from rose_core.peers import SGD
from rose_torch import Rose
from rose_torch.rules import Optimizer
from tests.adapters.models import assert_same_model, grads, model, normal, parameter, tensor
from tests.adapters.refusals import raises, refuses, snapshot

Params = dict[str, torch.nn.Parameter]

NOISE: dict[str, Callable[[], dict[str, Any]]] = {
    "the default generator": dict,
    "a generator": lambda: {"bf16_sr": torch.Generator().manual_seed(5)},
    "sr_seed": lambda: {"sr_seed": 2**64 - 1},
    "no noise": lambda: {"bf16_sr": False},
}
saved_noise = pytest.mark.parametrize("noise", [NOISE["a generator"], NOISE["sr_seed"]], ids=["a generator", "sr_seed"])


def new_params() -> Params:
    return {name: parameter(x) for name, x in model("bfloat16").items()}


def new_optimizer(params: Params, **options: Any) -> Rose:
    """Return a new optimizer of two groups."""
    held = list(params.items())
    groups = [{"params": held[:2], "centralize": False}, {"params": held[2:], "lr": 0.25, "wd_schedule": 0.5}]
    return Rose(groups, lr=0.125, weight_decay=0.0625, compute_dtype="fp32", **options)


def run(optimizer: Rose, params: Params, steps: range) -> None:
    for step in steps:
        for name, grad in grads(step, "bfloat16").items():
            params[name].grad = tensor(grad)
        optimizer.param_groups[0]["lr"] = 0.125 / (1 + step)
        optimizer.step()


def uninterrupted(steps: int, **options: Any) -> Params:
    """Return the parameters after a run of this number of steps."""
    params = new_params()
    run(new_optimizer(params, **options), params, range(steps))
    return params


def through_a_file(value: Any, *, weights_only: bool = True) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


FORMATS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "dict": lambda state: state,
    "json": lambda state: json.loads(json.dumps(state)),
    "torch.save": through_a_file,
}


@saved_noise
@pytest.mark.parametrize("saved", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("saved_after", [0, 3])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_run(
    noise: Callable[[], dict[str, Any]], saved: Callable[[dict[str, Any]], dict[str, Any]], saved_after: int
) -> None:
    params = new_params()
    optimizer = new_optimizer(params, **noise())
    run(optimizer, params, range(saved_after))
    state = saved(optimizer.state_dict())
    resumed = new_optimizer(params, **noise())
    resumed.load_state_dict(state)
    run(resumed, params, range(saved_after, 6))
    assert_same_model(params, uninterrupted(6, **noise()), "rose_torch")


def test_a_saved_generator_is_restored_in_an_optimizer_without_one() -> None:
    params = new_params()
    optimizer = new_optimizer(params, **NOISE["a generator"]())
    run(optimizer, params, range(2))
    resumed = new_optimizer(params)
    resumed.load_state_dict(optimizer.state_dict())
    run(resumed, params, range(2, 4))
    assert_same_model(params, uninterrupted(4, **NOISE["a generator"]()), "rose_torch")


def test_loading_sets_the_state_of_the_optimizers_generator() -> None:
    saved, current = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    optimizer = new_optimizer(new_params(), bf16_sr=current)
    optimizer.load_state_dict(new_optimizer(new_params(), bf16_sr=saved).state_dict())
    assert [group["bf16_sr"] for group in optimizer.param_groups] == [current, current]
    assert current.get_state().tolist() == saved.get_state().tolist()


@pytest.mark.parametrize("shared_now", [True, False], ids=["shared now", "separate now"])
@pytest.mark.parametrize("shared_then", [True, False], ids=["shared then", "separate then"])
def test_loaded_groups_share_a_generator_if_the_saved_groups_did(shared_then: bool, shared_now: bool) -> None:
    def two_groups(*, shared: bool) -> list[dict[str, Any]]:
        first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
        sources = [first, first if shared else second]
        held = [parameter(model("bfloat16")["weight"], grads(dtype="bfloat16")["weight"]) for _ in sources]
        return [{"params": [p], "bf16_sr": source} for p, source in zip(held, sources, strict=True)]

    saved = Rose(two_groups(shared=shared_then), lr=0.1)
    loaded = Rose(two_groups(shared=shared_now), lr=0.1)
    loaded.load_state_dict(saved.state_dict())
    for optimizer in (saved, loaded):
        optimizer.step()
        optimizer.step()
    first, second = (group["bf16_sr"] for group in loaded.param_groups)
    assert (first is second) == shared_then
    for got, want in zip(loaded.param_groups, saved.param_groups, strict=True):
        assert_same_model({"w": got["params"][0]}, {"w": want["params"][0]}, "rose_torch")


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "torch.save": lambda value: through_a_file(value, weights_only=False),
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_draws_the_same_noise_as_the_original(
    copied: Callable[[Any], Any], noise: Callable[[], dict[str, Any]]
) -> None:
    params = new_params()
    optimizer = new_optimizer(params, **noise())
    run(optimizer, params, range(2))
    copied_params, copied_optimizer = copied((params, optimizer))
    for held, stepping in ((copied_params, copied_optimizer), (params, optimizer)):
        torch.manual_seed(7)
        run(stepping, held, range(2, 4))
    assert_same_model(copied_params, params, "rose_torch")
    assert all(copied_params[name] is not params[name] for name in params)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_the_groups_of_a_copy_share_a_copy_of_the_generator(copied: Callable[[Any], Any]) -> None:
    generator = torch.Generator().manual_seed(5)
    copied_optimizer = copied(new_optimizer(new_params(), bf16_sr=generator))
    copied_generator = copied_optimizer.param_groups[0]["bf16_sr"]
    assert copied_generator is not generator
    assert copied_generator.get_state().tolist() == generator.get_state().tolist()
    assert copied_optimizer.param_groups[1]["bf16_sr"] is copied_generator
    assert copied_optimizer.defaults["bf16_sr"] is copied_generator


def test_a_shallow_copy_keeps_the_parameters() -> None:
    optimizer = new_optimizer(new_params(), **NOISE["a generator"]())
    copied = copy.copy(optimizer)
    assert copied.param_groups[0]["params"][0] is optimizer.param_groups[0]["params"][0]


def test_a_group_can_be_added_to_a_copy() -> None:
    copied = copy.deepcopy(new_optimizer(new_params(), **NOISE["a generator"]()))
    copied.add_param_group({"params": [("more", parameter(model("bfloat16")["weight"]))]})
    assert copied.param_groups[2]["bf16_sr"] is copied.param_groups[0]["bf16_sr"]


def test_python_writes_and_reads_an_infinite_max_step_as_json() -> None:
    text = json.dumps(new_optimizer(new_params(), max_step=float("inf")).state_dict())
    assert '"max_step": Infinity' in text
    resumed = new_optimizer(new_params())
    resumed.load_state_dict(json.loads(text))
    assert resumed.param_groups[0]["max_step"] == float("inf")


def test_the_state_has_plain_values() -> None:
    params = new_params()
    optimizer = new_optimizer(params, **NOISE["a generator"]())
    run(optimizer, params, range(1))
    state = json.loads(json.dumps(optimizer.state_dict()))
    generator = state["param_groups"][0].pop("sr_generator")
    assert generator["id"] == state["param_groups"][1]["sr_generator"]["id"] == 0
    assert generator["device"] == "cpu"
    assert state["state"] == {}
    assert state["param_groups"][0] == {
        "params": [0, 1],
        "param_names": ["scale", "bias"],
        "lr": 0.125,
        "weight_decay": 0.0625,
        "wd_schedule": False,
        "centralize": False,
        "stabilize": True,
        "bf16_sr": True,
        "compute_dtype": "fp32",
        "maximize": False,
        "sr_seed": None,
        "max_step": None,
        "step": 1,
        "initial_lr": 0.125,
    }


def test_a_run_does_not_change_a_saved_state() -> None:
    params = new_params()
    optimizer = new_optimizer(params, **NOISE["a generator"]())
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    optimizer.load_state_dict(state)
    run(optimizer, params, range(2))
    assert state == before


@pytest.mark.parametrize("optimizer_of", [Rose, partial(Optimizer, rule=SGD())])
@pytest.mark.parametrize("wrong", [None, 3, [], {"a": 1}, rose_numpy.Rose([np.ones(2)], lr=0.1).state_dict()])
def test_what_is_no_state_changes_nothing(optimizer_of: Any, wrong: Any) -> None:
    optimizer = optimizer_of([parameter(normal(0, (2,)))], lr=0.1)
    text = 'state_dict must be a mapping with "state" and "param_groups", as state_dict returns it'
    with refuses(optimizer, TypeError, text):
        optimizer.load_state_dict(wrong)


@pytest.mark.parametrize("optimizer_of", [Rose, partial(Optimizer, rule=SGD())])
def test_a_hook_may_make_a_state_and_does_not_change_the_one_that_is_given(optimizer_of: Any) -> None:
    optimizer = optimizer_of([parameter(normal(0, (2,)))], lr=0.1)
    wanted, given = optimizer.state_dict(), {"mine": 1}
    wanted["param_groups"][0]["lr"] = 0.5
    optimizer.register_load_state_dict_pre_hook(lambda _, state: state.update(extra=2))
    optimizer.register_load_state_dict_pre_hook(lambda _, state: {**wanted, **state})
    optimizer.load_state_dict(given)
    assert (optimizer.param_groups[0]["lr"], given) == (0.5, {"mine": 1})
    assert len(optimizer._optimizer_load_state_dict_pre_hooks) == 2


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    return lambda group: [group.pop(key) for key in keys] and None


INVALID_GROUPS: dict[str, tuple[Callable[[dict[str, Any]], Any], type[Exception], str]] = {
    "a missing option": (without("lr"), ValueError, "param group 1 of the state lacks lr"),
    "two missing options": (
        without("stabilize", "centralize"),
        ValueError,
        "param group 1 of the state lacks centralize, stabilize",
    ),
    "an invalid option": (
        lambda group: group.update(lr=float("nan")),
        ValueError,
        "lr must be a finite number >= 0, got nan",
    ),
    "a generator of another device": (
        lambda group: group["sr_generator"].update(device="cuda:0"),
        ValueError,
        "the state's generator is on device cuda:0, the one given as bf16_sr on cpu; they must be on one device",
    ),
    "an invalid state of a generator": (
        lambda group: group["sr_generator"].update(state="xyz"),
        ValueError,
        "the state of a generator on cpu cannot be restored: "
        "non-hexadecimal number found in fromhex() arg at position 0",
    ),
    "an invalid step count": (
        lambda group: group.update(step="x"),
        TypeError,
        "step must be an integer in [0, 2**32), got 'x'",
    ),
    "a generator and a seed": (
        lambda group: group.update(sr_seed=1),
        ValueError,
        "sr_seed=1 and a torch.Generator as bf16_sr are two sources of the same noise; allowed is one of them",
    ),
    "too few parameters": (
        lambda group: group.update(params=[2]),
        ValueError,
        "loaded state dict contains a parameter group that doesn't match the size of optimizer's group",
    ),
}


@pytest.mark.parametrize(("broken", "error", "text"), INVALID_GROUPS.values(), ids=INVALID_GROUPS)
def test_an_invalid_last_group_of_a_state_changes_nothing(
    broken: Callable[[dict[str, Any]], Any], error: type[Exception], text: str
) -> None:
    state = new_optimizer(new_params(), bf16_sr=torch.Generator().manual_seed(1)).state_dict()
    state["param_groups"][0]["lr"] = 0.75
    broken(state["param_groups"][1])
    optimizer = new_optimizer(new_params(), bf16_sr=torch.Generator().manual_seed(2))
    with refuses(optimizer, error, text):
        optimizer.load_state_dict(state)


def test_a_state_with_another_number_of_groups_changes_nothing() -> None:
    optimizer = new_optimizer(new_params())
    state = optimizer.state_dict()
    state["param_groups"].pop()
    with refuses(optimizer, ValueError, "loaded state dict has a different number of parameter groups"):
        optimizer.load_state_dict(state)


def test_unpickling_a_state_without_an_option_raises() -> None:
    optimizer = new_optimizer(new_params())
    before = snapshot(optimizer)
    state = optimizer.__getstate__()
    del state["param_groups"][1]["maximize"], state["param_groups"][1]["weight_decay"]
    with raises(ValueError, "param group 1 of the state lacks weight_decay"):
        Rose.__new__(Rose).__setstate__(state)
    assert snapshot(optimizer) == before
