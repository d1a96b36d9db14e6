"""The errors and warnings of rose_numpy about parameters and options, with their whole text."""

import sys
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from rose_numpy import Rose
from tests.adapters.models import grads, model
from tests.adapters.refusals import (
    FLOATING,
    NO_ARRAY,
    SWAPPED,
    bad_options,
    raises,
    refuses,
    strong_decays,
    warns,
    weak_decays,
)

NOT_ARRAYS = "params must be a mapping of names to arrays, an iterable of arrays or of group dicts, got"
OPTIONS = "lr, weight_decay, wd_schedule, centralize, stabilize, bf16_sr, compute_dtype, maximize, sr_seed, max_step"


def read_only() -> np.ndarray:
    array = np.ones(2)
    array.flags.writeable = False
    return array


TWICE = np.ones(2)
PARAMS: dict[str, tuple[Any, type[Exception], str]] = {
    "a bare array": (np.ones((2, 2)), TypeError, f"{NOT_ARRAYS} ndarray"),
    "a string": ("weights", TypeError, f"{NOT_ARRAYS} str"),
    "a number": (1.0, TypeError, f"{NOT_ARRAYS} float"),
    "an empty list": ([], ValueError, "params must hold at least one array, got none"),
    "an empty mapping": ({}, ValueError, "params must hold at least one array, got none"),
    "an empty generator": (iter(()), ValueError, "params must hold at least one array, got none"),
    "lists of numbers": ([[1.0, 2.0]], TypeError, "params['0.0'] must be a numpy.ndarray, got float"),
    "a group dict without a list": (
        {"params": [np.ones(2)], "lr": 0.1},
        TypeError,
        "params['lr'] must be a numpy.ndarray, got float",
    ),
    "a group of a string": (
        [{"params": "weights"}],
        TypeError,
        "params must be a mapping of names to arrays, or an iterable of arrays, got str",
    ),
    "a group without params": (
        [{"params": [np.ones(2)]}, {"lr": 0.1}],
        TypeError,
        "group 1 must be a mapping with \"params\", got {'lr': 0.1}",
    ),
    "a name that is not a string": ({1: np.ones(2)}, TypeError, "params must have strings as its keys, got 1"),
    "an unknown option": (
        [{"params": [np.ones(2)], "momentum": 0.9}],
        TypeError,
        f"group 0 has the unknown options ['momentum']; allowed are {OPTIONS}, initial_lr, max_lr",
    ),
    "a read-only array": (
        {"w": read_only()},
        ValueError,
        "params['w'] must be writable, since it is updated in place; it is read-only",
    ),
    "a masked array": ([np.ma.masked_array([1.0, 2.0])], TypeError, f"params[0] {NO_ARRAY} MaskedArray"),
    "a tensor of torch": ([torch.ones(2)], TypeError, "params[0] must be a numpy.ndarray, got Tensor"),
    "a scalar of NumPy": ([np.float32(1)], TypeError, "params[0] must be a numpy.ndarray, got float32"),
    "integers": ([np.ones(2, np.int32)], TypeError, f"params[0] has dtype int32; {FLOATING}"),
    "booleans": ([np.ones(2, bool)], TypeError, f"params[0] has dtype bool; {FLOATING}"),
    "complex numbers": ([np.ones(2, complex)], TypeError, f"params[0] has dtype complex128; {FLOATING}"),
    "objects": ([np.asarray([1.0], object)], TypeError, f"params[0] has dtype object; {FLOATING}"),
    "8 bits": (
        [np.ones(2, ml_dtypes.float8_e4m3fn)],
        TypeError,
        f"params[0] has dtype float8_e4m3fn; {FLOATING}",
    ),
    "swapped bytes": (
        {"w": np.ones(2, SWAPPED)},
        TypeError,
        f"params['w'] has dtype {'>' if sys.byteorder == 'little' else '<'}f4; {FLOATING}",
    ),
    "an array twice": (
        {"v": TWICE, "w": TWICE},
        ValueError,
        "params['w'] of group 0 is given twice; each array can be in one place only",
    ),
    "an expanded array": (
        [np.lib.stride_tricks.as_strided(np.ones(1), (3,), (0,))],
        ValueError,
        "params[0] has elements that share memory, so it cannot be updated in place",
    ),
    "an array in two groups": (
        [{"params": [TWICE]}, {"params": [np.ones(2), TWICE]}],
        ValueError,
        "params[1] of group 1 is given twice; each array can be in one place only",
    ),
    "an invalid lr of a group": (
        [{"params": [np.ones(2)], "lr": -1}],
        ValueError,
        "lr must be a finite number >= 0, got -1",
    ),
    "an invalid max_lr of a group": (
        [{"params": [np.ones(2)], "max_lr": "high"}],
        TypeError,
        "max_lr must be a finite number >= 0, got 'high'",
    ),
}


@pytest.mark.parametrize(("params", "error", "text"), PARAMS.values(), ids=PARAMS)
def test_parameters_that_cannot_be_updated_raise(params: Any, error: type[Exception], text: str) -> None:
    with raises(error, text):
        Rose(params, lr=0.1)


@bad_options
def test_invalid_options_raise_in_the_constructor(bad: dict[str, Any], error: type[Exception], text: str) -> None:
    with raises(error, text):
        Rose(model(), **({"lr": 0.1} | bad))


def test_sr_seed_must_not_be_none() -> None:
    with raises(ValueError, "sr_seed must be an integer in [0, 2**64), got None"):
        Rose(model(), lr=0.1, sr_seed=None)  # type: ignore[arg-type]


def test_unknown_and_missing_arguments_raise_in_the_constructor() -> None:
    with raises(TypeError, f"Rose has no option 'momentum'; it has {OPTIONS}, nonfinite, fused"):
        Rose(model(), lr=0.1, momentum=0.9)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'lr'"):
        Rose(model())  # type: ignore[call-arg]


@bad_options
def test_an_invalid_option_of_an_added_group_adds_no_group(
    bad: dict[str, Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose(model(), lr=0.1)
    with refuses(optimizer, error, text):
        optimizer.add_param_group({"params": model(), **bad})
    optimizer.step(grads())  # a step without groups still works


FIXED = (
    "slices of one element are their own mean, so centralize=True leaves nothing of their gradient, and these "
    "parameters never move. Give the optimizer a transposed view, which makes one slice of them all. Or put them in a "
    "group with centralize=False and max_step=1, since the range of a positive slice of one element is 0"
)


def test_slices_of_one_element_cause_one_warning_with_all_names() -> None:
    params = {"down": np.ones((3, 1)), "bias": np.ones(3), "1x1": np.ones((4, 1, 1, 1)), "none": np.ones((0, 1))}
    text = f"params['down'] of shape (3, 1), params['1x1'] of shape (4, 1, 1, 1) in group 0: {FIXED}"
    with warns(text, __file__):
        Rose(params, lr=0.1)


def test_the_warning_about_an_added_group_points_at_the_line_that_adds_it() -> None:
    optimizer = Rose(model(), lr=0.1)
    with warns(f"params[0] of shape (3, 1) in group 1: {FIXED}", __file__):
        optimizer.add_param_group({"params": [np.ones((3, 1))]})


def test_slices_of_one_element_cause_no_warning_without_centering() -> None:
    Rose([{"params": [np.ones((3, 1))], "centralize": False}], lr=0.1)


def test_slices_of_one_element_in_several_groups_cause_one_warning() -> None:
    groups = [{"params": {"a": np.ones((3, 1))}}, {"params": {"b": np.ones((2, 1))}}]
    with warns(f"params['a'] of shape (3, 1) in group 0, params['b'] of shape (2, 1) in group 1: {FIXED}", __file__):
        Rose(groups, lr=0.1)


@strong_decays
def test_a_strong_coupled_decay_causes_one_warning_with_a_better_value(options: dict[str, Any], text: str) -> None:
    with warns(f"group 0, group 1: {text}", __file__):
        optimizer = Rose([{"params": [np.ones(2)]}, {"params": [np.ones(3)]}], **options)
    with warns(f"group 2: {text}", __file__):
        optimizer.add_param_group({"params": [np.ones(4)]})


@weak_decays
def test_other_decays_cause_no_warning(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Rose(model(), **options)
