"""A run saved by torch.distributed.checkpoint on four ranks continues on two and on one with the same bits."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.lr_scheduler import LambdaLR

from rose_torch import Rose
from tests.adapters.refusals import refuses
from tests.bits import assert_same_bits
from tests.distributed.layouts import mesh_of
from tests.distributed.worlds import World

RATES = [0.25, 0.125, 0.0625, 0.03125]
OPTIONS: dict[str, Any] = {"wd_schedule": True, "weight_decay": 0.125, "sr_seed": 3, "fused": False}
# A flat state has only the keys of the groups. A scheduler or the first step adds initial_lr.
FORMS = {"nested": StateDictOptions(), "flat": StateDictOptions(flatten_optimizer_state_dict=True)}


def started(ranks: int, lr: float, form: str) -> tuple[nn.Module, Rose]:
    """Return a bfloat16 model on this number of ranks, and its optimizer."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3)).to(torch.bfloat16)
    if ranks > 1:
        fully_shard(module, mesh=mesh_of((ranks,)))
    optimizer = Rose(module.parameters(), lr=lr, **OPTIONS)
    if form == "flat":
        LambdaLR(optimizer, lambda _: 1.0)
    return module, optimizer


def take_steps(module: nn.Module, optimizer: Rose, steps: Iterable[int]) -> None:
    """Take steps with learning rates and gradients that depend on the step only."""
    for step in steps:
        optimizer.param_groups[0]["lr"] = RATES[step]
        generator = torch.Generator().manual_seed(step)
        for param in module.parameters():
            grad = torch.randn(param.shape, generator=generator).to(param.dtype)
            if isinstance(param, DTensor):
                grad = distribute_tensor(grad, param.device_mesh, param.placements, src_data_rank=None)
            param.grad = grad
        optimizer.step()
    optimizer.zero_grad()


def weights(module: nn.Module) -> list[Tensor]:
    """Return the whole weights."""
    return [(p.full_tensor() if isinstance(p, DTensor) else p).detach() for p in module.parameters()]


def states(module: nn.Module, optimizer: Rose, form: str) -> dict[str, Any]:
    """Return the states of a model and its optimizer."""
    model_state, optimizer_state = get_state_dict(module, optimizer, options=FORMS[form])
    return {"model": model_state, "optimizer": optimizer_state}


def resumed(_: int, ranks: int, folder: str, saved_after: int, form: str) -> list[Tensor]:
    """Load a checkpoint in a run with other options and weights, and continue to the end."""
    module, optimizer = started(ranks, 1.0, form)
    with torch.no_grad():
        for param in module.parameters():
            param.zero_()
    state = states(module, optimizer, form)
    dcp.load(state, checkpoint_id=folder, no_dist=ranks == 1)
    set_state_dict(
        module,
        optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=FORMS[form],
    )
    assert optimizer.param_groups[0]["step"] == saved_after
    take_steps(module, optimizer, range(saved_after, len(RATES)))
    return weights(module)


def saved(_: int, folder: str, saved_after: int, form: str) -> list[Tensor]:
    """Run on four ranks, save a checkpoint, and continue to the end."""
    module, optimizer = started(4, 0.25, form)
    take_steps(module, optimizer, range(saved_after))
    dcp.save(states(module, optimizer, form), checkpoint_id=folder)
    assert optimizer.param_groups[0]["step"] == saved_after
    take_steps(module, optimizer, range(saved_after, len(RATES)))
    return weights(module)


def uninterrupted() -> list[Tensor]:
    """Run on one rank, without a checkpoint."""
    module, optimizer = started(1, 0.25, "nested")
    take_steps(module, optimizer, range(len(RATES)))
    return weights(module)


@pytest.mark.filterwarnings("ignore")  # torch warns in a single process
@pytest.mark.parametrize("saved_after", [0, 2])
@pytest.mark.parametrize("form", FORMS)
def test_a_run_saved_on_four_ranks_continues_on_two_and_on_one(
    four: World, two: World, tmp_path: Path, saved_after: int, form: str
) -> None:
    expected = uninterrupted()
    runs = [
        *four.run(saved, str(tmp_path), saved_after, form),
        *two.run(resumed, 2, str(tmp_path), saved_after, form),
        resumed(0, 1, str(tmp_path), saved_after, form),
    ]
    for run in runs:
        for actual, whole in zip(run, expected, strict=True):
            assert_same_bits(actual, whole)


def test_a_flattened_checkpoint_without_the_reference_of_the_decay_raises() -> None:
    """A flat state is loaded with the keys of the new optimizer, which has no initial_lr before its first step."""
    module, optimizer = started(1, 0.25, "nested")
    take_steps(module, optimizer, range(1))
    state = get_optimizer_state_dict(module, optimizer, options=FORMS["flat"])
    module, optimizer = started(1, 0.0625, "nested")
    text = (
        "param group 0 of the state has wd_schedule=True and steps behind it, but no initial_lr, to which its decay "
        "refers: a flattened checkpoint has one only if the optimizer that it is loaded into has it, by a scheduler or "
        "as group['initial_lr'] = lr"
    )
    with refuses(optimizer, ValueError, text):
        set_optimizer_state_dict(module, optimizer, state, options=FORMS["flat"])
    optimizer.param_groups[0]["initial_lr"] = 0.0625
    set_optimizer_state_dict(module, optimizer, state, options=FORMS["flat"])
    assert optimizer.param_groups[0]["initial_lr"] == 0.25
