"""A gradient with an infinity or a NaN on one rank: all ranks skip the step, or all raise."""

import math

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor, Partial

from rose_torch import Rose
from tests.bits import assert_same_bits
from tests.distributed.layouts import COLUMNS, LAYOUTS, ROWS, mesh_of, plain_params, shard_of_ones
from tests.distributed.worlds import World

OTHERS = "RuntimeError: another rank has refused this step, so no rank takes it; the error there says why"
LR = "ValueError: lr must be a finite number >= 0, got -1.0"
BAD = (
    "FloatingPointError: the gradient of parameter 1 of group 0 has an infinity or a NaN, which nonfinite='raise' "
    "refuses; allowed are 'propagate', as the rule does, and 'skip', which leaves such a step out"
)


def local_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def params_of(layout: str, bad: float | None) -> list[nn.Parameter]:
    """Return parameters whose second one has a bad element in the gradient of this rank, unless `bad` is None."""
    second = plain_params(0)[0] if layout == "plain" else shard_of_ones(LAYOUTS[4][layout])
    if bad is not None:
        local_of(second.grad)[-1, -1] = bad
    return [shard_of_ones(COLUMNS), second]


def outcome(optimizer: Rose) -> str:
    """Take a step that must change nothing, and return its error, or how many steps the optimizer has skipped."""
    params = optimizer.param_groups[0]["params"]
    before = [local_of(param.detach()).clone() for param in params]
    result = ""
    try:
        optimizer.step()
    except (FloatingPointError, RuntimeError, ValueError) as error:
        result = f"{type(error).__name__}: {error}"
    for param, values in zip(params, before, strict=True):
        assert_same_bits(local_of(param.detach()), values)
    assert optimizer.param_groups[0]["step"] == 0
    return result or f"skipped {optimizer.skipped_steps}"


def skip_and_go_on(rank: int, layout: str, bad: float) -> str:
    """Return the outcome of a step with a bad gradient on rank 1. The next step must be the first of another run."""
    params, plain = params_of(layout, bad if rank == 1 else None), params_of(layout, None)
    optimizer, expected = Rose(params, lr=0.1, nonfinite="skip"), Rose(plain, lr=0.1)
    result = outcome(optimizer)
    for param, other in zip(params, plain, strict=True):
        param.grad = other.grad
    for each in (optimizer, expected):
        each.step()
    assert (optimizer.skipped_steps, optimizer.param_groups[0]["step"]) == (1, 1)
    for param, other in zip(params, plain, strict=True):
        assert_same_bits(local_of(param.detach()), local_of(other.detach()))
    return result


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
@pytest.mark.parametrize("layout", ["4: rows", "2x2: replicas of rows", "2x2: rows, columns", "plain"])
def test_all_ranks_skip_a_step_if_one_of_them_has_a_bad_gradient(four: World, layout: str, bad: float) -> None:
    """A plain parameter beside DTensors counts, too."""
    assert four.run(skip_and_go_on, layout, bad) == ["skipped 1"] * 4


def with_a_bad_gradient_on_rank_1(rank: int, nonfinite: str, lr_of_rank_2: float) -> str:
    optimizer = Rose(params_of("4: rows", math.nan if rank == 1 else None), lr=0.1, nonfinite=nonfinite)
    optimizer.param_groups[0]["lr"] = lr_of_rank_2 if rank == 2 else 0.1
    return outcome(optimizer)


def test_the_other_ranks_raise_too_if_one_raises_because_of_its_gradient(four: World) -> None:
    assert four.run(with_a_bad_gradient_on_rank_1, "raise", 0.1) == [OTHERS, BAD, OTHERS, OTHERS]


@pytest.mark.parametrize(("nonfinite", "of_rank_1"), [("skip", OTHERS), ("raise", BAD)])
def test_an_error_on_another_rank_stops_a_step_with_a_bad_gradient(four: World, nonfinite: str, of_rank_1: str) -> None:
    """A step that one rank would skip and another refuses is not counted as skipped."""
    assert four.run(with_a_bad_gradient_on_rank_1, nonfinite, -1.0) == [OTHERS, of_rank_1, LR, OTHERS]


def with_a_partial_gradient(rank: int, nonfinite: str, bad: float) -> str:
    param = shard_of_ones(ROWS)
    local = torch.full((8, 4), bad if rank == 1 else 1.0)
    param.grad = DTensor.from_local(local, mesh_of((4,)), [Partial()])
    return outcome(Rose([shard_of_ones(COLUMNS), param], lr=0.1, nonfinite=nonfinite))


@pytest.mark.parametrize("bad", [1.0, math.nan])
@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_a_partial_gradient_is_refused_on_all_ranks(four: World, nonfinite: str, bad: float) -> None:
    text = (
        f"ValueError: the gradient of parameter 1 of group 0 is Partial, and nonfinite={nonfinite!r} reads gradients "
        "before they are reduced; redistribute it first, or pass 'propagate'"
    )
    assert four.run(with_a_partial_gradient, nonfinite, bad) == [text] * 4


def replicas_with_nan_on_rank_0(rank: int) -> tuple[int, list[float]]:
    replica = nn.parallel.DistributedDataParallel(nn.Linear(3, 2))
    nn.init.ones_(replica.module.weight)
    optimizer = Rose(replica.parameters(), lr=0.1, nonfinite="skip")
    replica(torch.full((4, 3), math.nan if rank == 0 else 1.0)).sum().backward()
    optimizer.step()
    return optimizer.skipped_steps, replica.module.weight.detach().flatten().tolist()


def test_replicas_of_ddp_skip_together_because_their_gradients_are_reduced(two: World) -> None:
    assert two.run(replicas_with_nan_on_rank_0) == [(1, [1.0] * 6)] * 2
