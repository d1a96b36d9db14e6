"""Warnings that come at a step: a decay that has grown with `lr`, and very large changes. Each comes once."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import rose_numpy
import rose_torch
from rose_core import update
from rose_core.bounds import largest_change
from rose_core.rule import StepOptions
from tests.adapters.models import normal, parameter
from tests.bits import DTYPES

NEARLY_EQUAL = np.asarray([1.0, 1.0, 1.0000001], np.float32)


def numpy_step(params: list[np.ndarray], grads: list[np.ndarray], **options: Any) -> Callable[[], Any]:
    optimizer = rose_numpy.Rose([x.copy() for x in params], **options)
    step = lambda: optimizer.step(grads)  # noqa: E731
    step.optimizer = optimizer  # type: ignore[attr-defined]
    return step


def torch_step(params: list[np.ndarray], grads: list[np.ndarray], **options: Any) -> Callable[[], Any]:
    tensors = [parameter(x, g) for x, g in zip(params, grads, strict=True)]
    optimizer = rose_torch.Rose(tensors, **options)
    step = lambda: optimizer.step()  # noqa: E731, PLW0108
    step.optimizer = optimizer  # type: ignore[attr-defined]
    return step


steps = pytest.mark.parametrize("step_of", [numpy_step, torch_step])


def texts_of(step: Callable[[], Any], count: int = 1) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(count):
            step()
    assert all(warning.filename == __file__ for warning in caught), [warning.filename for warning in caught]
    return [str(warning.message) for warning in caught]


@steps
def test_a_very_large_change_is_named_at_the_first_step(step_of: Callable[..., Any]) -> None:
    step = step_of([normal(0, (3,)), normal(1, (4, 5))], [NEARLY_EQUAL, normal(2, (4, 5))], lr=0.1)
    (text,) = texts_of(step)
    name = "params[0]" if step_of is numpy_step else "parameter 0 of group 0"
    assert text == (
        f"this step moves elements of {name} by up to 8.39e+06 * lr. The elements of a slice of the gradient are "
        "nearly equal there, and Rose divides them by their range. max_step=10 limits a step to 10 * lr, and "
        "max_step=float('inf') turns this warning off"
    )
    assert texts_of(step, 20) == []


@steps
def test_a_large_change_is_found_at_the_tenth_step(step_of: Callable[..., Any]) -> None:
    grads = [np.asarray([1.0, -1.0, 0.5], np.float32)]
    step = step_of([normal(0, (3,))], grads, lr=0.1)
    assert texts_of(step, 9) == []
    if step_of is torch_step:
        step.optimizer.param_groups[0]["params"][0].grad.copy_(torch.from_numpy(NEARLY_EQUAL))
    else:
        grads[0][:] = NEARLY_EQUAL
    assert len(texts_of(step)) == 1


@steps
@pytest.mark.parametrize("max_step", [10.0, float("inf")])
def test_max_step_turns_the_warning_off(step_of: Callable[..., Any], max_step: float) -> None:
    assert texts_of(step_of([normal(0, (3,))], [NEARLY_EQUAL], lr=0.1, max_step=max_step), 3) == []


@steps
def test_many_parameters_are_counted(step_of: Callable[..., Any]) -> None:
    step = step_of([normal(0, (3,))] * 5, [NEARLY_EQUAL] * 5, lr=0.1)
    (text,) = texts_of(step)
    assert " and 2 more parameters. The elements" in text


@steps
def test_ordinary_gradients_give_no_warning(step_of: Callable[..., Any]) -> None:
    shapes = [(), (7,), (4, 5), (0, 3), (1, 4), (3, 2, 2)]
    params, grads = ([normal(seed + n, shape) for n, shape in enumerate(shapes)] for seed in (0, 10))
    assert texts_of(step_of(params, grads, lr=0.1), 12) == []


def test_attached_parameters_are_named_too() -> None:
    model = torch.nn.ParameterDict({"scale": parameter(normal(0, (3,)))})
    with rose_torch.attach(model, lr=0.1) as optimizer:

        def step() -> None:
            model["scale"].backward(torch.from_numpy(NEARLY_EQUAL))
            optimizer.step()

        with pytest.warns(UserWarning, match="moves elements of parameter 'scale' by up to"):
            step()


@pytest.mark.parametrize("options", [{}, {"centralize": False}, {"stabilize": False}, {"maximize": True}])
@pytest.mark.parametrize("shape", [(), (7,), (9, 5), (4, 3, 2, 2), (6, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_change_is_that_of_a_step(shape: tuple[int, ...], options: dict[str, bool], dtype: str) -> None:
    """Twice that of a step at most, where slices are centered."""
    grad = normal(0, shape, dtype)
    moved = update(np.zeros(shape), grad.astype(np.float64), lr=1.0, weight_decay=0.0, **options)
    flags = {"centralize": True, "stabilize": True, "maximize": False} | options
    bound = largest_change(grad, StepOptions(lr=0.5, decay=0.1, compute="fp64", max_step=1e-3, **flags))
    exact = float(np.max(np.abs(moved)))
    if flags["centralize"] and len(shape) >= 2:
        assert exact <= bound <= 2.0 * exact
    else:
        assert bound == exact


def test_a_centered_gradient_of_few_rows_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No range exceeds the mean range by more than the number of rows."""
    grad = np.zeros((900, 4), np.float32)
    grad[0] = [1.0, -1.0, 0.5, 0.0]
    step = StepOptions(0.1, 1.0, centralize=True, stabilize=True, maximize=False, compute="fp64")
    assert largest_change(grad, step) <= 900
    monkeypatch.setattr("rose_plan.step_warnings.largest_change", lambda *_: pytest.fail("it was read"))
    assert texts_of(numpy_step([normal(0, (900, 4))], [grad], lr=0.1)) == []


def test_one_touched_row_of_many_is_named() -> None:
    grad = np.zeros((2_000_000, 2), np.float32)
    grad[0] = [1.0, -1.0]
    (text,) = texts_of(numpy_step([np.zeros_like(grad)], [grad], lr=0.1))
    assert "moves elements of params[0] by up to" in text


@steps
def test_a_step_without_lr_is_not_read(step_of: Callable[..., Any]) -> None:
    assert texts_of(step_of([normal(0, (3,))], [NEARLY_EQUAL], lr=0.0), 3) == []


def test_a_step_in_code_without_a_module_warns_too() -> None:
    step = numpy_step([normal(0, (3,))], [NEARLY_EQUAL], lr=0.1)
    with pytest.warns(UserWarning, match="moves elements"):
        exec("optimizer.step(grads)", {"optimizer": step.optimizer, "grads": [NEARLY_EQUAL]})


def test_a_warning_that_is_an_error_leaves_out_the_gradient() -> None:
    param = parameter(normal(0, (3,)))
    model, before = torch.nn.ParameterList([param]), param.detach().clone()
    with rose_torch.attach(model, lr=0.1, weight_decay=0.0) as optimizer, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="moves elements"):
            param.backward(torch.from_numpy(NEARLY_EQUAL))
        optimizer.step()
    assert torch.equal(param, before)


def test_a_gradient_of_nan_has_no_largest_change() -> None:
    step = StepOptions(0.1, 1.0, centralize=True, stabilize=True, maximize=False, compute="fp64")
    assert largest_change(np.full((2, 3), np.nan), step) == 0.0
    assert largest_change(np.zeros((0, 3)), step) == 0.0


@steps
def test_a_warmup_that_makes_its_first_lr_the_reference_is_named(step_of: Callable[..., Any]) -> None:
    step = step_of([normal(0, (4, 5))], [normal(1, (4, 5))], lr=1e-6, wd_schedule=True)
    assert texts_of(step) == []
    step.optimizer.param_groups[0]["lr"] = 1e-3
    assert texts_of(step, 3) == [
        "group 0: wd_schedule=True refers to lr=1e-06, the first or initial one, and lr=0.001 now shrinks parameters "
        "by 10 % a step. Pass the peak of the schedule as a number, for example wd_schedule=1e-3, or "
        'write it into the group as "max_lr"'
    ]


@steps
@pytest.mark.parametrize("options", [{"wd_schedule": 1e-3}, {"wd_schedule": False}, {"max_lr": 1e-3}])
def test_a_decay_that_refers_to_the_peak_gives_no_warning(step_of: Callable[..., Any], options: dict[str, Any]) -> None:
    peak = options.get("max_lr")
    options = {key: value for key, value in options.items() if key != "max_lr"}
    step = step_of([normal(0, (4, 5))], [normal(1, (4, 5))], lr=1e-6, **{"wd_schedule": True} | options)
    if peak is not None:
        step.optimizer.param_groups[0]["max_lr"] = peak
    texts_of(step)
    step.optimizer.param_groups[0]["lr"] = 1e-3
    assert texts_of(step) == []
