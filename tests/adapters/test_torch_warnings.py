"""The warnings of rose_torch with their whole text, and the line that they point at."""

import copy
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from rose_core.peers import SGD
from rose_torch import Rose
from rose_torch.rules import Optimizer
from tests.adapters.models import normal, parameter, valid_groups, with_grad
from tests.adapters.refusals import strong_decays, warns, weak_decays

FIXED = (
    "slices of one element are their own mean, so centralize=True leaves nothing of their gradient, and these "
    "parameters never move. Give the optimizer a transposed view, which makes one slice of them all. Or put them in a "
    "group with centralize=False and max_step=1, since the range of a positive slice of one element is 0"
)


def test_slices_of_one_element_cause_one_warning_with_all_names() -> None:
    module = nn.ModuleDict({"down": nn.Linear(1, 3), "1x1": nn.Conv2d(1, 4, 1), "up": nn.Linear(3, 1)})
    text = f"parameter 'down.weight' of shape (3, 1), parameter '1x1.weight' of shape (4, 1, 1, 1): {FIXED}"
    with warns(text, __file__):
        Rose(module.named_parameters(), lr=0.1)


def test_the_warning_about_an_added_group_points_at_the_line_that_adds_it() -> None:
    optimizer = Rose(valid_groups(), lr=0.1)
    with warns(f"parameter 0 of group 2 of shape (3, 1): {FIXED}", __file__):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3, 1))]})


def test_slices_of_one_element_cause_no_warning_without_centering() -> None:
    Rose([{"params": [nn.Parameter(torch.ones(3, 1))], "centralize": False}], lr=0.1)


def test_slices_of_one_element_in_several_groups_cause_one_warning() -> None:
    groups = [{"params": [("a", nn.Parameter(torch.ones(3, 1)))]}, {"params": [("b", nn.Parameter(torch.ones(2, 1)))]}]
    with warns(f"parameter 'a' of shape (3, 1), parameter 'b' of shape (2, 1): {FIXED}", __file__):
        Rose(groups, lr=0.1)


def test_copies_and_loaded_states_cause_no_second_warning() -> None:
    params = [nn.Parameter(torch.ones(3, 1))]
    with warns(f"parameter 0 of group 0 of shape (3, 1): {FIXED}", __file__):
        optimizer = Rose(params, lr=0.1)
    copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())


ENTRIES = {"lr_scale": 0.5, "name": "head", "betas": (0.9, 0.99), "eps": 1e-8, "momentum": 0.9, "initial_lr": 0.1}
ENTRIES |= {"max_lr": 0.1, "min_lr": 0.0, "base_momentum": 0.8, "max_momentum": 0.9, "step": 3, "fused": None}
ENTRIES |= {"foreach": None, "capturable": False, "differentiable": False, "param_names": ["weight"], "lr_mult": 1.0}
ENTRIES |= {"lr0": 0.1, "weight_decay_rate": 0.1, "weight_decouple": True, "wd_mult": 1.0, "layer_decay": 0.9}
misspelt = pytest.mark.parametrize(
    ("optimizer_of", "name", "meant"),
    [
        (Rose, "weight_deacy", "weight_decay"),
        (Rose, "centralise", "centralize"),
        (Rose, "max_steps", "max_step"),
        (partial(Optimizer, rule=SGD()), "weight_deacy", "weight_decay"),
    ],
)


@misspelt
def test_a_misspelt_option_of_a_group_causes_a_warning(optimizer_of: Any, name: str, meant: str) -> None:
    text = f"group 0 has an entry {name!r}, which is no option; did you mean {meant!r}?"
    with warns(text, __file__):
        optimizer = optimizer_of([{"params": [parameter(normal(0, (2,)))], name: 0.1}], lr=0.1)
    with warns(text.replace("group 0", "group 1"), __file__):
        optimizer.add_param_group({"params": [parameter(normal(0, (2,)))], name: 0.1})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("optimizer_of", [Rose, partial(Optimizer, rule=SGD())])
def test_entries_of_frameworks_cause_no_warning(optimizer_of: Any) -> None:
    optimizer = optimizer_of([{"params": [parameter(normal(0, (2,)))], **ENTRIES, 3: None}], lr=0.1)
    optimizer.step()


@strong_decays
def test_a_strong_coupled_decay_causes_one_warning_with_a_better_value(options: dict[str, Any], text: str) -> None:
    with warns(f"group 0, group 1: {text}", __file__):
        optimizer = Rose([{"params": [parameter(normal(0, (n,)))]} for n in (2, 3)], **options)
    with warns(f"group 2: {text}", __file__):
        optimizer.add_param_group({"params": [parameter(normal(0, (4,)))]})


@weak_decays
def test_other_decays_cause_no_warning(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Rose([parameter(normal(0, (2,)))], **options)


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch report two ranks."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)


DRIFT = (
    "bf16_sr draws rounding noise from each rank's own generator: unless all are seeded alike, replicas of a "
    "parameter drift apart; sr_seed=0 gives every rank the same noise"
)


@pytest.mark.usefixtures("two_ranks")
@pytest.mark.parametrize("bf16_sr", [True, torch.Generator()], ids=["the default generator", "a generator"])
def test_drawn_noise_on_several_ranks_causes_one_warning(bf16_sr: Any) -> None:
    optimizer = Rose([with_grad((2,), torch.bfloat16)], lr=0.1, bf16_sr=bf16_sr)
    with pytest.warns(UserWarning, match=rf"\A{DRIFT}\Z"):
        optimizer.step()
    optimizer.step()


SAME_ON_EVERY_RANK: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "sr_seed": (torch.bfloat16, {"sr_seed": 0}),
    "no bf16_sr": (torch.bfloat16, {"bf16_sr": False}),
    "float32": (torch.float32, {}),
}


@pytest.mark.usefixtures("two_ranks")
@pytest.mark.parametrize(("dtype", "options"), SAME_ON_EVERY_RANK.values(), ids=SAME_ON_EVERY_RANK)
def test_the_same_noise_on_every_rank_causes_no_warning(dtype: torch.dtype, options: dict[str, Any]) -> None:
    Rose([with_grad((2,), dtype)], lr=0.1, **options).step()
