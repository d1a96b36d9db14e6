"""Parameters that a framework holds flattened are refused: their slices are not to be seen."""

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


def refusal(make: Callable[[], Any]) -> str:
    try:
        make()
    except ValueError as error:
        return str(error)
    raise AssertionError("it was taken")


def refused_by_construction(_: int) -> list[str]:
    kinds: list[dict[str, Any]] = [
        {},
        {"use_orig_params": True},
        {"use_orig_params": True, "sharding_strategy": ShardingStrategy.NO_SHARD},
    ]
    modules = [FullyShardedDataParallel(nn.Linear(4, 3), device_id=torch.device("cpu"), **kind) for kind in kinds]
    return [refusal(functools.partial(Rose, module.parameters(), lr=0.1)) for module in modules]


def refused_by_a_step(_: int) -> str:
    module = nn.Linear(4, 3)
    optimizer = Rose(module.parameters(), lr=0.1, fused=False)
    replica = FullyShardedDataParallel(module, device_id=torch.device("cpu"), use_orig_params=True)
    replica(torch.ones(2, 4)).sum().backward()
    before = [param.detach().clone() for param in module.parameters()]
    text = refusal(optimizer.step)
    for param, values in zip(module.parameters(), before, strict=True):
        assert_same_bits(param.detach(), values)
    return text


def test_fsdp1_is_refused_with_flat_parameters_and_with_views_of_them(two: World) -> None:
    assert two.run(refused_by_construction) == [["parameter 0 of group 0" + FSDP1] * 3] * 2


def test_fsdp1_that_comes_after_the_optimizer_is_refused_by_the_step(two: World) -> None:
    assert two.run(refused_by_a_step) == ["parameter 0 of group 0" + FSDP1] * 2


def test_parameters_of_zero_stage_3_are_refused_and_the_optimizer_stays_as_it_is() -> None:
    flat = nn.Parameter(torch.empty(0))
    flat.ds_id = 0  # type: ignore[attr-defined]
    optimizer = Rose([("bias", nn.Parameter(torch.ones(2)))], lr=0.1)
    assert refusal(lambda: optimizer.add_param_group({"params": [("weight", flat)]})) == "parameter 'weight'" + ZERO
    assert len(optimizer.param_groups) == 1
