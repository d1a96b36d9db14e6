"""The number of collectives of a step and the bytes they send, and the all-reduce of extrema."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from rose_torch import Rose
from rose_torch.distributed import collectives, consensus
from tests.distributed.layouts import mesh_of
from tests.distributed.models import fsdp, model
from tests.distributed.worlds import World


def with_gradients(module: nn.Module) -> nn.Module:
    """Set a gradient for every parameter, sharded like the parameter."""
    generator = torch.Generator().manual_seed(1)
    for param in module.parameters():
        grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        if isinstance(param, DTensor):
            grad = distribute_tensor(grad, param.device_mesh, param.placements, src_data_rank=None)
        param.grad = grad
    return module


def count_collectives(_: int, mesh: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of collectives in a step of 102 parameters, and the number of bytes that each rank sends."""
    module = with_gradients(fsdp(mesh)(model(torch.bfloat16)))
    optimizer = Rose(module.parameters(), lr=0.01, sr_seed=0)
    sent = []
    all_reduce = collectives.all_reduce_in_place

    def counted(kind: Any, values: Tensor, group: Any) -> None:
        sent.append(values.nbytes)
        all_reduce(kind, values, group)

    with pytest.MonkeyPatch.context() as patch, CommDebugMode() as mode:
        for module_ in (consensus, collectives):
            patch.setattr(module_, "all_reduce_in_place", counted)
        optimizer.step()
    assert len(list(module.parameters())) == 102
    return mode.get_total_counts(), sum(sent)


@pytest.mark.parametrize(("mesh", "most"), [((4,), 4), ((2, 2), 5)], ids=["FSDP2", "HSDP"])
def test_a_step_of_102_parameters_makes_few_small_collectives(four: World, mesh: tuple[int, ...], most: int) -> None:
    for count, sent in four.run(count_collectives, mesh):
        assert count == most
        # 3 words of the consensus for each axis of the mesh, 2 extrema for each parameter, 2 x 2 folds for each matrix.
        assert sent == len(mesh) * 3 * 8 + 102 * 2 * 8 + 34 * 2 * 2 * 8


def extrema_of_all_ranks(rank: int, values: list[float]) -> tuple[float, float]:
    x = torch.tensor([values[rank]], dtype=torch.float64)
    group = mesh_of((4,)).get_group()

    def request() -> Any:
        return (yield from collectives.all_reduce_extrema((x, x), [group]))

    ((low, high),) = collectives.run_batched([request()])
    return low.item(), high.item()


@pytest.mark.parametrize("nan_rank", range(4))
@pytest.mark.parametrize("others", [(-1.0, 0.0, 2.0), (math.inf, -math.inf, 1.0)])
def test_nan_on_one_rank_is_nan_on_all_ranks(four: World, nan_rank: int, others: tuple[float, ...]) -> None:
    for sign in (1.0, -1.0):
        values = [*others[:nan_rank], math.copysign(math.nan, sign), *others[nan_rank:]]
        assert all(math.isnan(low) and math.isnan(high) for low, high in four.run(extrema_of_all_ranks, values))


def test_extrema_are_those_of_all_ranks(four: World) -> None:
    assert four.run(extrema_of_all_ranks, [-5e-324, -0.0, 5e-324, 1.0]) == [(-5e-324, 1.0)] * 4
    assert four.run(extrema_of_all_ranks, [math.inf, -math.inf, 0.0, -1.0]) == [(-math.inf, math.inf)] * 4
