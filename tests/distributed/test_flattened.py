"""Flattened parameters of a framework raise, since their slices are unknown."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

from rose_torch import Rose
from tests.bits import assert_same_bits
from tests.distributed.worlds import World

FSDP1 = (
    " is flattened by FullyShardedDataParallel (FSDP1), which hides the slices that Rose is made of; allowed are plain "
    "parameters and DTensors, as torch.distributed.fsdp.fully_shard (FSDP2) makes them"
)
ZERO = FSDP1.replace("FullyShardedDataParallel (FSDP1)", "DeepSpeed ZeRO stage 3")


def error_of(call: Callable[[], Any]) -> str:
    """Return the text of the error that a call raises."""
    try:
        call()
    except ValueError as error:
        return str(error)
    raise AssertionError("the call did not raise")


def errors_of_construction(_: int) -> list[str]:
    kinds: list[dict[str, Any]] = [
        {},
        {"use_orig_params": True},
        {"use_orig_params": True, "sharding_strategy": ShardingStrategy.NO_SHARD},
    ]
    modules = [FullyShardedDataParallel(nn.Linear(4, 3), device_id=torch.device("cpu"), **kind) for kind in kinds]
    return [error_of(functools.partial(Rose, module.parameters(), lr=0.1)) for module in modules]


def error_of_a_step(_: int) -> str:
    module = nn.Linear(4, 3)
    optimizer = Rose(module.parameters(), lr=0.1, fused=False)
    replica = FullyShardedDataParallel(module, device_id=torch.device("cpu"), use_orig_params=True)
    replica(torch.ones(2, 4)).sum().backward()
    before = [param.detach().clone() for param in module.parameters()]
    text = error_of(optimizer.step)
    for param, values in zip(module.parameters(), before, strict=True):
        assert_same_bits(param.detach(), values)
    return text


def test_fsdp1_raises_with_flat_parameters_and_with_views_of_them(two: World) -> None:
    assert two.run(errors_of_construction) == [["parameter 0 of group 0" + FSDP1] * 3] * 2


def test_fsdp1_applied_after_the_optimizer_raises_in_the_step(two: World) -> None:
    assert two.run(error_of_a_step) == ["parameter 0 of group 0" + FSDP1] * 2


def test_parameters_of_zero_stage_3_raise_and_do_not_change_the_optimizer() -> None:
    flat = nn.Parameter(torch.empty(0))
    flat.ds_id = 0  # type: ignore[attr-defined]
    optimizer = Rose([("bias", nn.Parameter(torch.ones(2)))], lr=0.1)
    assert error_of(lambda: optimizer.add_param_group({"params": [("weight", flat)]})) == "parameter 'weight'" + ZERO
    assert len(optimizer.param_groups) == 1
