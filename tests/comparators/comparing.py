"""Trajectories of a rule and of another implementation, and the difference between them."""

from collections.abc import Callable, Sequence

import numpy as np

from rose_core.peers import Rule
from tests.peers.trajectories import data_of, trajectory
from tests.tally import record_difference

__all__ = ["DECAY", "LR", "SHAPE", "assert_close", "grads", "param", "run"]

LR, DECAY, SHAPE = 1e-2, 0.1, (6, 5)


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


def assert_close(actual: np.ndarray, expected: np.ndarray, pair: str, limit: float = 1e-12) -> None:
    """Raise unless the relative difference is below the limit. The report has the largest of each pair."""
    difference = float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))
    record_difference(pair, difference)
    assert difference < limit
