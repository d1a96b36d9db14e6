"""Context managers for errors and warnings with their whole text, and the data of errors that adapters share."""

import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import numpy as np
import pytest
import torch
from array_api_compat import is_cupy_array

__all__ = [
    "FLOATING",
    "NO_ARRAY",
    "SWAPPED",
    "bad_options",
    "raises",
    "refuses",
    "snapshot",
    "strong_decays",
    "warns",
    "weak_decays",
]

FLOATING: Final = "allowed are float64, float32, float16, bfloat16"
NO_ARRAY: Final = "must be an array of a library that follows the array-API standard, got"
SWAPPED: Final = np.dtype(np.float32).newbyteorder()

_REFERENCE = "wd_schedule must be False, True or a finite reference learning rate > 0, got"
_DTYPE_NAMES = "float64, fp64, float32, fp32, float16, fp16, bfloat16, bf16, none, null"
_BAD_OPTIONS: Final[dict[str, tuple[dict[str, Any], type[Exception], str]]] = {
    "lr below 0": ({"lr": -0.5}, ValueError, "lr must be a finite number >= 0, got -0.5"),
    "lr of NaN": ({"lr": float("nan")}, ValueError, "lr must be a finite number >= 0, got nan"),
    "lr of a list": ({"lr": [0.1]}, TypeError, "lr must be a finite number >= 0, got [0.1]"),
    "lr of True": ({"lr": True}, TypeError, "lr must be a finite number >= 0, got True"),
    "lr of None": ({"lr": None}, TypeError, "lr must be a finite number >= 0, got None"),
    "infinite weight_decay": (
        {"weight_decay": float("inf")},
        ValueError,
        "weight_decay must be a finite number >= 0, got inf",
    ),
    "wd_schedule of 0": ({"wd_schedule": 0}, ValueError, f"{_REFERENCE} 0"),
    "wd_schedule of None": ({"wd_schedule": None}, TypeError, f"{_REFERENCE} None"),
    "centralize of 1": ({"centralize": 1}, TypeError, "centralize must be True or False, got 1"),
    "stabilize of None": ({"stabilize": None}, TypeError, "stabilize must be True or False, got None"),
    "maximize of a string": ({"maximize": "no"}, TypeError, "maximize must be True or False, got 'no'"),
    "bf16_sr of a number": ({"bf16_sr": 0.5}, TypeError, "bf16_sr must be True or False, got 0.5"),
    "unknown compute_dtype": (
        {"compute_dtype": "fp8"},
        ValueError,
        f"compute_dtype must be None, a dtype or one of {_DTYPE_NAMES}; got 'fp8'",
    ),
    "compute_dtype of 16 bits with bf16_sr": (
        {"compute_dtype": "bf16"},
        ValueError,
        "bf16_sr=True needs a compute_dtype wider than 16 bits, got 'bf16'; "
        'allowed beside it are "fp64", "fp32" and None',
    ),
    "sr_seed below 0": ({"sr_seed": -1}, ValueError, "sr_seed must be None or an integer in [0, 2**64), got -1"),
    "sr_seed of a float": ({"sr_seed": 1.0}, TypeError, "sr_seed must be None or an integer in [0, 2**64), got 1.0"),
}
bad_options: Final = pytest.mark.parametrize(("bad", "error", "text"), _BAD_OPTIONS.values(), ids=_BAD_OPTIONS)
"""Run a test with each invalid option, its error and the text of the error."""

_SHRINKS: Final = "a step at"
_STRONG_DECAYS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "coupled": (
        {"lr": 0.01, "weight_decay": 0.1, "wd_schedule": True},
        f"wd_schedule=True with weight_decay=0.1 shrinks parameters by 10 % {_SHRINKS} lr=0.01; "
        "weight_decay=0.001 shrinks them there as weight_decay=0.1 does without wd_schedule",
    ),
    "coupled, lr of 0 to be scheduled": (
        {"lr": 0.0, "weight_decay": 0.1, "wd_schedule": True},
        f"wd_schedule=True with weight_decay=0.1 shrinks parameters by 10 % {_SHRINKS} the reference learning rate; "
        "weight_decay=0.1 * lr shrinks them there as weight_decay=0.1 does without wd_schedule",
    ),
    "a reference": (
        {"lr": 0.5, "weight_decay": 0.125, "wd_schedule": 0.25},
        f"wd_schedule=0.25 with weight_decay=0.125 shrinks parameters by 25 % {_SHRINKS} lr=0.5; "
        "weight_decay=0.03125 shrinks them there as weight_decay=0.125 does without wd_schedule",
    ),
    "the whole parameter": (
        {"lr": 0.5, "weight_decay": 10.0, "wd_schedule": True},
        "wd_schedule=True with weight_decay=10 sets parameters to 0 at lr=0.5; "
        "weight_decay=5 shrinks them there as weight_decay=10 does without wd_schedule",
    ),
}
strong_decays: Final = pytest.mark.parametrize(("options", "text"), _STRONG_DECAYS.values(), ids=_STRONG_DECAYS)
"""Run a test with options that cause a warning about the decay, and its text after the names of the groups."""

_WEAK_DECAYS: Final[dict[str, dict[str, Any]]] = {
    "the default, coupled": {"lr": 0.1, "wd_schedule": True},
    "1e-3 a step": {"lr": 0.1, "weight_decay": 1e-3, "wd_schedule": True},
    "a high reference": {"lr": 0.001, "weight_decay": 0.1, "wd_schedule": 1.0},
    "not coupled": {"lr": 0.1, "weight_decay": 0.1},
    "none, coupled": {"lr": 0.1, "weight_decay": 0.0, "wd_schedule": True},
}
weak_decays: Final = pytest.mark.parametrize("options", _WEAK_DECAYS.values(), ids=_WEAK_DECAYS)
"""Run a test with options that cause no warning about the decay."""


def raises(error: type[Exception], text: str) -> AbstractContextManager[Any]:
    """Expect an error with exactly this text."""
    return pytest.raises(error, match=rf"\A{re.escape(text)}\Z")


@contextmanager
def refuses(optimizer: Any, error: type[Exception], text: str) -> Iterator[None]:
    """Expect an error with exactly this text, which changes neither the optimizer nor its parameters."""
    before = snapshot(optimizer)
    with raises(error, text):
        yield
    assert snapshot(optimizer) == before


@contextmanager
def warns(text: str, file: str) -> Iterator[None]:
    """Expect one UserWarning with exactly this text, at a line of this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [(w.category, str(w.message), w.filename) for w in caught] == [(UserWarning, text, file)]


def snapshot(optimizer: Any) -> Any:
    """Return everything that a step may change: options, step counts, generators, and the bits of each parameter."""
    return [_plain(optimizer.defaults), [_plain(group) for group in optimizer.param_groups]]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, torch.Generator):
        return id(value), value.get_state().tolist()
    if isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu":
        return id(value), value.detach().reshape(-1).view(torch.uint8).tolist()
    if isinstance(value, np.ndarray) or is_cupy_array(value):
        return id(value), value.tobytes()
    return value
