"""Trajectories of a rule and of another implementation, and the difference between them."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Final

import numpy as np
import pytest

from rose_core.peers import Rule
from tests.peers.agreement import FLOAT64
from tests.peers.trajectories import data_of, trajectory
from tests.tally import record_difference

__all__ = ["DECAY", "DISTRIBUTIONS", "LR", "SHAPE", "assert_close", "comparator", "grads", "param", "run"]

LR, DECAY, SHAPE = 1e-2, 0.1, (6, 5)

DISTRIBUTIONS: Final = {
    "emerging_optimizers": "emerging-optimizers",
    "jax": "jax",
    "optax": "optax",
    "pytorch_optimizer": "pytorch-optimizer",
    "rollfast": "rollfast",
}
"""The names in the extra "comparators" of `pyproject.toml`, by package."""


def comparator(module: str) -> Any:
    """Return a module of another implementation, or skip if it is not installed.

    An import that fails although it is installed is an error.
    """
    package = module.partition(".")[0]
    try:
        metadata.version(DISTRIBUTIONS[package])
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed", allow_module_level=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as those of the modules of torch that it imports
        return importlib.import_module(module)


def param() -> np.ndarray:
    """Return the parameter before the first step, in float64."""
    return data_of(SHAPE, "float64").param


def grads() -> Sequence[np.ndarray]:
    """Return the gradients of 20 steps."""
    return data_of(SHAPE, "float64").grads


def run(rule: Rule, *, decay: float = 0.0, lr: float | Callable[[int], float] = LR) -> np.ndarray:
    """Return the parameter after 20 steps of a rule. `decay` is a decoupled weight decay."""
    shrink = 1.0 if callable(lr) else 1.0 - lr * decay
    result: np.ndarray = trajectory(rule, data_of(SHAPE, "float64"), np.asarray, lr=lr, decay=shrink)[0]
    return result


def assert_close(actual: np.ndarray, expected: np.ndarray, pair: str, limit: float = FLOAT64) -> None:
    """Raise unless the relative difference is below the limit. The report has the largest of each pair."""
    difference = float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))
    record_difference(pair, difference)
    assert difference < limit
