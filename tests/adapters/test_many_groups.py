"""A step takes little more time for each further group. Calls are counted, since times depend on the machine."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

import rose_numpy
import rose_torch
from tests.adapters.models import normal, parameter

CALLS_PER_GROUP = 60


def step_of_numpy(groups: int) -> Callable[[], Any]:
    arrays = [normal(number, (4, 4)) for number in range(groups)]
    optimizer = rose_numpy.Rose([{"params": [array]} for array in arrays], lr=0.1)
    grads = [[array.copy()] for array in arrays]
    return lambda: optimizer.step(grads)


def step_of_torch(groups: int) -> Callable[[], Any]:
    params = [parameter(normal(number, (4, 4)), normal(number, (4, 4))) for number in range(groups)]
    return rose_torch.Rose([{"params": [param]} for param in params], lr=0.1).step


def calls_of(step: Callable[[], Any]) -> int:
    """Return how many Python functions a step enters, after a first step that fills the caches."""
    entered = 0

    def count(frame: Any, event: str, argument: Any) -> None:  # noqa: ARG001
        nonlocal entered
        entered += event == "call"

    step()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        step()
    finally:
        sys.setprofile(before)
    return entered


@pytest.mark.parametrize("step_of", [step_of_numpy, step_of_torch])
def test_a_group_costs_few_calls(step_of: Callable[[int], Callable[[], Any]]) -> None:
    assert calls_of(step_of(60)) - calls_of(step_of(10)) <= 50 * CALLS_PER_GROUP
