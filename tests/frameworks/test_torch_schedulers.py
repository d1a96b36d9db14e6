"""With every learning-rate scheduler of torch, Rose has the rates of SGD and the bits of the core."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils

from rose_torch import Rose
from tests.adapters.models import assert_same_model, core_run, grads, model, parameter, tensor

LR, STEPS = 0.25, 7

Optimizer = torch.optim.Optimizer


class Halving(lr_scheduler.LRScheduler):
    """A custom scheduler."""

    def get_lr(self) -> list[float]:
        """Return half of each learning rate."""
        return [group["lr"] * 0.5 if self.last_epoch else group["lr"] for group in self.optimizer.param_groups]


SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, total_iters=3), lr_scheduler.ExponentialLR(o, 0.875)]
    ),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, total_iters=3),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.125, 0.5, step_size_up=2, cycle_momentum=False),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.875),
    "LRScheduler": Halving,
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.25, total_iters=4),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 1.0 - step / 16),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=STEPS + 1, cycle_momentum=False),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, STEPS, 2.0),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "SWALR": lambda o: swa_utils.SWALR(o, 0.0625, anneal_epochs=3),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.25, total_iters=2), lr_scheduler.StepLR(o, 2)], milestones=[3]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
}


def run(optimizer: Optimizer, params: dict[str, Any], scheduler: Any) -> list[float]:
    """Take the steps of a run, and return their learning rates."""
    rates = []
    for step in range(STEPS):
        for name, grad in grads(step, "bfloat16").items():
            params[name].grad = tensor(grad)
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []))
    return rates


def parameters() -> dict[str, Any]:
    return {name: parameter(x) for name, x in model("bfloat16").items()}


def test_the_list_has_every_scheduler_of_torch() -> None:
    assert set(SCHEDULERS) == {*lr_scheduler.__all__, "SWALR"}


@pytest.mark.parametrize("lr_type", [float, torch.tensor], ids=["float", "tensor"])
@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_run_has_the_rates_of_sgd_and_the_bits_of_the_core(
    scheduler: Callable[[Optimizer], Any], lr_type: Callable[[float], Any]
) -> None:
    of_sgd = parameters()
    sgd = torch.optim.SGD(of_sgd.values(), lr=lr_type(LR))
    rates = run(sgd, of_sgd, scheduler(sgd))
    assert len(set(rates)) > 1

    params = parameters()
    optimizer = Rose(params.values(), lr=lr_type(LR), weight_decay=0.125, sr_seed=0)
    assert run(optimizer, params, scheduler(optimizer)) == rates
    assert_same_model(params, core_run(rates, weight_decay=0.125), "rose_torch")
