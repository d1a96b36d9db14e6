"""Behaviour that torch expects of every optimizer: hooks, lazy modules, failed groups and common options."""

from typing import Any

import pytest
import torch
from torch import nn

from rose_torch import Rose, attach
from tests.adapters.models import normal, parameter
from tests.adapters.refusals import raises
from tests.bits import assert_same_bits

A, B = normal(0, (3, 4)), normal(1, (3, 4))


def test_post_hooks_of_state_dict_run_last_and_see_plain_values() -> None:
    generator = torch.Generator()
    optimizer = Rose([parameter(A, B)], lr=0.1, bf16_sr=generator, wd_schedule=True)
    seen: list[dict[str, Any]] = []

    def remember(_: Any, state: dict[str, Any]) -> None:
        seen.append(state["param_groups"][0].copy())

    def replace(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        return {"step": state["param_groups"][0]["step"]}

    optimizer.register_state_dict_post_hook(remember)
    optimizer.register_state_dict_post_hook(replace)
    assert optimizer.state_dict() == {"step": 0}
    assert seen[0]["bf16_sr"] is True
    assert seen[0]["initial_lr"] is None
    assert "sr_generator" in seen[0]
    assert optimizer.state_dict() == {"step": 0}


def test_a_hook_may_change_the_state() -> None:
    optimizer = Rose([parameter(A, B)], lr=0.1)

    def drop(_: Any, state: dict[str, Any]) -> None:
        for group in state["param_groups"]:
            del group["compute_dtype"]

    handle = optimizer.register_state_dict_post_hook(drop)
    assert "compute_dtype" not in optimizer.state_dict()["param_groups"][0]
    handle.remove()
    assert "compute_dtype" in optimizer.state_dict()["param_groups"][0]


@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
def test_a_group_may_set_fused(fused: bool | None) -> None:
    params = [parameter(A, B), parameter(B, A)]
    optimizer = Rose([{"params": params[:1], "fused": False}, {"params": params[1:], "fused": fused}], lr=0.1)
    optimizer.step()
    assert optimizer.param_groups[0]["fused"] is False
    plain = [parameter(A, B), parameter(B, A)]
    Rose(plain, lr=0.1).step()
    for param, expected in zip(params, plain, strict=True):
        assert_same_bits(param, expected)


def test_an_invalid_fused_of_a_group_raises() -> None:
    with raises(TypeError, "fused must be True, False or None, got 'yes'"):
        Rose([{"params": [parameter(A)], "fused": "yes"}], lr=0.1)
    optimizer = Rose([parameter(A, B)], lr=0.1)
    optimizer.param_groups[0]["fused"] = 1
    with raises(TypeError, "fused must be True, False or None, got 1"):
        optimizer.step()


OF_TORCH = {
    "foreach": "a step joins parameters by itself, and fused=True asks for compiled kernels",
    "capturable": "a CUDA graph would repeat one step's lr, decay and noise",
    "differentiable": "autograd does not follow a step",
}


@pytest.mark.parametrize("value", [None, False])
@pytest.mark.parametrize("option", OF_TORCH)
def test_options_of_other_optimizers_may_be_none_or_false(option: str, value: bool | None) -> None:
    param = parameter(A, B)
    optimizer = Rose([param], lr=0.1, **{option: value})
    optimizer.add_param_group({"params": [parameter(B)], option: value})
    assert option not in optimizer.defaults


@pytest.mark.parametrize(("option", "reason"), OF_TORCH.items(), ids=OF_TORCH)
def test_options_of_other_optimizers_that_are_true_raise_with_a_reason(option: str, reason: str) -> None:
    text = f"{option} must be None or False, got True; {reason}"
    with raises(ValueError, text):
        Rose([parameter(A)], lr=0.1, **{option: True})
    optimizer = Rose([parameter(A)], lr=0.1)
    with raises(ValueError, text):
        optimizer.add_param_group({"params": [parameter(B)], option: True})
    assert len(optimizer.param_groups) == 1


def test_a_step_skips_lazy_parameters_without_a_shape() -> None:
    """SGD skips them, too."""
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d())
    optimizer = Rose(model.parameters(), lr=0.1)
    optimizer.step()
    model(torch.randn(3, 5)).square().sum().backward()
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert model[0].weight.shape == (4, 5)
    assert not torch.equal(model[0].weight, before)


def test_lazy_parameters_may_be_attached() -> None:
    model = nn.Sequential(nn.LazyLinear(4))
    optimizer = attach(model, lr=0.1)
    model(torch.randn(3, 5)).square().sum().backward()
    optimizer.step()
    assert "used and freed" not in repr(model[0].weight.grad)
    assert optimizer.param_groups[0]["step"] == 1


INVALID_GROUPS: dict[str, Any] = {
    "a parameter twice": lambda param: {"params": [param]},
    "a float": lambda _: {"params": [1.0]},
    "a tensor that is not a leaf": lambda param: {"params": [param * 2]},
    "a flattened parameter": lambda _: {"params": [flattened()]},
    "an invalid option": lambda _: {"params": [parameter(B)], "lr": -1.0},
    "no parameters": lambda _: {},
}


def flattened() -> nn.Parameter:
    param = parameter(B)
    param._fsdp_flattened = True  # type: ignore[attr-defined]
    return param


@pytest.mark.parametrize("bad", INVALID_GROUPS.values(), ids=INVALID_GROUPS)
def test_a_group_that_raises_is_not_added(bad: Any) -> None:
    param = parameter(A, B)
    optimizer = Rose([param], lr=0.1)
    with pytest.raises((TypeError, ValueError, KeyError)):
        optimizer.add_param_group(bad(param))
    assert len(optimizer.param_groups) == 1
    optimizer.step()


@pytest.mark.parametrize("shape", [(), (1,)])
def test_lr_may_be_a_tensor_of_one_element(shape: tuple[int, ...]) -> None:
    param, plain = parameter(A, B), parameter(A, B)
    Rose([param], lr=torch.full(shape, 0.5)).step()
    Rose([plain], lr=0.5).step()
    assert_same_bits(param, plain)
