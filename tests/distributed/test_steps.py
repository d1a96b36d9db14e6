"""What crosses between ranks in a step, and what a step refuses on all of them."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

from rose_torch import Rose
from rose_torch.distributed import collectives, consensus
from rose_torch.distributed.shards import _positions
from tests.bits import assert_same_bits
from tests.distributed.layouts import LAYOUTS, Layout, mesh_of, shard
from tests.distributed.worlds import World

ROWS = Layout((4,), (Shard(0),))
COLUMNS = Layout((4,), (Shard(1),))


class Block(nn.Module):
    """A normalised layer of two linear ones, with parameters of ranks 1 and 2."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum with the input."""
        return x + self.down(torch.relu(self.up(self.norm(x))))


def model(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return the same model on every rank."""
    torch.manual_seed(0)
    return nn.Sequential(*[Block() for _ in range(17)]).to(dtype)


def with_gradients(module: nn.Module) -> nn.Module:
    """Give every parameter a gradient that all ranks know, sharded as the parameter is."""
    generator = torch.Generator().manual_seed(1)
    for param in module.parameters():
        grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        if isinstance(param, DTensor):
            grad = distribute_tensor(grad, param.device_mesh, param.placements, src_data_rank=None)
        param.grad = grad
    return module


def assert_same_model(sharded: nn.Module, whole: nn.Module) -> None:
    """Compare what this rank has of a model with the whole."""
    for (name, param), other in zip(sharded.named_parameters(), whole.parameters(), strict=True):
        expected = distribute_tensor(other.detach(), param.device_mesh, param.placements, src_data_rank=None)
        assert_same_bits(param.to_local().detach(), expected.to_local(), what=name)


def fsdp(mesh: tuple[int, ...]) -> Callable[[nn.Module], nn.Module]:
    """Return what shards each block of a model by FSDP2."""

    def apply(module: nn.Module) -> nn.Module:
        for block in module:
            fully_shard(block, mesh=mesh_of(mesh))
        return fully_shard(module, mesh=mesh_of(mesh))

    return apply


def count_collectives(_: int, mesh: tuple[int, ...]) -> tuple[int, int]:
    """Return how many collectives a step of 102 parameters makes, and how many bytes each rank sends."""
    module = with_gradients(fsdp(mesh)(model(torch.bfloat16)))
    optimizer = Rose(module.parameters(), lr=0.01, sr_seed=0)
    sent = []
    all_reduce = collectives.all_reduce_in_place

    def counted(kind: Any, values: Tensor, group: Any) -> None:
        sent.append(values.nbytes)
        all_reduce(kind, values, group)

    with pytest.MonkeyPatch.context() as patch, CommDebugMode() as all_of_them:
        for asking in (consensus, collectives):
            patch.setattr(asking, "all_reduce_in_place", counted)
        optimizer.step()
    assert len(list(module.parameters())) == 102
    return all_of_them.get_total_counts(), sum(sent)


@pytest.mark.parametrize(("mesh", "most"), [((4,), 4), ((2, 2), 5)], ids=["FSDP2", "HSDP"])
def test_a_step_of_102_parameters_makes_few_small_collectives(four: World, mesh: tuple[int, ...], most: int) -> None:
    for count, sent in four.run(count_collectives, mesh):
        assert count == most
        # Of the agreement 3 words for each axis of the mesh; 2 extrema each, and 2 times 2 folds for each matrix.
        assert sent == len(mesh) * 3 * 8 + 102 * 2 * 8 + 34 * 2 * 2 * 8


def train(_: int, mesh: tuple[int, ...], dtype: torch.dtype) -> None:
    """Train by FSDP2 and compare with one process that has its gradients."""
    whole, sharded = model(dtype), fsdp(mesh)(model(dtype))
    optimizers = [Rose(m.parameters(), lr=0.01, wd_schedule=True, sr_seed=3, fused=False) for m in (whole, sharded)]
    for step in range(2):
        sharded.zero_grad()
        sharded(torch.full((3, 6), float(step + 1), dtype=dtype)).square().sum().backward()
        for mine, part in zip(whole.parameters(), sharded.parameters(), strict=True):
            mine.grad = part.grad.full_tensor()  # type: ignore[union-attr]
        for optimizer in optimizers:
            optimizer.step()
    assert_same_model(sharded, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mesh", [(4,), (2, 2)], ids=["FSDP2", "HSDP"])
def test_fully_shard_trains_as_one_process(four: World, mesh: tuple[int, ...], dtype: torch.dtype) -> None:
    four.run(train, mesh, dtype)


def train_by_tensors(_: int) -> None:
    """Train by tensor and sequence parallelism and compare with one process that has its gradients."""
    plan = {
        "norm": SequenceParallel(),
        "up": ColwiseParallel(input_layouts=Shard(1)),
        "down": RowwiseParallel(output_layouts=Shard(1), use_local_output=False),
    }
    torch.manual_seed(0)
    whole, sharded = Block(), parallelize_module(Block(), mesh_of((2,)), plan)
    for param, part in zip(whole.parameters(), sharded.parameters(), strict=True):
        part.data.copy_(distribute_tensor(param.detach(), part.device_mesh, part.placements, src_data_rank=None))
    optimizers = [Rose(m.parameters(), lr=0.01, fused=False) for m in (whole, sharded)]
    x = distribute_tensor(torch.randn(2, 4, 6), mesh_of((2,)), [Shard(1)], src_data_rank=None)
    sharded(x).to_local().square().sum().backward()
    assert any(isinstance(placement, Partial) for placement in sharded.norm.weight.grad.placements)
    for mine, part in zip(whole.parameters(), sharded.parameters(), strict=True):
        mine.grad = part.grad.full_tensor()
    for optimizer in optimizers:
        optimizer.step()
    assert_same_model(sharded, whole)


def test_tensor_parallelism_trains_as_one_process_with_gradients_that_are_partial(two: World) -> None:
    two.run(train_by_tensors)


def step_with_a_partial_scalar(_: int, dtype: torch.dtype) -> None:
    """Step on a scalar that is replicated and whose gradient is a sum still to be made, beside a sharded weight."""
    mesh = mesh_of((2,))
    weight, scalar = part_of_ones(LAYOUTS[2]["2: rows"], (4, 2), dtype), torch.tensor(0.5, dtype=dtype)
    replicated = nn.Parameter(distribute_tensor(scalar.clone(), mesh, [Replicate()], src_data_rank=None))
    replicated.grad = DTensor.from_local(torch.tensor(-0.25, dtype=dtype), mesh, [Partial()])
    Rose([weight, replicated], lr=0.125, sr_seed=0).step()
    whole, expected = part_of_ones(LAYOUTS[2]["2: replicated"], (4, 2), dtype), nn.Parameter(scalar.clone())
    expected.grad = torch.tensor(-0.5, dtype=dtype)
    Rose([whole, expected], lr=0.125, sr_seed=0).step()
    assert_same_bits(replicated.to_local().detach(), expected.detach())
    assert_same_bits(weight.full_tensor().detach(), whole.full_tensor().detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_scalar_whose_gradient_is_partial_is_updated_by_its_sign(two: World, dtype: torch.dtype) -> None:
    two.run(step_with_a_partial_scalar, dtype)


def train_in_two_ways(_: int, rows: int) -> None:
    """Train by FSDP2 over tensor parallelism and compare with one process that has its gradients."""
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
        for mine, part in zip(whole.parameters(), sharded.parameters(), strict=True):
            mine.grad = part.grad.full_tensor()
        for optimizer in optimizers:
            optimizer.step()
    for mine, part in zip(whole.parameters(), sharded.parameters(), strict=True):
        assert_same_bits(part.full_tensor().detach(), mine.detach())


@pytest.mark.parametrize("rows", [8, 7, 5, 3])
def test_fully_shard_over_tensor_parallelism_trains_as_one_process(four: World, rows: int) -> None:
    four.run(train_in_two_ways, rows)


def test_both_ways_to_cut_strided_shards_are_told_by_their_shapes() -> None:
    """On 3 x 2 ranks 7 rows do not come out even: DTensor cuts pieces, fully_shard cuts what the others left."""
    placements = _StridedShard(0, split_factor=2), Shard(0)
    coordinates = [(i, j) for i in range(3) for j in range(2)]
    cut = {
        last: [list(_positions((7, 6), (3, 2), at, placements, strided_last=last)[0]) for at in coordinates]
        for last in (False, True)
    }
    assert cut[False] == [[0, 1], [4], [2, 3], [5], [6], []]
    assert cut[True] == [[0, 1], [4], [2, 3], [5], [], [6]]


def part_of_ones(layout: Layout = ROWS, shape: tuple[int, ...] = (8, 4), dtype: torch.dtype = torch.float32) -> Any:
    """Return a parameter of ones, and the same as its gradient."""
    param = nn.Parameter(shard(torch.ones(shape, dtype=dtype), layout))
    param.grad = shard(torch.arange(math.prod(shape)).reshape(shape).to(dtype), layout)
    return param


def not_a_step(optimizer: Rose) -> str:
    """Return the error of a step, which must leave every parameter as it is."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    before = [param.detach().to_local().clone() for param in params]
    try:
        optimizer.step()
    except (TypeError, ValueError, RuntimeError) as error:
        for param, values in zip(params, before, strict=True):
            assert_same_bits(param.detach().to_local(), values)
        assert optimizer.param_groups[0]["step"] == 0
        return str(error)
    raise AssertionError("the step was taken")


def refused_on_rank_2(rank: int) -> str:
    optimizer = Rose([part_of_ones(), part_of_ones(COLUMNS)], lr=0.1)
    optimizer.param_groups[0]["lr"] = -1.0 if rank == 2 else 0.1
    return not_a_step(optimizer)


def test_what_one_rank_refuses_no_rank_does(four: World) -> None:
    others = "another rank has refused this step, so no rank takes it; the error there says why"
    errors = four.run(refused_on_rank_2)
    assert errors == [others, others, "lr must be a finite number >= 0, got -1.0", others]


def without_gradient_on_rank_1(rank: int, layout: Layout) -> str:
    params = [part_of_ones(layout), part_of_ones(layout)]
    if rank == 1:
        params[1].grad = None
    return not_a_step(Rose(params, lr=0.1))


@pytest.mark.parametrize("name", ["4: rows", "2x2: replicas of rows", "2x2: rows, columns"])
def test_a_gradient_on_some_ranks_only_is_refused_on_all(four: World, name: str) -> None:
    text = "parameter 1 of group 0 has a gradient on some ranks only; a step needs the same on every rank"
    assert four.run(without_gradient_on_rank_1, LAYOUTS[4][name]) == [text] * 4


def with_another_rate_on_rank_3(rank: int) -> str:
    return not_a_step(Rose([part_of_ones()], lr=0.1 if rank < 3 else 0.2))


def test_options_that_differ_between_ranks_are_refused_on_all(four: World) -> None:
    text = "parameter 0 of group 0 has other options on other ranks; a step needs the same on every rank"
    assert four.run(with_another_rate_on_rank_3) == [text] * 4


def plain_of(rank: int) -> list[nn.Parameter]:
    """Return parameters of this rank alone, more on each rank than on the one before."""
    params = [nn.Parameter(torch.ones(2, 3)) for _ in range(1 + rank)]
    for param in params:
        param.grad = torch.arange(6.0).reshape(2, 3)
    return params


def step_beside_plain_ones(rank: int) -> Tensor:
    part = part_of_ones()
    Rose([part, *plain_of(rank)], lr=0.1).step()
    return part.full_tensor().detach()


def test_plain_parameters_are_no_other_ranks_concern(four: World) -> None:
    expected = nn.Parameter(torch.ones(8, 4))
    expected.grad = torch.arange(32.0).reshape(8, 4)
    Rose([expected], lr=0.1).step()
    for whole in four.run(step_beside_plain_ones):
        assert_same_bits(whole, expected.detach())


def in_another_order(rank: int, kind: str) -> str:
    one = part_of_ones(dtype=torch.bfloat16)
    other = plain_of(0)[0] if kind == "plain" else part_of_ones(shape=(12, 4), dtype=torch.bfloat16)
    params = [one, other] if rank != 1 else [other, one]
    optimizer = Rose(params if kind != "fewer" or rank != 1 else [one], lr=0.1, sr_seed=0)
    try:
        optimizer.step()
    except RuntimeError as error:
        assert optimizer.param_groups[0]["step"] == 0
        return str(error)
    raise AssertionError("the step was taken")


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
def test_dtensors_in_another_order_on_a_rank_are_refused_on_all(four: World, kind: str, text: str) -> None:
    """Even where only the index of the noise would differ."""
    assert all(error.endswith(text) for error in four.run(in_another_order, kind))


def on_two_meshes(rank: int) -> str:
    """Refuse a step on a rank of a small mesh, whose other rank is in the large one too."""
    mesh = [DeviceMesh("cpu", ranks) for ranks in ([0, 1], [2, 3])][rank // 2]  # every rank makes every group
    own = nn.Parameter(distribute_tensor(torch.ones(4, 2), mesh, [Shard(0)], src_data_rank=None))
    own.grad = distribute_tensor(torch.ones(4, 2), mesh, [Shard(0)], src_data_rank=None)
    optimizer = Rose([{"params": [part_of_ones()]}, {"params": [own], "lr": 0.1 + (rank == 3)}], lr=0.1)
    return not_a_step(optimizer)


def test_what_ranks_of_one_mesh_refuse_those_of_another_do_too(four: World) -> None:
    first, second, *errors = four.run(on_two_meshes)
    assert first == second == "another rank has refused this step, so no rank takes it; the error there says why"
    text = "parameter 0 of group 1 has other options on other ranks; a step needs the same on every rank"
    assert errors == [text] * 2


def step_on_a_part_of_the_ranks(rank: int) -> None:
    mesh = DeviceMesh("cpu", [0, 1])
    own = [nn.Parameter(distribute_tensor(x, mesh, [Replicate()], src_data_rank=None)) for x in torch.ones(2)]
    for param in own:
        param.grad = distribute_tensor(torch.tensor(2.0), mesh, [Replicate()], src_data_rank=None)
    optimizer = Rose([*own, *plain_of(0)], lr=0.25, weight_decay=0.0)
    optimizer.step()
    assert optimizer.param_groups[0]["step"] == 1
    if rank < 2:
        assert [param.to_local().item() for param in own] == [0.75] * 2


def test_ranks_outside_of_a_mesh_leave_its_parameters_alone(four: World) -> None:
    four.run(step_on_a_part_of_the_ranks)


def refused_layouts(_: int) -> list[str]:
    mesh = mesh_of((4,))
    errors = []
    partial = nn.Parameter(DTensor.from_local(torch.ones(2), mesh, [Partial()]))
    partial.grad = DTensor.from_local(torch.ones(2), mesh, [Partial()])
    errors.append(not_a_step(Rose([partial], lr=0.1)))
    uneven = nn.Parameter(DTensor.from_local(torch.ones(2, 2), mesh, [Shard(0)], shape=(6, 2), stride=(2, 1)))
    uneven.grad = DTensor.from_local(torch.ones(2, 2), mesh, [Shard(0)], shape=(6, 2), stride=(2, 1))
    errors.append(not_a_step(Rose([uneven], lr=0.1)))
    moved = part_of_ones()
    moved.grad = moved.grad.redistribute(placements=[Replicate()])
    errors.append(not_a_step(Rose([moved], lr=0.1)))
    return errors


def test_layouts_that_cannot_be_told_are_refused(four: World) -> None:
    for placement, uneven, moved in four.run(refused_layouts):
        assert placement == "parameter 0 of group 0 has the placement Partial(sum); allowed are Replicate and Shard"
        assert "has a local shard of shape (2, 2), where its placements (Shard(dim=0),) say " in uneven or (
            uneven.startswith("another rank has refused")
        )
        assert "they must be equal, except that a gradient may be Partial" in moved


def warnings_of_a_step(_: int, sr_seed: int | None) -> list[str]:
    optimizer = Rose([part_of_ones(dtype=torch.bfloat16)], lr=0.1, sr_seed=sr_seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.step()
        optimizer.step()
    return [str(warning.message) for warning in caught]


def test_noise_of_each_ranks_own_is_warned_of_once_for_parts_too(four: World) -> None:
    for messages in four.run(warnings_of_a_step, None):
        assert [message.partition(":")[0] for message in messages] == [
            "bf16_sr draws rounding noise from each rank's own generator"
        ]
    assert four.run(warnings_of_a_step, 0) == [[]] * 4


def replicas(rank: int, sr_seed: int | None) -> Tensor:
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


def test_replicas_of_ddp_are_the_same_with_a_seed_and_drift_without(four: World) -> None:
    first, *others = four.run(replicas, 0)
    for other in others:
        assert_same_bits(other, first)
    first, *others = four.run(replicas, None)
    assert all((other != first).any() for other in others)


def versions(_: int) -> list[int]:
    params = [part_of_ones(), part_of_ones(LAYOUTS[4]["2x2: replicas of rows"]), part_of_ones()]
    params[2].grad = None
    Rose(params, lr=0.1).step()
    return [param._version for param in params]


def test_autograd_sees_what_has_changed_of_the_whole(four: World) -> None:
    assert four.run(versions) == [[1, 1, 0]] * 4


def joined_extrema(rank: int, values: list[float]) -> tuple[float, float]:
    x = torch.tensor([values[rank]], dtype=torch.float64)
    group = mesh_of((4,)).get_group()

    def ask() -> Any:
        return (yield from collectives.all_reduce_extrema((x, x), [group]))

    ((low, high),) = collectives.run_batched([ask()])
    return low.item(), high.item()


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("others", [(-1.0, 0.0, 2.0), (math.inf, -math.inf, 1.0)])
def test_one_ranks_nan_is_everyones(four: World, place: int, others: tuple[float, ...]) -> None:
    for sign in (1.0, -1.0):
        values = [*others[:place], math.copysign(math.nan, sign), *others[place:]]
        assert all(math.isnan(low) and math.isnan(high) for low, high in four.run(joined_extrema, values))


def test_extrema_without_nan_are_those_of_all_ranks(four: World) -> None:
    assert four.run(joined_extrema, [-5e-324, -0.0, 5e-324, 1.0]) == [(-5e-324, 1.0)] * 4
    assert four.run(joined_extrema, [math.inf, -math.inf, 0.0, -1.0]) == [(-math.inf, math.inf)] * 4
