"""Runs of rose_numpy with a schedule: the learning rates, the coupled decay, and the step count of the noise."""

from typing import Any

import numpy as np
import pytest

from rose_numpy import Rose
from tests.adapters.models import assert_same_model, core_run, core_step, grads, model

DECAYING = [0.125, 0.0625, 0.0, 0.03125]
WARMING_UP = [0.0, 0.0, 0.0625, 0.125]


def run(rates: list[float], **group: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Take a step at each learning rate, and return the parameters and their group."""
    params = model("bfloat16")
    optimizer = Rose([{"params": params, **group}], lr=rates[0])
    for step, lr in enumerate(rates):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step([grads(step, "bfloat16")])
    return params, optimizer.param_groups[0]


@pytest.mark.parametrize("rates", [DECAYING, WARMING_UP], ids=["decaying", "warming up"])
def test_a_schedule_sets_the_lr_of_the_next_step(rates: list[float]) -> None:
    params, _ = run(rates)
    assert_same_model(params, core_run(rates), "rose_numpy")


@pytest.mark.parametrize(("rates", "count"), [(DECAYING, 3), (WARMING_UP, 2)], ids=["decaying", "warming up"])
def test_steps_with_lr_0_are_not_counted(rates: list[float], count: int) -> None:
    assert run(rates)[1]["step"] == count


def test_each_group_counts_its_steps() -> None:
    params = [model("bfloat16"), model("bfloat16")]
    optimizer = Rose([{"params": p} for p in params], lr=0.1)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step([grads(dtype="bfloat16")] * 2)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step([grads(dtype="bfloat16")] * 2)
    assert [group["step"] for group in optimizer.param_groups] == [1, 2]
    assert_same_model(params[0], core_step(model("bfloat16"), grads(dtype="bfloat16"), lr=0.1), "rose_numpy")


INITIAL = {
    "the first lr": ({}, DECAYING, 0.125),
    "the first lr that is not 0": ({}, WARMING_UP, 0.0625),
    "only lr 0": ({}, [0.0, 0.0], None),
    "given": ({"initial_lr": 0.5}, DECAYING, 0.5),
    "given as 0": ({"initial_lr": 0}, WARMING_UP, 0.0625),
}


@pytest.mark.parametrize(("given", "rates", "recorded"), INITIAL.values(), ids=INITIAL)
def test_initial_lr_is_recorded(given: dict[str, Any], rates: list[float], recorded: float | None) -> None:
    assert run(rates, **given)[1].get("initial_lr") == recorded


REFERENCES: dict[str, tuple[dict[str, Any], float | None]] = {
    "none": ({"wd_schedule": False, "max_lr": 0.5, "initial_lr": 0.25}, None),
    "a float": ({"wd_schedule": 0.5, "max_lr": 0.75}, 0.5),
    "an integer": ({"wd_schedule": 1, "initial_lr": 0.25}, 1.0),
    "a number of NumPy": ({"wd_schedule": np.float32(0.5)}, 0.5),
    "max_lr": ({"wd_schedule": True, "max_lr": 0.5, "initial_lr": 0.25}, 0.5),
    "initial_lr": ({"wd_schedule": True, "initial_lr": 0.25}, 0.25),
    "initial_lr and a max_lr of 0": ({"wd_schedule": True, "max_lr": 0, "initial_lr": 0.25}, 0.25),
    "the first lr": ({"wd_schedule": np.True_}, 0.125),
}


@pytest.mark.parametrize(("given", "reference"), REFERENCES.values(), ids=REFERENCES)
def test_the_decay_is_relative_to_its_reference(given: dict[str, Any], reference: float | None) -> None:
    params, _ = run(DECAYING, weight_decay=0.5, **given)
    assert_same_model(params, core_run(DECAYING, weight_decay=0.5, lr_reference=reference), "rose_numpy")


@pytest.mark.filterwarnings("ignore:group 0. wd_schedule=True refers to:UserWarning")
def test_the_reference_of_a_warm_up_is_the_first_lr_that_is_not_0() -> None:
    params, _ = run(WARMING_UP, weight_decay=0.5, wd_schedule=True)
    assert_same_model(params, core_run(WARMING_UP, weight_decay=0.5, lr_reference=0.0625), "rose_numpy")


def test_a_schedule_may_set_numpy_numbers() -> None:
    params, group = run([np.float64(0.125), np.asarray(0.0625), np.float32(0.0)], weight_decay=0.5, wd_schedule=True)
    assert_same_model(params, core_run([0.125, 0.0625, 0.0], weight_decay=0.5, lr_reference=0.125), "rose_numpy")
    assert group["step"] == 2
