"""The factor of the weight decay, and the reference learning rate of a schedule-coupled decay (ROSE-3)."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rose_core import Hyperparameters, decay_factor, update
from rose_core.decay import after_step, group_decay_factor, group_reference
from rose_core.rule import StepOptions, step
from tests.bits import DTYPES, assert_same_bits
from tests.strategies import COMPUTE_DTYPES, EDGES, examples

# lr, weight_decay, lr_reference, factor. All factors are exact.
FACTORS = {
    "no decay": (0.5, None, None, 1.0),
    "a decay of 0": (0.5, 0.0, 0.25, 1.0),
    "lr 0": (0.0, 0.25, None, 1.0),
    "lr 0 in a schedule": (0.0, 0.25, 0.5, 1.0),
    "lr times decay": (0.5, 0.25, None, 0.875),
    "the peak of a schedule": (0.5, 0.25, 0.5, 0.75),
    "halfway down a schedule": (0.25, 0.25, 0.5, 0.875),
    "above the reference": (1.0, 0.25, 0.5, 0.5),
    "to 0": (1.0, 1.0, None, 0.0),
    "clipped at 0": (3.0, 1.0, None, 0.0),
    "an infinite ratio": (1e300, 1.0, 1e-300, 0.0),
    "below half an ulp": (1e-9, 1e-9, None, 1.0),
    "integers": (1, 1, 2, 0.5),
}


@pytest.mark.parametrize(("lr", "weight_decay", "reference", "factor"), FACTORS.values(), ids=FACTORS)
def test_factors_worked_by_hand(lr: float, weight_decay: float | None, reference: float | None, factor: float) -> None:
    """ROSE-3.2, ROSE-3.3."""
    result = decay_factor(lr, weight_decay=weight_decay, lr_reference=reference)
    assert result == factor
    assert math.copysign(1.0, result) == 1.0


@given(
    lr=st.floats(0.0, 10.0),
    weight_decay=st.floats(0.0, 10.0),
    reference=st.none() | st.floats(1e-6, 10.0),
)
@examples(300)
def test_each_operation_of_the_factor_is_rounded_once(lr: float, weight_decay: float, reference: float | None) -> None:
    """ROSE-3.2, computed with fractions."""
    wd_lr = lr if reference is None else float(Fraction(lr) / Fraction(reference))
    product = float(Fraction(wd_lr) * Fraction(weight_decay))
    expected = float(max(Fraction(0), 1 - Fraction(product)))
    assert decay_factor(lr, weight_decay=weight_decay, lr_reference=reference) == expected


# Option, value, allowed values.
NOT_ALLOWED = [
    *(("lr", value, "a finite number >= 0") for value in (-1.0, math.nan, math.inf)),
    *(("weight_decay", value, "a finite number >= 0") for value in (-1.0, math.nan, math.inf)),
    *(("lr_reference", value, "None or a finite learning rate > 0") for value in (0.0, -1.0, math.nan, math.inf)),
]


@pytest.mark.parametrize(("option", "value", "allowed"), NOT_ALLOWED)
def test_invalid_numbers_raise(option: str, value: float, allowed: str) -> None:
    arguments: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1, "lr_reference": 0.1, option: value}
    with pytest.raises(ValueError, match=option) as refusal:
        decay_factor(arguments.pop("lr"), **arguments)
    assert str(refusal.value) == f"{option} must be {allowed}, got {value!r}"


@pytest.mark.parametrize("option", ["lr", "weight_decay", "lr_reference"])
def test_a_bool_is_not_a_number(option: str) -> None:
    arguments: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1, "lr_reference": 0.1, option: True}
    with pytest.raises(TypeError, match=rf"^{option} must be .*, got True$"):
        decay_factor(arguments.pop("lr"), **arguments)


# wd_schedule, max_lr, initial_lr, reference.
REFERENCES = {
    "no schedule": (False, 0.5, 0.25, None),
    "a number": (0.125, 0.5, 0.25, 0.125),
    "max_lr is first": (True, 0.5, 0.25, 0.5),
    "initial_lr is second": (True, None, 0.25, 0.25),
    "a max_lr of 0 is none": (True, 0.0, 0.25, 0.25),
    "an initial_lr of 0 is none": (True, None, 0.0, None),
    "neither": (True, None, None, None),
    "both 0": (True, 0, 0, None),
    "a tensor": (True, torch.tensor(0.5), None, 0.5),
}


@pytest.mark.parametrize(("schedule", "max_lr", "initial_lr", "reference"), REFERENCES.values(), ids=REFERENCES)
def test_the_reference_is_max_lr_then_initial_lr(schedule: Any, max_lr: Any, initial_lr: Any, reference: Any) -> None:
    """ROSE-3.4."""
    options = Hyperparameters(lr=0.0, wd_schedule=schedule)
    result = group_reference(options, {"max_lr": max_lr, "initial_lr": initial_lr})
    assert result == reference
    assert type(result) is type(reference)


@pytest.mark.parametrize("option", ["max_lr", "initial_lr"])
def test_an_invalid_reference_raises(option: str) -> None:
    with pytest.raises(ValueError, match=rf"^{option} must be a finite number >= 0, got nan$"):
        group_reference(Hyperparameters(lr=0.5, wd_schedule=True), {option: math.nan})


# initial_lr before the step, lr of the step, initial_lr after the step.
RECORDED = {
    "the first step": (None, 0.5, 0.5),
    "a first step with lr 0": (None, 0.0, None),
    "after initial_lr 0": (0.0, 0.5, 0.5),
    "still 0": (0.0, 0.0, None),
    "a later step": (0.25, 0.5, 0.25),
    "a later step with lr 0": (0.25, 0.0, 0.25),
}


@pytest.mark.parametrize(("before", "lr", "after"), RECORDED.values(), ids=RECORDED)
def test_initial_lr_is_the_first_lr_that_is_not_0(before: float | None, lr: float, after: float | None) -> None:
    """ROSE-3.4: a step with lr 0 records nothing. Upstream records it, and then divides by 0."""
    recorded = after_step({"step": 3, "initial_lr": before}, lr)
    assert recorded == {"step": 3 + (lr != 0.0)} | ({} if after is None else {"initial_lr": after})


@pytest.mark.parametrize("lr", [0.0, 0.5])
def test_a_schedule_without_a_reference_decays_in_proportion_to_lr(lr: float) -> None:
    """ROSE-3.4: in a run this happens at lr 0 only, and then nothing decays."""
    options = Hyperparameters(lr=lr, weight_decay=0.25, wd_schedule=True)
    assert group_decay_factor(options, {}) == (0.75 if lr else 1.0)


@pytest.mark.parametrize(("compute", "dtype"), [("fp64", np.float64), ("fp32", np.float32), ("bf16", np.float32)])
def test_the_factor_is_rounded_to_the_operation_dtype_and_the_product_to_the_compute_dtype(
    compute: Any, dtype: type
) -> None:
    """ROSE-2.4, ROSE-3.1: 0.1 * 3 is 0.30078125 in bfloat16."""
    x = np.asarray([3.0, -0.0], dtype)
    product = np.asarray([0.30078125 if compute == "bf16" else x[0] * dtype(0.1), -0.0], dtype)
    options = StepOptions(lr=0.5, decay=0.1, centralize=True, stabilize=True, maximize=False, compute=compute)
    assert_same_bits(step(x, np.zeros_like(x), options), product)


# lr, weight_decay, lr_reference, factor. The factors are exact in every dtype.
DECAYS = {
    "none": (0.5, None, None, 1.0),
    "zero": (0.5, 0.0, None, 1.0),
    "in proportion to lr": (0.5, 0.25, None, 0.875),
    "in proportion to the schedule": (0.5, 0.25, 0.5, 0.75),
    "to 0": (1.0, 1.0, None, 0.0),
    "clipped at 0": (2.0, 5.0, None, 0.0),  # not -9
    "at lr 0": (0.0, 0.25, 0.5, 1.0),
}


@pytest.mark.parametrize("compute", COMPUTE_DTYPES)
@pytest.mark.parametrize("dtype", EDGES)
@pytest.mark.parametrize("name", DECAYS)
def test_decay_multiplies_the_parameter_by_the_factor(name: str, dtype: str, compute: str | None) -> None:
    """ROSE-3.1: with a gradient of zeros nothing else happens. -3 * 0 is -0."""
    lr, weight_decay, reference, factor = DECAYS[name]
    param = np.asarray([[1.0, -3.0], [0.0, -0.0]]).astype(DTYPES[dtype][0])
    options = {"lr": lr, "weight_decay": weight_decay, "lr_reference": reference, "compute_dtype": compute}
    assert_same_bits(update(param, np.zeros_like(param), **options), param * np.asarray(factor, param.dtype))


def test_decay_comes_before_the_step() -> None:
    result = update(np.asarray([4.0]), np.asarray([3.0]), lr=0.5, weight_decay=1.0)
    assert result[0] == 4.0 * 0.5 - 0.5 * 3.0
