"""A step of rose_numpy that raises changes no array and no group."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from rose_numpy import Rose
from tests.adapters.models import grads, model
from tests.adapters.refusals import FLOATING, NO_ARRAY, SWAPPED, bad_options, refuses


@bad_options
def test_an_invalid_option_of_the_last_group_stops_the_whole_step(
    bad: dict[str, Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose([{"params": model("bfloat16")}, {"params": model()}], lr=0.1)
    optimizer.step([grads(), grads()])
    optimizer.param_groups[-1].update(bad)
    with refuses(optimizer, error, text):
        optimizer.step([grads(), grads()])


STEP_COUNTS = {"below 0": (-1, ValueError), "above 32 bits": (2**32, ValueError), "a string": ("x", TypeError)}


@pytest.mark.parametrize(("step", "error"), STEP_COUNTS.values(), ids=STEP_COUNTS)
def test_an_invalid_step_count_stops_the_whole_step(step: Any, error: type[Exception]) -> None:
    optimizer = Rose([{"params": model()}, {"params": model("bfloat16")}], lr=0.1)
    optimizer.param_groups[-1]["step"] = step
    with refuses(optimizer, error, f"step must be an integer in [0, 2**32), got {step!r}"):
        optimizer.step([grads(), grads()])


def test_an_invalid_reference_of_the_last_group_stops_the_whole_step() -> None:
    optimizer = Rose([{"params": model()}, {"params": model(), "wd_schedule": True}], lr=0.1)
    optimizer.param_groups[-1]["max_lr"] = float("nan")
    with refuses(optimizer, ValueError, "max_lr must be a finite number >= 0, got nan"):
        optimizer.step([grads(), grads()])


# Changes of the gradients. The last parameter of the model is "kernel", of shape (3, 2, 3, 3).
GRADS: dict[str, tuple[Callable[[dict[str, Any]], Any], type[Exception], str]] = {
    "a list instead of a mapping": (
        lambda g: list(g.values()),
        TypeError,
        "grads must be a mapping of names to arrays, as params are, got list",
    ),
    "a missing and an unknown name": (
        lambda g: {"scales" if name == "scale" else name: grad for name, grad in g.items()},
        ValueError,
        "grads must have the names of params (None skips one); missing are ['scale'] and unknown are ['scales']",
    ),
    "another shape": (
        lambda g: g | {"kernel": np.ones((3, 18), np.float32)},
        ValueError,
        "grads['kernel'] has shape (3, 18), params['kernel'] has (3, 2, 3, 3); they must be equal",
    ),
    "a shape that would be broadcast": (
        lambda g: g | {"kernel": np.ones((1, 2, 3, 3), np.float32)},
        ValueError,
        "grads['kernel'] has shape (1, 2, 3, 3), params['kernel'] has (3, 2, 3, 3); they must be equal",
    ),
    "a list instead of an array": (
        lambda g: g | {"kernel": g["kernel"].tolist()},
        TypeError,
        f"grads['kernel'] {NO_ARRAY} list",
    ),
    "a number": (lambda g: g | {"kernel": 0.0}, TypeError, f"grads['kernel'] {NO_ARRAY} float"),
    "integers": (
        lambda g: g | {"kernel": np.ones((3, 2, 3, 3), np.int64)},
        TypeError,
        f"grads['kernel'] has dtype int64; {FLOATING}",
    ),
    "complex numbers": (
        lambda g: g | {"kernel": g["kernel"] * 1j},
        TypeError,
        f"grads['kernel'] has dtype complex64; {FLOATING}",
    ),
    "swapped bytes": (
        lambda g: g | {"kernel": g["kernel"].astype(SWAPPED)},
        TypeError,
        f"grads['kernel'] has dtype {SWAPPED.str}; {FLOATING}",
    ),
    "a masked array": (
        lambda g: g | {"kernel": np.ma.masked_array(g["kernel"])},
        TypeError,
        f"grads['kernel'] {NO_ARRAY} MaskedArray",
    ),
    "a tensor of torch": (
        lambda g: g | {"kernel": torch.ones(3, 2, 3, 3)},
        TypeError,
        "grads['kernel'] is an array of torch, params['kernel'] of numpy; they must be of one library",
    ),
}


@pytest.mark.parametrize(("broken", "error", "text"), GRADS.values(), ids=GRADS)
def test_an_invalid_gradient_stops_the_whole_step(
    broken: Callable[[dict[str, Any]], Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose({"noisy": np.ones(3, ml_dtypes.bfloat16), **model()}, lr=0.1)
    gradients = {"noisy": np.ones(3, np.float32), **grads()}
    with refuses(optimizer, error, text):
        optimizer.step(broken(gradients))


BY_GROUP = "grads must be an iterable with the gradients of each of the 2 groups, got"
GROUP_GRADS: dict[str, tuple[Callable[[dict[str, Any]], Any], type[Exception], str]] = {
    "a mapping": (lambda g: g, TypeError, f"{BY_GROUP} a mapping"),
    "an array": (lambda g: g["weight"], TypeError, f"{BY_GROUP} ndarray"),
    "one group": (lambda g: [g], ValueError, f"{BY_GROUP} 1"),
    "a mapping instead of a list": (
        lambda g: [g, g],
        TypeError,
        "grads of group 1 must be an iterable of 5 arrays, as params are, got a mapping",
    ),
    "a list instead of a mapping": (
        lambda g: [list(g.values()), list(g.values())],
        TypeError,
        "grads of group 0 must be a mapping of names to arrays, as params are, got list",
    ),
    "an array instead of a mapping": (
        lambda g: [g["weight"], list(g.values())],
        TypeError,
        "grads of group 0 must be a mapping of names to arrays, as params are, got ndarray",
    ),
    "an array instead of a list": (
        lambda g: [g, g["bias"]],
        ValueError,
        "grads of group 1 has 1 gradients for 5 parameters",
    ),
    "too few": (lambda g: [g, list(g.values())[1:]], ValueError, "grads of group 1 has 4 gradients for 5 parameters"),
    "None instead of a group": (
        lambda g: [g, None],
        TypeError,
        "grads of group 1 must be an iterable of 5 arrays, got NoneType",
    ),
    "two keys in a group": (
        lambda g: [g, {"params": list(g.values()), "lr": 0.1}],
        TypeError,
        "grads of group 1 must be an iterable of 5 arrays, as params are, got a mapping",
    ),
}


@pytest.mark.parametrize(("broken", "error", "text"), GROUP_GRADS.values(), ids=GROUP_GRADS)
def test_invalid_gradients_of_a_group_stop_the_whole_step(
    broken: Callable[[dict[str, Any]], Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose([{"params": model()}, {"params": list(model().values())}], lr=0.1)
    with refuses(optimizer, error, text):
        optimizer.step(broken(grads()))


def test_an_array_that_becomes_read_only_stops_the_whole_step() -> None:
    params = model()
    optimizer = Rose(params, lr=0.1)
    params["kernel"].flags.writeable = False
    text = "params['kernel'] must be writable, since it is updated in place; it is read-only"
    with refuses(optimizer, ValueError, text):
        optimizer.step(grads())
