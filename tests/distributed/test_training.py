"""Training by FSDP2, HSDP and tensor parallelism has the bits of one process, and replicas of DDP are equal."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Partial, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module

from rose_torch import Rose
from tests.bits import assert_same_bits
from tests.distributed.layouts import mesh_of
from tests.distributed.models import Block, assert_same_model, fsdp, model
from tests.distributed.worlds import World


def train(_: int, mesh: tuple[int, ...], dtype: torch.dtype) -> None:
    """Train by FSDP2, and compare with one process that has the same gradients."""
    whole, sharded = model(dtype), fsdp(mesh)(model(dtype))
    optimizers = [Rose(m.parameters(), lr=0.01, wd_schedule=True, sr_seed=3, fused=False) for m in (whole, sharded)]
    for step in range(2):
        sharded.zero_grad()
        sharded(torch.full((3, 6), float(step + 1), dtype=dtype)).square().sum().backward()
        for param, shard_ in zip(whole.parameters(), sharded.parameters(), strict=True):
            param.grad = shard_.grad.full_tensor()  # type: ignore[union-attr]
        for optimizer in optimizers:
            optimizer.step()
    assert_same_model(sharded, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mesh", [(4,), (2, 2)], ids=["FSDP2", "HSDP"])
def test_fully_shard_trains_like_one_process(four: World, mesh: tuple[int, ...], dtype: torch.dtype) -> None:
    four.run(train, mesh, dtype)


def train_tensor_parallel(_: int) -> None:
    """Train by tensor and sequence parallelism, and compare with one process that has the same gradients."""
    plan = {
        "norm": SequenceParallel(),
        "up": ColwiseParallel(input_layouts=Shard(1)),
        "down": RowwiseParallel(output_layouts=Shard(1), use_local_output=False),
    }
    torch.manual_seed(0)
    whole, sharded = Block(), parallelize_module(Block(), mesh_of((2,)), plan)
    for param, shard_ in zip(whole.parameters(), sharded.parameters(), strict=True):
        shard_.data.copy_(distribute_tensor(param.detach(), shard_.device_mesh, shard_.placements, src_data_rank=None))
    optimizers = [Rose(m.parameters(), lr=0.01, fused=False) for m in (whole, sharded)]
    x = distribute_tensor(torch.randn(2, 4, 6), mesh_of((2,)), [Shard(1)], src_data_rank=None)
    sharded(x).to_local().square().sum().backward()
    assert any(isinstance(placement, Partial) for placement in sharded.norm.weight.grad.placements)
    for param, shard_ in zip(whole.parameters(), sharded.parameters(), strict=True):
        param.grad = shard_.grad.full_tensor()
    for optimizer in optimizers:
        optimizer.step()
    assert_same_model(sharded, whole)


def test_tensor_parallelism_with_partial_gradients_trains_like_one_process(two: World) -> None:
    two.run(train_tensor_parallel)


def train_fsdp_over_tensor_parallel(_: int, rows: int) -> None:
    """Train by FSDP2 over tensor parallelism, and compare with one process that has the same gradients."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensors"))
    torch.manual_seed(0)
    whole, sharded = (nn.Sequential(nn.Linear(6, rows)).bfloat16() for _ in range(2))
    sharded.load_state_dict(whole.state_dict())
    parallelize_module(sharded, mesh["tensors"], {"0": ColwiseParallel()})
    fully_shard(sharded, mesh=mesh["data"])
    optimizers = [Rose(m.parameters(), lr=0.01, sr_seed=3, fused=False) for m in (whole, sharded)]
    for _step in range(2):
        optimizers[1].zero_grad()
        sharded(torch.ones(3, 6, dtype=torch.bfloat16)).square().sum().backward()
        for param, shard_ in zip(whole.parameters(), sharded.parameters(), strict=True):
            param.grad = shard_.grad.full_tensor()
        for optimizer in optimizers:
            optimizer.step()
    for param, shard_ in zip(whole.parameters(), sharded.parameters(), strict=True):
        assert_same_bits(shard_.full_tensor().detach(), param.detach())


@pytest.mark.parametrize("rows", [8, 7, 5, 3])
def test_fully_shard_over_tensor_parallelism_trains_like_one_process(four: World, rows: int) -> None:
    four.run(train_fsdp_over_tensor_parallel, rows)


def train_replica(rank: int, sr_seed: int | None) -> Tensor:
    torch.manual_seed(rank)
    module = nn.Linear(64, 64, dtype=torch.bfloat16)
    for param in module.parameters():
        nn.init.ones_(param)
    replica = nn.parallel.DistributedDataParallel(module)
    optimizer = Rose(replica.parameters(), lr=1e-3, sr_seed=sr_seed, fused=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            optimizer.zero_grad()
            replica(torch.randn(4, 64, dtype=torch.bfloat16)).square().sum().backward()
            optimizer.step()
    return module.weight.detach().float()


def test_replicas_of_ddp_are_equal_with_a_seed_and_drift_without(four: World) -> None:
    first, *others = four.run(train_replica, 0)
    for other in others:
        assert_same_bits(other, first)
    first, *others = four.run(train_replica, None)
    assert all((other != first).any() for other in others)
