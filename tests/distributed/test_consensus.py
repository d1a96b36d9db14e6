"""An error on one rank, or a difference between ranks, stops the step on all ranks."""

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from rose_torch import Rose
from tests.bits import assert_same_bits
from tests.distributed.layouts import COLUMNS, LAYOUTS, Layout, mesh_of, plain_params, shard_of_ones
from tests.distributed.worlds import World


def error_of_step(optimizer: Rose) -> str:
    """Return the text of the error that a step raises, and assert that no parameter is changed."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    before = [param.detach().to_local().clone() for param in params]
    try:
        optimizer.step()
    except (TypeError, ValueError, RuntimeError) as error:
        for param, values in zip(params, before, strict=True):
            assert_same_bits(param.detach().to_local(), values)
        assert optimizer.param_groups[0]["step"] == 0
        return str(error)
    raise AssertionError("the step did not raise")


def error_with_an_invalid_lr_on_rank_2(rank: int) -> str:
    optimizer = Rose([shard_of_ones(), shard_of_ones(COLUMNS)], lr=0.1)
    optimizer.param_groups[0]["lr"] = -1.0 if rank == 2 else 0.1
    return error_of_step(optimizer)


def test_an_error_on_one_rank_stops_the_step_on_all_ranks(four: World) -> None:
    others = "another rank has refused this step, so no rank takes it; the error there says why"
    errors = four.run(error_with_an_invalid_lr_on_rank_2)
    assert errors == [others, others, "lr must be a finite number >= 0, got -1.0", others]


def error_without_a_gradient_on_rank_1(rank: int, layout: Layout) -> str:
    params = [shard_of_ones(layout), shard_of_ones(layout)]
    if rank == 1:
        params[1].grad = None
    return error_of_step(Rose(params, lr=0.1))


@pytest.mark.parametrize("name", ["4: rows", "2x2: replicas of rows", "2x2: rows, columns"])
def test_a_gradient_on_some_ranks_only_raises_on_all_ranks(four: World, name: str) -> None:
    text = "parameter 1 of group 0 has a gradient on some ranks only; a step needs the same on every rank"
    assert four.run(error_without_a_gradient_on_rank_1, LAYOUTS[4][name]) == [text] * 4


def error_with_another_lr_on_rank_3(rank: int) -> str:
    return error_of_step(Rose([shard_of_ones()], lr=0.1 if rank < 3 else 0.2))


def test_options_that_differ_between_ranks_raise_on_all_ranks(four: World) -> None:
    text = "parameter 0 of group 0 has other options on other ranks; a step needs the same on every rank"
    assert four.run(error_with_another_lr_on_rank_3) == [text] * 4


def error_with_another_order_on_rank_1(rank: int, kind: str) -> str:
    first = shard_of_ones(dtype=torch.bfloat16)
    other = plain_params(0)[0] if kind == "plain" else shard_of_ones(shape=(12, 4), dtype=torch.bfloat16)
    params = [first, other] if rank != 1 else [other, first]
    optimizer = Rose(params if kind != "fewer" or rank != 1 else [first], lr=0.1, sr_seed=0)
    try:
        optimizer.step()
    except RuntimeError as error:
        assert optimizer.param_groups[0]["step"] == 0
        return str(error)
    raise AssertionError("the step did not raise")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            "sharded",
            "parameter 0 of group 0 has another name, shape, dtype or placement on other ranks; a step needs the same "
            "DTensors in the same order on every rank",
        ),
        ("plain", "has other options on other ranks; a step needs the same on every rank"),
        ("fewer", "DTensors of a mesh whose other ranks have from 1 to 2; a step needs the same on every rank"),
    ],
)
def test_dtensors_in_another_order_on_a_rank_raise_on_all_ranks(four: World, kind: str, text: str) -> None:
    """Also if only the index of the noise differs."""
    assert all(error.endswith(text) for error in four.run(error_with_another_order_on_rank_1, kind))


def error_on_two_meshes(rank: int) -> str:
    """Return the error of a step whose options differ on a small mesh. Its ranks are in the large mesh, too."""
    mesh = [DeviceMesh("cpu", ranks) for ranks in ([0, 1], [2, 3])][rank // 2]  # every rank creates every process group
    param = nn.Parameter(distribute_tensor(torch.ones(4, 2), mesh, [Shard(0)], src_data_rank=None))
    param.grad = distribute_tensor(torch.ones(4, 2), mesh, [Shard(0)], src_data_rank=None)
    optimizer = Rose([{"params": [shard_of_ones()]}, {"params": [param], "lr": 0.1 + (rank == 3)}], lr=0.1)
    return error_of_step(optimizer)


def test_an_error_on_one_mesh_stops_the_step_on_all_meshes(four: World) -> None:
    first, second, *errors = four.run(error_on_two_meshes)
    assert first == second == "another rank has refused this step, so no rank takes it; the error there says why"
    text = "parameter 0 of group 1 has other options on other ranks; a step needs the same on every rank"
    assert errors == [text] * 2


def errors_of_layouts(_: int) -> list[str]:
    mesh = mesh_of((4,))
    errors = []
    partial = nn.Parameter(DTensor.from_local(torch.ones(2), mesh, [Partial()]))
    partial.grad = DTensor.from_local(torch.ones(2), mesh, [Partial()])
    errors.append(error_of_step(Rose([partial], lr=0.1)))
    uneven = nn.Parameter(DTensor.from_local(torch.ones(2, 2), mesh, [Shard(0)], shape=(6, 2), stride=(2, 1)))
    uneven.grad = DTensor.from_local(torch.ones(2, 2), mesh, [Shard(0)], shape=(6, 2), stride=(2, 1))
    errors.append(error_of_step(Rose([uneven], lr=0.1)))
    moved = shard_of_ones()
    moved.grad = moved.grad.redistribute(placements=[Replicate()])
    errors.append(error_of_step(Rose([moved], lr=0.1)))
    return errors


def test_unsupported_layouts_raise(four: World) -> None:
    for placement, uneven, moved in four.run(errors_of_layouts):
        assert placement == "parameter 0 of group 0 has the placement Partial(sum); allowed are Replicate and Shard"
        assert "has a local shard of shape (2, 2), where its placements (Shard(dim=0),) say " in uneven or (
            uneven.startswith("another rank has refused")
        )
        assert "they must be equal, except that a gradient may be Partial" in moved
