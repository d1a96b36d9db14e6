"""The state of rose_torch in rose-opt and in torch's distributed checkpoints."""

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import rose_opt
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim.lr_scheduler import LambdaLR

from rose_torch import Rose, upstream_state_dict
from tests.adapters.models import assert_same_model, core_run, grads, model, parameter, tensor
from tests.adapters.refusals import raises, warns

Params = dict[str, nn.Parameter]
OPTIONS: dict[str, Any] = {"weight_decay": 0.125, "wd_schedule": True, "stabilize": False, "compute_dtype": "fp32"}


def new_params() -> Params:
    """Return the bfloat16 model without its empty parameter, for which upstream raises."""
    return {name: parameter(x) for name, x in model("bfloat16").items() if x.size}


def run(optimizer: torch.optim.Optimizer, params: Params, steps: range) -> None:
    for step in steps:
        for name, param in params.items():
            param.grad = tensor(grads(step, "bfloat16")[name])
        optimizer.param_groups[0]["lr"] = 0.25 / (1 + step)
        torch.manual_seed(step)
        optimizer.step()


def run_by_two(
    first: Callable[..., Any], second: Callable[..., Any], translate: Callable[[dict[str, Any]], dict[str, Any]]
) -> Params:
    """Return the parameters after a run in which a second optimizer continues with the state of the first."""
    params = new_params()
    optimizer = first(params.values(), lr=0.25, **OPTIONS)
    run(optimizer, params, range(2))
    other = second(params.values(), lr=1.0)
    other.load_state_dict(translate(optimizer.state_dict()))
    run(other, params, range(2, 5))
    return params


@pytest.mark.parametrize("lr_type", [float, torch.tensor], ids=["float", "tensor"])
def test_a_run_continued_from_upstreams_state_has_the_bits_of_upstream(lr_type: Callable[[float], Any]) -> None:
    params = run_by_two(rose_opt.Rose, lambda held, lr: Rose(held, lr_type(lr)), lambda state: state)
    assert_same_model(params, run_by_two(rose_opt.Rose, rose_opt.Rose, lambda state: state), "rose_torch")


def test_a_run_continued_by_upstream_has_the_bits_of_rose_torch() -> None:
    params = run_by_two(Rose, rose_opt.Rose, upstream_state_dict)
    assert_same_model(params, run_by_two(Rose, Rose, lambda state: state), "rose_torch")


def test_options_missing_in_upstreams_state_keep_their_values() -> None:
    state = rose_opt.Rose(new_params().values(), lr=0.5, compute_dtype=torch.float32).state_dict()
    optimizer = Rose(new_params().values(), lr=0.25, maximize=True, sr_seed=3)
    optimizer.load_state_dict(state)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["compute_dtype"]) == (0.5, "fp32")
    assert (group["maximize"], group["sr_seed"], group["step"]) == (True, 3, 0)


def test_loading_upstreams_state_keeps_the_generator() -> None:
    generator = torch.Generator()
    optimizer = Rose(new_params().values(), lr=0.25, bf16_sr=generator)
    optimizer.load_state_dict(rose_opt.Rose(new_params().values(), lr=0.5).state_dict())
    assert optimizer.param_groups[0]["bf16_sr"] is generator
    optimizer.load_state_dict(rose_opt.Rose(new_params().values(), lr=0.5, bf16_sr=False).state_dict())
    assert optimizer.param_groups[0]["bf16_sr"] is False


def test_upstream_state_dict_has_upstreams_keys_and_does_not_change_its_argument() -> None:
    optimizers = [rose(new_params().values(), lr=0.25, **OPTIONS) for rose in (Rose, rose_opt.Rose)]
    ours, theirs = (optimizer.state_dict() for optimizer in optimizers)
    before = json.dumps(ours)
    assert upstream_state_dict(ours) == theirs
    assert json.dumps(ours) == before


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp64", torch.float64), ("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16), (None, None)],
)
def test_compute_dtypes_are_converted_for_upstream(name: str | None, dtype: torch.dtype | None) -> None:
    state = Rose(new_params().values(), lr=0.25, bf16_sr=False, compute_dtype=name).state_dict()
    assert upstream_state_dict(state)["param_groups"][0]["compute_dtype"] is dtype


@pytest.mark.parametrize("noise", [{"sr_seed": 0}, {"bf16_sr": torch.Generator()}], ids=["sr_seed", "a generator"])
def test_noise_that_upstream_cannot_continue_causes_a_warning(noise: dict[str, Any]) -> None:
    state = Rose(new_params().values(), lr=0.25, **noise).state_dict()
    with warns("rose_opt.Rose will not continue the rounding noise of this run", __file__):
        upstream_state_dict(state)


def test_a_seed_without_stochastic_rounding_causes_no_warning() -> None:
    upstream_state_dict(Rose(new_params().values(), lr=0.25, sr_seed=0, bf16_sr=False).state_dict())


def test_maximize_raises_for_upstream() -> None:
    state = Rose(new_params().values(), lr=0.25, maximize=True).state_dict()
    with raises(ValueError, "maximize must be False in every group for rose_opt.Rose, got True"):
        upstream_state_dict(state)


class Model(nn.Module):
    """A module with the parameters of the bfloat16 model."""

    def __init__(self) -> None:
        super().__init__()
        for name, x in model("bfloat16").items():
            self.register_parameter(name, parameter(x))


def run_of_a_module(optimizer: Rose, module: nn.Module, schedule: LambdaLR | None, steps: range) -> None:
    for step in steps:
        for name, param in module.named_parameters():
            param.grad = tensor(grads(step, "bfloat16")[name])
        optimizer.step()
        optimizer.zero_grad()
        if schedule is not None:
            schedule.step()


@pytest.mark.parametrize("lr_type", [float, torch.tensor], ids=["float", "tensor"])
def test_reading_the_state_before_the_first_step_changes_nothing(lr_type: Callable[[float], Any]) -> None:
    module = Model()
    optimizer = Rose(module.parameters(), lr_type(0.25), weight_decay=0.125, wd_schedule=True, sr_seed=0)
    get_optimizer_state_dict(module, optimizer)
    assert optimizer.param_groups[0].get("initial_lr") is None
    assert optimizer.param_groups[0]["step"] == 0
    schedule = LambdaLR(optimizer, lambda step: 2.0**-step)
    rates = [0.25 * 2.0**-step for step in range(4)]
    for step in range(4):
        assert float(optimizer.param_groups[0]["lr"]) == rates[step]
        get_optimizer_state_dict(module, optimizer)
        run_of_a_module(optimizer, module, schedule, range(step, step + 1))
    expected = core_run(rates, weight_decay=0.125, lr_reference=0.25)
    assert_same_model(dict(module.named_parameters()), expected, "rose_torch")


NOISE: dict[str, Callable[[], dict[str, Any]]] = {
    "sr_seed": lambda: {"sr_seed": 3},
    "a generator": lambda: {"bf16_sr": torch.Generator().manual_seed(3)},
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("saved_after", [0, 2])
def test_a_run_resumed_from_a_distributed_checkpoint_has_the_same_bits(
    saved_after: int, noise: Callable[[], dict[str, Any]]
) -> None:
    module = Model()
    optimizer = Rose(module.parameters(), lr=0.25, **noise())
    run_of_a_module(optimizer, module, None, range(saved_after))
    checkpoint = pickle.dumps((module.state_dict(), get_optimizer_state_dict(module, optimizer)))
    run_of_a_module(optimizer, module, None, range(saved_after, 4))
    other = Model()
    resumed = Rose(other.parameters(), lr=1.0, **noise())
    weights, state = pickle.loads(checkpoint)
    other.load_state_dict(weights)
    set_optimizer_state_dict(other, resumed, state)
    run_of_a_module(resumed, other, None, range(saved_after, 4))
    assert_same_model(dict(other.named_parameters()), dict(module.named_parameters()), "rose_torch")
