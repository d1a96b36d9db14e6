"""The rules against those of torch.optim, which others wrote: float64, 20 steps, differences in the last digits."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rose_core import peers
from rose_core.peers import Rule
from tests.peers.agreement import FLOAT64
from tests.peers.trajectories import data_of, trajectory
from tests.tally import record_difference

LR, DECAY = 1e-2, 0.1


@pytest.fixture(autouse=True)
def _double_by_default() -> Iterator[None]:
    """NAdam holds the product of its decay rates in torch's default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def steps_of_torch(make: Callable[[Any], torch.optim.Optimizer], shape: tuple[int, ...]) -> np.ndarray:
    data = data_of(shape, "float64")
    param = torch.nn.Parameter(torch.from_numpy(data.param.copy()))
    optimizer = make([param])
    for grad in data.grads:
        param.grad = torch.from_numpy(grad.copy())
        optimizer.step()
    return param.detach().numpy()


def relative_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the largest magnitude."""
    return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))


ADAM = {"lr": LR, "betas": (0.8, 0.95), "eps": 1e-3}
CASES: dict[str, tuple[Rule, Callable[[Any], torch.optim.Optimizer], float]] = {
    "SGD": (
        peers.SGD(momentum=0.9),
        lambda p: torch.optim.SGD(p, LR, momentum=0.9),
        1.0,
    ),
    "SGD, dampening": (
        peers.SGD(momentum=0.9, dampening=0.25),
        lambda p: torch.optim.SGD(p, LR, momentum=0.9, dampening=0.25),
        1.0,
    ),
    "SGD, Nesterov": (
        peers.SGD(momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, LR, momentum=0.9, nesterov=True),
        1.0,
    ),
    "Adam": (peers.Adam(betas=(0.8, 0.95), eps=1e-3), lambda p: torch.optim.Adam(p, **ADAM), 1.0),
    "AdamW": (
        peers.AdamW(betas=(0.8, 0.95), eps=1e-3),
        lambda p: torch.optim.AdamW(p, weight_decay=DECAY, **ADAM),
        1.0 - LR * DECAY,
    ),
    "NAdamW": (
        peers.NAdamW(betas=(0.8, 0.95), eps=1e-3, momentum_decay=4e-3),
        lambda p: torch.optim.NAdam(p, weight_decay=DECAY, decoupled_weight_decay=True, **ADAM),
        1.0 - LR * DECAY,
    ),
    "RAdam": (
        peers.RAdam(betas=(0.8, 0.95), eps=1e-3, eps_added_to="uncorrected"),
        lambda p: torch.optim.RAdam(p, weight_decay=DECAY, decoupled_weight_decay=True, **ADAM),
        1.0 - LR * DECAY,
    ),
    "RAdam, defaults": (
        peers.RAdam(eps_added_to="uncorrected"),
        lambda p: torch.optim.RAdam(p, LR),
        1.0,
    ),
    "RMSprop": (peers.RMSprop(), lambda p: torch.optim.RMSprop(p, LR), 1.0),
    "Adafactor": (
        peers.Adafactor(step_size="capped"),
        lambda p: torch.optim.Adafactor(p, LR, eps=(1e-30, 1e-3), weight_decay=DECAY),
        1.0 - LR * DECAY,
    ),
    "Adafactor, clipped": (
        peers.Adafactor(step_size="capped", clip_threshold=1.5),
        lambda p: torch.optim.Adafactor(p, LR, eps=(1e-30, 1e-3), d=1.5, weight_decay=0.0),
        1.0,
    ),
}


@pytest.mark.parametrize("shape", [(6, 5), (7,)])
@pytest.mark.parametrize("name", CASES)
def test_20_steps_agree_with_torch(name: str, shape: tuple[int, ...]) -> None:
    rule, make, decay = CASES[name]
    actual = trajectory(rule, data_of(shape, "float64"), np.asarray, lr=LR, decay=decay)[0]
    difference = relative_difference(actual, steps_of_torch(make, shape))
    record_difference(f"{name.partition(',')[0]}, torch", difference)
    assert difference < FLOAT64


def test_the_guide_names_torch_for_rules_with_its_defaults() -> None:
    guide = (Path(peers.__file__).parent / "README.md").read_text(encoding="utf-8")
    names = re.findall(r"(\w+)`", " ".join(re.findall(r"^\| ([^|(]+)\(torch\b", guide, re.MULTILINE)))
    assert {"SGD", "Adam", "AdamW", "RMSprop"} <= set(names)
    for name in names:
        rule = getattr(peers, name)()
        decay = 1.0 - LR * rule.default_weight_decay
        actual = trajectory(rule, data_of((6, 5), "float64"), np.asarray, lr=LR, decay=decay)[0]
        expected = steps_of_torch(lambda p, name=name: getattr(torch.optim, name)(p, LR), (6, 5))
        assert relative_difference(actual, expected) < FLOAT64


def test_adafactor_caps_the_learning_rate_as_torch_does() -> None:
    rule = peers.Adafactor(step_size="capped")
    actual = trajectory(rule, data_of((6, 5), "float64"), np.asarray, lr=0.5, decay=1.0)[0]
    expected = steps_of_torch(lambda p: torch.optim.Adafactor(p, 0.5, eps=(1e-30, 1e-3), weight_decay=0.0), (6, 5))
    assert relative_difference(actual, expected) < FLOAT64
    uncapped = trajectory(
        replace(rule, step_size="constant"), data_of((6, 5), "float64"), np.asarray, lr=0.5, decay=1.0
    )
    assert relative_difference(uncapped[0], expected) > 1e-2


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "RAdam rectifies from rho > 4": ("RAdam, defaults", {"rectify_above": 4}),
    "RAdam adds eps to the corrected root": ("RAdam", {"eps_added_to": "corrected"}),
    "NAdam has no schedule": ("NAdamW", {"momentum_decay": None}),
    "Adafactor has the relative step size": ("Adafactor", {"step_size": "relative"}),
    "Adafactor's threshold is inverted": ("Adafactor, clipped", {"clip_threshold": 1.0 / 1.5}),
}


@pytest.mark.parametrize("reading", WRONG)
def test_another_reading_differs_from_torch(reading: str) -> None:
    name, options = WRONG[reading]
    rule, make, decay = CASES[name]
    actual = trajectory(replace(rule, **options), data_of((6, 5), "float64"), np.asarray, lr=LR, decay=decay)[0]
    assert relative_difference(actual, steps_of_torch(make, (6, 5))) > 1e-6
