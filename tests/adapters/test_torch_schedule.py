"""Runs of rose_torch with torch's schedulers: the lr of each step, the coupled decay, and tensors as lr."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from rose_torch import Rose
from tests.adapters.models import assert_same_model, core_run, grads, model, parameter, tensor
from tests.adapters.refusals import raises

LR = 0.25
STEPS = 6

Scheduler = Callable[[Rose], Any]
SCHEDULERS: dict[str, tuple[Scheduler, float]] = {
    # Each with the reference learning rate of the decay: max_lr if there is one, else initial_lr.
    "LambdaLR": (lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)), LR),
    "LambdaLR warming up from 0": (lambda o: lr_scheduler.LambdaLR(o, lambda step: step / STEPS), LR),
    "CosineAnnealingLR": (lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS), LR),
    "OneCycleLR": (lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=STEPS + 1, cycle_momentum=False), 0.5),
    "ReduceLROnPlateau": (lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0), LR),
    "SequentialLR": (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.25, total_iters=2), lr_scheduler.StepLR(o, 2)], milestones=[3]
        ),
        LR,
    ),
}
schedulers = pytest.mark.parametrize(("scheduler", "reference"), SCHEDULERS.values(), ids=SCHEDULERS)


def run(optimizer: Rose, params: dict[str, Any], schedule: Any) -> list[float]:
    """Take the steps of a run, and return the learning rate of each step."""
    rates = []
    for step in range(STEPS):
        for name, grad in grads(step, "bfloat16").items():
            params[name].grad = tensor(grad)
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if schedule is not None:
            schedule.step(*([1.0] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else []))
    return rates


@schedulers
@pytest.mark.parametrize("lr_type", [float, torch.tensor], ids=["float", "tensor"])
@pytest.mark.parametrize("wd_schedule", [True, False], ids=["decay coupled", "decay not coupled"])
def test_a_scheduled_run_equals_the_core(
    scheduler: Scheduler, reference: float, lr_type: Callable[[float], Any], wd_schedule: bool
) -> None:
    params = {name: parameter(x) for name, x in model("bfloat16").items()}
    optimizer = Rose(params.values(), lr_type(LR), weight_decay=0.125, wd_schedule=wd_schedule, sr_seed=0)
    rates = run(optimizer, params, scheduler(optimizer))
    assert len(set(rates)) > 2
    expected = core_run(rates, weight_decay=0.125, lr_reference=reference if wd_schedule else None)
    assert_same_model(params, expected, "rose_torch")


def test_without_a_scheduler_the_reference_is_the_first_lr() -> None:
    params = {name: parameter(x) for name, x in model("bfloat16").items()}
    optimizer = Rose(params.values(), LR, weight_decay=0.125, wd_schedule=True, sr_seed=0)
    run(optimizer, params, None)
    expected = core_run([LR] * STEPS, weight_decay=0.125, lr_reference=LR)
    assert_same_model(params, expected, "rose_torch")


def test_one_cycle_lr_needs_cycle_momentum_false() -> None:
    optimizer = Rose([parameter(x) for x in model().values()], LR)
    text = "optimizer must support momentum or beta1 with `cycle_momentum` option enabled"
    with raises(ValueError, text):
        lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=STEPS)


def test_a_tensor_as_lr_is_read_at_every_step_and_is_not_replaced() -> None:
    params = {name: parameter(x) for name, x in model("bfloat16").items()}
    lr = torch.tensor(0.5)
    optimizer = Rose(params.values(), lr, sr_seed=0)
    for step, value in enumerate([0.5, 0.0, 0.25]):
        for name, grad in grads(step, "bfloat16").items():
            params[name].grad = tensor(grad)
        lr.fill_(value)
        optimizer.step()
    assert optimizer.param_groups[0]["lr"] is lr
    assert optimizer.param_groups[0]["step"] == 2
    assert_same_model(params, core_run([0.5, 0.0, 0.25]), "rose_torch")


def test_initial_lr_is_a_number_and_not_the_tensor() -> None:
    weight = parameter(model()["weight"], grads()["weight"])
    lr = torch.tensor(0.5)
    optimizer = Rose([weight], lr)
    optimizer.step()
    lr.fill_(0.25)
    assert optimizer.param_groups[0]["initial_lr"] == 0.5


def test_each_group_counts_its_steps() -> None:
    first, second = (parameter(model()["weight"], grads()["weight"]) for _ in range(2))
    optimizer = Rose([{"params": [first], "lr": 0.0}, {"params": [second]}], lr=0.1)
    optimizer.step()
    assert [(group["step"], group.get("initial_lr")) for group in optimizer.param_groups] == [(0, None), (1, 0.1)]
