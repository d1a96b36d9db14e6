"""The errors of rose_torch with their whole text. A step that raises changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rose_core.peers import SGD
from rose_torch import Rose
from rose_torch.rules import Optimizer
from tests.adapters.models import normal, parameter, valid_groups, with_grad
from tests.adapters.refusals import FLOATING, bad_options, raises, refuses

TWO_SOURCES = "and a torch.Generator as bf16_sr are two sources of the same noise; allowed is one of them"


def with_sparse_grad() -> nn.Parameter:
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 3])).sum().backward()
    return embedding.weight


def with_larger_grad() -> nn.Parameter:
    param = nn.Parameter(torch.ones(2, 3))
    param.grad = torch.ones(2, 3)
    param.grad.data = torch.ones(3, 3)
    return param


def expanded() -> nn.Parameter:
    param = nn.Parameter(torch.ones(1, 3).expand(2, 3))
    param.grad = torch.ones(2, 3)
    return param


LAST = "parameter 0 of group 2"
INVALID_PARAMS: dict[str, tuple[Callable[[], nn.Parameter], dict[str, Any], type[Exception], str]] = {
    "sparse": (
        with_sparse_grad,
        {},
        RuntimeError,
        f"Rose needs dense gradients, the gradient of {LAST} has layout torch.sparse_coo",
    ),
    "complex": (lambda: with_grad((2,), torch.complex64), {}, TypeError, f"{LAST} has dtype complex64; {FLOATING}"),
    "integer": (lambda: with_grad((2,), torch.int64), {}, TypeError, f"{LAST} has dtype int64; {FLOATING}"),
    "8 bits": (
        lambda: with_grad((2,), torch.float8_e4m3fn),
        {},
        TypeError,
        f"{LAST} has dtype float8_e4m3fn; {FLOATING}",
    ),
    "a gradient of another shape": (
        with_larger_grad,
        {},
        ValueError,
        f"the gradient of {LAST} has shape (3, 3), {LAST} has (2, 3); they must be equal",
    ),
    "an expanded parameter": (
        expanded,
        {},
        RuntimeError,
        f"{LAST} has elements that share memory, so it cannot be updated in place",
    ),
    "a generator of another device": (
        lambda: with_grad((2,), torch.bfloat16, "meta"),
        {"bf16_sr": torch.Generator()},
        ValueError,
        f"bf16_sr is a generator on device cpu, {LAST} is on meta",
    ),
}


@pytest.mark.parametrize(("param", "options", "error", "text"), INVALID_PARAMS.values(), ids=INVALID_PARAMS)
def test_an_invalid_last_parameter_stops_the_whole_step(
    param: Callable[[], nn.Parameter], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose([*valid_groups(), {"params": [param()], **options}], lr=0.1)
    with refuses(optimizer, error, text):
        optimizer.step()


@bad_options
def test_an_invalid_option_of_the_last_group_stops_the_whole_step(
    bad: dict[str, Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose(valid_groups(), lr=0.1)
    optimizer.param_groups[-1].update(bad)
    with refuses(optimizer, error, text):
        optimizer.step()


INVALID_LATER: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a tensor lr of NaN": (
        {"lr": torch.tensor(float("nan"))},
        ValueError,
        "lr must be a finite number >= 0, got tensor(nan)",
    ),
    "a tensor lr of two elements": (
        {"lr": torch.tensor([0.5, 0.25])},
        TypeError,
        "lr must be a finite number >= 0, got tensor([0.5000, 0.2500])",
    ),
    "an invalid max_lr": (
        {"wd_schedule": True, "max_lr": -1.0},
        ValueError,
        "max_lr must be a finite number >= 0, got -1.0",
    ),
    "two sources of noise": ({"sr_seed": 1, "bf16_sr": torch.Generator()}, ValueError, f"sr_seed=1 {TWO_SOURCES}"),
}


@pytest.mark.parametrize(("bad", "error", "text"), INVALID_LATER.values(), ids=INVALID_LATER)
def test_an_entry_of_a_group_that_becomes_invalid_stops_the_whole_step(
    bad: dict[str, Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose(valid_groups(), lr=0.1)
    optimizer.param_groups[-1].update(bad)
    with refuses(optimizer, error, text):
        optimizer.step()


@pytest.mark.parametrize(("step", "error"), [(-1, ValueError), (2**32, ValueError), ("x", TypeError)])
def test_an_invalid_step_count_stops_the_whole_step(step: Any, error: type[Exception]) -> None:
    optimizer = Rose([*valid_groups(), {"params": [with_grad((2,), torch.bfloat16)], "sr_seed": 0}], lr=0.1)
    optimizer.param_groups[-1]["step"] = step
    with refuses(optimizer, error, f"step must be an integer in [0, 2**32), got {step!r}"):
        optimizer.step()


def test_a_closure_that_raises_changes_nothing() -> None:
    def closure() -> float:
        raise RuntimeError("no loss")

    optimizer = Rose(valid_groups(), lr=0.1)
    with refuses(optimizer, RuntimeError, "no loss"):
        optimizer.step(closure)


@pytest.mark.parametrize("key", ["lr", "step"])
def test_a_group_that_lacks_an_entry_stops_the_whole_step(key: str) -> None:
    optimizer = Rose(valid_groups(), lr=0.1)
    del optimizer.param_groups[1][key]
    with refuses(optimizer, ValueError, f"group 1 lacks {key}"):
        optimizer.step()


@pytest.mark.parametrize(("closure", "kind"), [(torch.ones(()), "Tensor"), (3, "int")])
@pytest.mark.parametrize("optimizer_of", [lambda p: Rose(p, lr=0.1), lambda p: Optimizer(p, SGD(), lr=0.1)])
def test_a_loss_instead_of_a_closure_stops_the_whole_step(optimizer_of: Any, closure: Any, kind: str) -> None:
    optimizer = optimizer_of([with_grad((2, 3))])
    with refuses(optimizer, TypeError, f"closure must be None or callable, got {kind}"):
        optimizer.step(closure)


@bad_options
def test_invalid_options_raise_in_the_constructor(bad: dict[str, Any], error: type[Exception], text: str) -> None:
    with raises(error, text):
        Rose([parameter(normal(0, (2,)))], **({"lr": 0.1} | bad))


@bad_options
def test_an_invalid_option_of_an_added_group_adds_no_group(
    bad: dict[str, Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose(valid_groups(), lr=0.1)
    with refuses(optimizer, error, text):
        optimizer.add_param_group({"params": [parameter(normal(0, (2,)))], **bad})


def test_two_sources_of_noise_raise() -> None:
    with raises(ValueError, f"sr_seed=0 {TWO_SOURCES}"):
        Rose([parameter(normal(0, (2,)))], lr=0.1, bf16_sr=torch.Generator(), sr_seed=0)


def test_adding_a_list_instead_of_a_group_raises() -> None:
    optimizer = Rose(valid_groups(), lr=0.1)
    with refuses(optimizer, TypeError, "param_group must be a dict, got list"):
        optimizer.add_param_group([parameter(normal(0, (2,)))])  # type: ignore[arg-type]


def test_a_parameter_in_two_groups_raises() -> None:
    optimizer = Rose(valid_groups(), lr=0.1)
    with refuses(optimizer, ValueError, "some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": optimizer.param_groups[0]["params"]})


def test_errors_have_the_name_of_a_named_parameter() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 3])).sum().backward()
    optimizer = Rose(embedding.named_parameters(), lr=0.1)
    text = "Rose needs dense gradients, the gradient of parameter 'weight' has layout torch.sparse_coo"
    with refuses(optimizer, RuntimeError, text):
        optimizer.step()


def test_a_tensor_of_inference_mode_stops_the_whole_step() -> None:
    with torch.inference_mode():
        last = nn.Parameter(torch.ones(2, 3), requires_grad=False)
    optimizer = Rose([with_grad((2, 3)), last], lr=0.1)
    with torch.inference_mode():
        last.grad = torch.ones(2, 3)
    text = "parameter 1 of group 0 was made in inference mode, so it cannot be updated in place"
    with refuses(optimizer, RuntimeError, text):
        optimizer.step()
