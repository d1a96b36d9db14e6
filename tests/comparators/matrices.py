"""Trajectories of matrix rules by others, in float64, and their differences from ours.

A difference is relative to the largest change of an element, not to its value.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.comparators.comparing import comparator
from tests.peers.agreement import MATRICES
from tests.peers.trajectories import Data
from tests.tally import record_difference

__all__ = ["assert_close", "relative_difference", "rollfast_module", "rollfast_trajectory", "torch_trajectory"]


def relative_difference(actual: np.ndarray, expected: np.ndarray, data: Data) -> float:
    """Return the largest difference of a parameter, relative to its largest change."""
    change = np.max(np.abs(np.asarray(expected, np.float64) - np.asarray(data.param, np.float64)))
    return float(np.max(np.abs(np.asarray(actual, np.float64) - np.asarray(expected, np.float64))) / change)


def assert_close(actual: np.ndarray, expected: np.ndarray, data: Data, pair: str, limit: float = MATRICES) -> None:
    """Raise unless the relative difference is below the limit. The report has the largest of each pair."""
    difference = relative_difference(actual, expected, data)
    record_difference(pair, difference)
    assert difference < limit


def torch_trajectory(make: Any, data: Data) -> np.ndarray:
    """Return the parameter after all steps of an optimizer of torch's kind, which `make` returns for a parameter."""
    import torch

    param = torch.nn.Parameter(torch.from_numpy(data.param.copy()))
    optimizer = make(param)
    for grad in data.grads:
        param.grad = torch.from_numpy(np.array(grad))
        optimizer.step()
    return np.asarray(param.detach().numpy())


def rollfast_module(monkeypatch: pytest.MonkeyPatch, name: str, *, wide: bool = True) -> ModuleType:
    """Return a module of rollfast, or skip if it is not installed. It computes in float64 if `wide`.

    Its arithmetic is in `jax.numpy.float32`, which is float64 here.
    """
    jax, utils = comparator("jax"), comparator("rollfast.utils")
    module: ModuleType = comparator(f"rollfast.optim.{name}")
    jax.config.update("jax_enable_x64", True)
    if wide:
        wider = ModuleType("wider")
        wider.__dict__.update(vars(jax.numpy) | {"float32": jax.numpy.float64})
        for each in (module, utils):
            monkeypatch.setattr(each, "jnp", wider)
    return module


def rollfast_trajectory(transformation: Any, param: np.ndarray, grads: Sequence[np.ndarray], lr: float) -> np.ndarray:
    """Return the parameter after all steps of a transformation of optax's kind."""
    import jax

    x = jax.numpy.asarray(param)
    state, update = transformation.init(x), jax.jit(transformation.update)
    for grad in grads:
        direction, state = update(jax.numpy.asarray(grad), state, x)
        x = x - lr * direction
    return np.asarray(x)
