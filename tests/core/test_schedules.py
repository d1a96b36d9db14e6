"""Schedules: values worked by hand, the schedulers of torch, and `set_lr`."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

import rose_numpy
import rose_torch
from rose_core import schedules
from tests.adapters.refusals import raises
from tests.strategies import examples

# The schedule, and the first learning rates. All of them are exact.
BY_HAND: dict[str, tuple[Callable[[int], float], list[float]]] = {
    "constant": (partial(schedules.constant, max_lr=0.5), [0.5, 0.5]),
    "linear warmup": (partial(schedules.linear_warmup, max_lr=2.0, warmup_steps=3), [0.5, 1.0, 1.5, 2.0, 2.0]),
    "no warmup": (partial(schedules.linear_warmup, max_lr=2.0, warmup_steps=0), [2.0, 2.0]),
    "cosine": (partial(schedules.cosine, max_lr=1.0, steps=2, min_lr=0.5), [1.0, 0.75, 0.5, 0.5]),
    "cosine of no steps": (partial(schedules.cosine, max_lr=1.0, steps=0), [0.0, 0.0]),
    "warmup and cosine": (
        partial(schedules.warmup_cosine, max_lr=1.0, steps=3, warmup_steps=1),
        [0.5, 1.0, 0.5, 0.0, 0.0],
    ),
    "warmup alone": (partial(schedules.warmup_cosine, max_lr=1.0, steps=1, warmup_steps=1), [0.5, 0.0]),
    "wsd": (
        partial(schedules.wsd, max_lr=1.0, steps=8, warmup_steps=3, decay_steps=2, min_lr=0.5),
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.5],
    ),
    "wsd without a stable phase": (
        partial(schedules.wsd, max_lr=1.0, steps=3, warmup_steps=1, decay_steps=2),
        [0.5, 1.0, 0.5, 0.0],
    ),
    "wsd without a decay": (
        partial(schedules.wsd, max_lr=1.0, steps=2, warmup_steps=0, decay_steps=0),
        [1.0, 1.0, 0.0],
    ),
    "one cycle of one step": (partial(schedules.one_cycle, max_lr=1.0, steps=1, pct_start=0.0), [1.0 / 25.0 / 1e4]),
}


@pytest.mark.parametrize(("schedule", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_learning_rates_worked_by_hand(schedule: Callable[[int], float], expected: list[float]) -> None:
    assert [schedule(step) for step in range(len(expected))] == expected


MAX_LR, STEPS = 0.3, 40
Scheduler = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]
PAIRS: dict[str, tuple[Callable[[int], float], Scheduler]] = {
    "constant": (
        partial(schedules.constant, max_lr=MAX_LR),
        lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0),
    ),
    "linear warmup": (
        partial(schedules.linear_warmup, max_lr=MAX_LR, warmup_steps=9),
        lambda optimizer: lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=9),
    ),
    "cosine": (
        partial(schedules.cosine, max_lr=MAX_LR, steps=STEPS, min_lr=0.02),
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS, eta_min=0.02),
    ),
    "warmup and cosine": (
        partial(schedules.warmup_cosine, max_lr=MAX_LR, steps=STEPS, warmup_steps=9),
        lambda optimizer: lr_scheduler.SequentialLR(
            optimizer,
            [
                lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=9),
                lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS - 9),
            ],
            milestones=[9],
        ),
    ),
    "wsd": (
        partial(schedules.wsd, max_lr=MAX_LR, steps=STEPS, warmup_steps=4, decay_steps=16),
        lambda optimizer: lr_scheduler.SequentialLR(
            optimizer,
            [
                lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=4),
                lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=16),
            ],
            milestones=[STEPS - 16],
        ),
    ),
    "one cycle": (
        partial(schedules.one_cycle, max_lr=MAX_LR, steps=STEPS),
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=STEPS, cycle_momentum=False),
    ),
    "one cycle with a peak between two steps": (
        partial(schedules.one_cycle, max_lr=MAX_LR, steps=STEPS, pct_start=0.26, div_factor=3.0, final_div_factor=7.0),
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer,
            MAX_LR,
            total_steps=STEPS,
            pct_start=0.26,
            div_factor=3.0,
            final_div_factor=7.0,
            cycle_momentum=False,
        ),
    ),
    **{
        f"one cycle with its peak at {share}": (
            partial(schedules.one_cycle, max_lr=MAX_LR, steps=STEPS, pct_start=share),
            lambda optimizer, share=share: lr_scheduler.OneCycleLR(
                optimizer, MAX_LR, total_steps=STEPS, pct_start=share, cycle_momentum=False
            ),
        )
        for share in (0.0, 1.0)
    },
}


@pytest.mark.parametrize(("schedule", "scheduler"), PAIRS.values(), ids=PAIRS)
def test_schedules_agree_with_those_of_torch(schedule: Callable[[int], float], scheduler: Scheduler) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=MAX_LR)
    torch_schedule = scheduler(optimizer)
    for step in range(STEPS):
        # Most of torch's schedulers multiply the last learning rate, and so collect rounding errors of many steps.
        expected = optimizer.param_groups[0]["lr"]
        assert schedule(step) == pytest.approx(expected, rel=1e-13, abs=1e-16)
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SequentialLR calls a deprecated argument of its own schedulers
            if step + 1 < STEPS:  # OneCycleLR has no rate after its last step
                torch_schedule.step()


def optax_warmup_cosine(step: int, init: float, peak: float, warmup: int, steps: int, end: float) -> float:
    """Return optax's `warmup_cosine_decay_schedule`, from its formula: `alpha` is ``end / peak``."""
    if step < warmup:
        return init + (peak - init) * step / warmup
    share = min(1.0, (step - warmup) / (steps - warmup))
    alpha = end / peak
    return peak * ((1.0 - alpha) * 0.5 * (1.0 + math.cos(math.pi * share)) + alpha)


@given(warmup=st.integers(0, 50), rest=st.integers(1, 50), step=st.integers(0, 120), end=st.floats(0.0, 1.0))
@examples(200)
def test_warmup_and_cosine_agree_with_the_formula_of_optax(warmup: int, rest: int, step: int, end: float) -> None:
    found = schedules.warmup_cosine(step, max_lr=1.0, steps=warmup + rest, warmup_steps=warmup, min_lr=end)
    expected = optax_warmup_cosine(step, 1.0 / (warmup + 1), 1.0, warmup, warmup + rest, end)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(
    max_lr=st.floats(0.0, 1e3),
    share=st.floats(0.0, 1.0),
    warmup=st.integers(0, 20),
    stable=st.integers(0, 20),
    decay=st.integers(0, 20),
    step=st.integers(0, 80),
)
@example(max_lr=927.2660729529442, share=1.0 / 3.0, warmup=0, stable=0, decay=1, step=0)  # a sum that rounds up
@examples(300)
def test_learning_rates_lie_between_0_and_the_largest(
    max_lr: float, share: float, warmup: int, stable: int, decay: int, step: int
) -> None:
    """A step with a learning rate above `max_lr` would decay more than `weight_decay` says."""
    steps, min_lr = warmup + stable + decay, max_lr * share
    rates = [
        schedules.linear_warmup(step, max_lr=max_lr, warmup_steps=warmup),
        schedules.cosine(step, max_lr=max_lr, steps=steps, min_lr=min_lr),
        schedules.warmup_cosine(step, max_lr=max_lr, steps=steps, warmup_steps=warmup, min_lr=min_lr),
        schedules.wsd(step, max_lr=max_lr, steps=steps, warmup_steps=warmup, decay_steps=decay, min_lr=min_lr),
        schedules.one_cycle(step, max_lr=max_lr, steps=steps, pct_start=share),
    ]
    assert all(0.0 <= rate <= max_lr for rate in rates)


CALLS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a negative step": (
        lambda: schedules.constant(-1, max_lr=1.0),
        ValueError,
        "step must be an integer in [0, 2**32), got -1",
    ),
    "a step that is no integer": (
        lambda: schedules.cosine(0.5, max_lr=1.0, steps=3),  # type: ignore[arg-type]
        TypeError,
        "step must be an integer in [0, 2**32), got 0.5",
    ),
    "an infinite max_lr": (
        lambda: schedules.cosine(0, max_lr=math.inf, steps=3),
        ValueError,
        "max_lr must be a finite number >= 0, got inf",
    ),
    "min_lr above max_lr": (
        lambda: schedules.cosine(0, max_lr=1.0, steps=3, min_lr=2.0),
        ValueError,
        "min_lr must be a number in [0.0, 1.0], got 2.0",
    ),
    "min_lr of NaN": (
        lambda: schedules.wsd(0, max_lr=1.0, steps=3, warmup_steps=0, decay_steps=1, min_lr=math.nan),
        ValueError,
        "min_lr must be a number in [0.0, 1.0], got nan",
    ),
    "min_lr that is no number": (
        lambda: schedules.cosine(0, max_lr=1.0, steps=3, min_lr="0"),  # type: ignore[arg-type]
        TypeError,
        "min_lr must be a number in [0.0, 1.0], got '0'",
    ),
    "a long warmup": (
        lambda: schedules.warmup_cosine(0, max_lr=1.0, steps=3, warmup_steps=4),
        ValueError,
        "warmup_steps must be at most steps, 3, got 4",
    ),
    "a long warmup and decay": (
        lambda: schedules.wsd(0, max_lr=1.0, steps=3, warmup_steps=2, decay_steps=2),
        ValueError,
        "warmup_steps + decay_steps must be at most steps, 3, got 4",
    ),
    "pct_start above 1": (
        lambda: schedules.one_cycle(0, max_lr=1.0, steps=3, pct_start=30.0),
        ValueError,
        "pct_start must be a number in [0.0, 1.0], got 30.0",
    ),
    "div_factor of 0": (
        lambda: schedules.one_cycle(0, max_lr=1.0, steps=3, div_factor=0.0),
        ValueError,
        "div_factor must be a number in [1.0, 1.7976931348623157e+308], got 0.0",
    ),
    "an optimizer as groups": (
        lambda: schedules.set_lr(rose_numpy.Rose([np.ones(2)], lr=0.1), 0.1),  # type: ignore[arg-type]
        TypeError,
        "groups must be the param_groups of an optimizer, or some of them, got Rose",
    ),
    "one group as groups": (
        lambda: schedules.set_lr({"lr": 0.1}, 0.1),  # type: ignore[arg-type]
        TypeError,
        "groups must be the param_groups of an optimizer, or some of them, got dict",
    ),
    "an entry without lr": (
        lambda: schedules.set_lr([{"lr": 0.1}, {}], 0.1),
        TypeError,
        'groups must be the param_groups of an optimizer, or some of them, got an entry without "lr" of type dict',
    ),
    "lr of NaN": (
        lambda: schedules.set_lr([{"lr": 0.1}], math.nan),
        ValueError,
        "lr must be a finite number >= 0, got nan",
    ),
    "max_lr of 0": (
        lambda: schedules.set_lr([{"lr": 0.1}], 0.1, max_lr=0.0),
        ValueError,
        "max_lr must be None or a finite number > 0, got 0.0",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), CALLS.values(), ids=CALLS)
def test_invalid_arguments_are_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with raises(error, message):
        call()


def test_set_lr_changes_no_group_if_an_argument_is_invalid() -> None:
    groups = [{"lr": 0.5}, {"lr": 0.25}]
    for arguments in ({"lr": -1.0}, {"lr": 0.1, "max_lr": math.nan}):
        with pytest.raises(ValueError, match=r"lr must be"):
            schedules.set_lr(groups, **arguments)
    assert groups == [{"lr": 0.5}, {"lr": 0.25}]


def test_set_lr_changes_the_given_groups_only() -> None:
    optimizer = rose_numpy.Rose([{"params": [np.ones(2)]}, {"params": [np.ones(2)]}], lr=0.5)
    schedules.set_lr(optimizer.param_groups[1:], 0.25, max_lr=1.0)
    assert [(group["lr"], group.get("max_lr")) for group in optimizer.param_groups] == [(0.5, None), (0.25, 1.0)]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_with_max_lr_a_warmup_decays_less_than_the_peak(library: str) -> None:
    """Without it, the decay refers to the first learning rate of the warmup."""
    schedule = partial(schedules.linear_warmup, max_lr=0.5, warmup_steps=3)

    def shrunk(max_lr: float | None) -> list[float]:
        options = {"lr": 0.5, "weight_decay": 0.125, "wd_schedule": True}
        zeros, optimizer, values = np.zeros(2), None, []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights = np.ones(2)
            if library == "numpy":
                optimizer = rose_numpy.Rose([weights], **options)  # type: ignore[arg-type]
            else:
                parameter = torch.nn.Parameter(torch.from_numpy(weights))
                parameter.grad = torch.zeros(2, dtype=torch.float64)
                optimizer = rose_torch.Rose([parameter], **options)  # type: ignore[arg-type]
            for step in range(4):
                before = float(weights[0])
                schedules.set_lr(optimizer.param_groups, schedule(step), max_lr=max_lr)
                optimizer.step([zeros]) if library == "numpy" else optimizer.step()
                values.append(float(weights[0]) / before)
        return values

    assert shrunk(0.5) == pytest.approx([1.0 - 0.125 * share for share in (0.25, 0.5, 0.75, 1.0)], rel=1e-15)
    assert shrunk(None) == pytest.approx([1.0 - 0.125 * share for share in (1.0, 2.0, 3.0, 4.0)], rel=1e-15)


def test_importing_the_core_does_not_load_schedules() -> None:
    from tests.test_imports import run_python

    assert run_python("import rose_core, sys; print('rose_core.schedules' in sys.modules)") == "False\n"
