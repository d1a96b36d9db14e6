"""Steps of sharded parameters: Partial gradients, uneven shards, parameters on some ranks, versions and warnings."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

from rose_torch import Rose
from rose_torch.distributed.shards import _positions
from tests.bits import assert_same_bits
from tests.distributed.layouts import LAYOUTS, ROWS, mesh_of, plain_params, shard, shard_of_ones
from tests.distributed.worlds import World


def step_with_a_partial_scalar(_: int, dtype: torch.dtype) -> None:
    """Take a step of a sharded weight and a replicated scalar. The gradient of the scalar is Partial."""
    mesh = mesh_of((2,))
    weight, scalar = shard_of_ones(LAYOUTS[2]["2: rows"], (4, 2), dtype), torch.tensor(0.5, dtype=dtype)
    replicated = nn.Parameter(distribute_tensor(scalar.clone(), mesh, [Replicate()], src_data_rank=None))
    replicated.grad = DTensor.from_local(torch.tensor(-0.25, dtype=dtype), mesh, [Partial()])
    Rose([weight, replicated], lr=0.125, sr_seed=0, fused=False).step()
    whole, expected = shard_of_ones(LAYOUTS[2]["2: replicated"], (4, 2), dtype), nn.Parameter(scalar.clone())
    expected.grad = torch.tensor(-0.5, dtype=dtype)
    Rose([whole, expected], lr=0.125, sr_seed=0, fused=False).step()
    assert_same_bits(replicated.to_local().detach(), expected.detach())
    assert_same_bits(weight.full_tensor().detach(), whole.full_tensor().detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_scalar_with_a_partial_gradient_is_updated_by_the_sign_of_the_sum(two: World, dtype: torch.dtype) -> None:
    two.run(step_with_a_partial_scalar, dtype)


def test_strided_shards_have_the_positions_of_dtensor_and_of_fully_shard() -> None:
    """7 rows on 3 x 2 ranks are uneven. DTensor and fully_shard then assign the rows in different orders."""
    placements = _StridedShard(0, split_factor=2), Shard(0)
    coordinates = [(i, j) for i in range(3) for j in range(2)]
    cut = {
        last: [list(_positions((7, 6), (3, 2), at, placements, strided_last=last)[0]) for at in coordinates]
        for last in (False, True)
    }
    assert cut[False] == [[0, 1], [4], [2, 3], [5], [6], []]
    assert cut[True] == [[0, 1], [4], [2, 3], [5], [], [6]]


def step_with_plain_params(rank: int, fused: bool | None) -> tuple[Tensor, Tensor]:
    """Return a sharded parameter and the last plain parameter of this rank after a step."""
    sharded, plain = shard_of_ones(), plain_params(rank)
    Rose([sharded, *plain], lr=0.1, fused=fused).step()
    return sharded.full_tensor().detach(), plain[-1].detach()


# If the cache is empty, all four ranks compile the kernel at the same time.
@pytest.mark.parametrize("fused", [False, pytest.param(None, marks=pytest.mark.slow)], ids=["core", "kernels"])
def test_plain_parameters_may_differ_between_ranks(four: World, fused: bool | None) -> None:
    expected, (expected_plain,) = nn.Parameter(torch.ones(8, 4)), plain_params(0)
    expected.grad = torch.arange(32.0).reshape(8, 4)
    Rose([expected, expected_plain], lr=0.1, fused=False).step()
    for whole, plain in four.run(step_with_plain_params, fused):
        assert_same_bits(whole, expected.detach())
        assert_same_bits(plain, expected_plain.detach())


def step_on_two_of_four_ranks(rank: int) -> None:
    mesh = DeviceMesh("cpu", [0, 1])
    params = [nn.Parameter(distribute_tensor(x, mesh, [Replicate()], src_data_rank=None)) for x in torch.ones(2)]
    for param in params:
        param.grad = distribute_tensor(torch.tensor(2.0), mesh, [Replicate()], src_data_rank=None)
    optimizer = Rose([*params, *plain_params(0)], lr=0.25, weight_decay=0.0, fused=False)
    optimizer.step()
    assert optimizer.param_groups[0]["step"] == 1
    if rank < 2:
        assert [param.to_local().item() for param in params] == [0.75] * 2


def test_ranks_outside_a_mesh_do_not_update_its_parameters(four: World) -> None:
    four.run(step_on_two_of_four_ranks)


def warnings_of_a_step(_: int, sr_seed: int | None) -> list[str]:
    optimizer = Rose([shard_of_ones(dtype=torch.bfloat16)], lr=0.1, sr_seed=sr_seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.step()
        optimizer.step()
    return [str(warning.message) for warning in caught]


def test_drawn_noise_of_sharded_parameters_causes_one_warning(four: World) -> None:
    for messages in four.run(warnings_of_a_step, None):
        assert [message.partition(":")[0] for message in messages] == [
            "bf16_sr draws rounding noise from each rank's own generator"
        ]
    assert four.run(warnings_of_a_step, 0) == [[]] * 4


def warnings_about_large_steps(_: int) -> list[str]:
    """Return the warnings of a step with a sharded vector whose elements are nearly equal."""
    nearly_equal = torch.ones(8)
    nearly_equal[0] = 1.0000001
    param = shard_of_ones(shape=(8,))
    param.grad = shard(nearly_equal, ROWS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Rose([param], lr=0.1).step()
    return [str(warning.message) for warning in caught]


def test_there_is_no_warning_about_large_steps_of_sharded_parameters(four: World) -> None:
    assert four.run(warnings_about_large_steps) == [[]] * 4


def versions(_: int) -> list[int]:
    params = [shard_of_ones(), shard_of_ones(LAYOUTS[4]["2x2: replicas of rows"]), shard_of_ones()]
    params[2].grad = None
    Rose(params, lr=0.1, fused=False).step()
    return [param._version for param in params]


def test_a_step_increments_the_version_of_dtensors(four: World) -> None:
    assert four.run(versions) == [[1, 1, 0]] * 4
