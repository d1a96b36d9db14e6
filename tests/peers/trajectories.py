"""Trajectories: several steps of a rule on one parameter, by its pure functions."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from rose_core.namespace import dtype_name
from rose_core.noise import NoiseKey, noise_in_range
from rose_core.peers import Rule
from rose_core.peers.states import leaf_names, leaves
from rose_core.rounding import to_compute, to_storage
from tests.bits import assert_same_bits, host
from tests.peers.cases import RULES, VARIANTS

__all__ = ["Data", "all_cases", "assert_same_trajectory", "data_of", "trajectory"]


class Data(NamedTuple):
    """A parameter, and its gradient at each step."""

    param: np.ndarray
    grads: np.ndarray


def all_cases() -> dict[str, Rule]:
    """Return the rules, and the variants of them."""
    return RULES | {name: replace(RULES[rule], **options) for name, (rule, options) in VARIANTS.items()}


def data_of(shape: tuple[int, ...], dtype: str, *, steps: int = 20, seed: int = 0) -> Data:
    """Return random data: gradients of many scales, one of them exactly 0."""
    rng = np.random.default_rng(seed)
    grads = rng.standard_normal((steps, *shape)) * 2.0 ** rng.integers(-6, 3, (steps, *shape))
    grads.reshape(steps, -1)[1::3, :1] = 0.0
    storage = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    return Data(np.asarray(rng.standard_normal(shape)).astype(storage), grads.astype(storage))


def trajectory(
    rule: Rule, data: Data, array: Callable[[np.ndarray], Any], *, lr: float = 1e-2, first: int = 1
) -> tuple[Any, Any]:
    """Return the parameter after all steps, as `Optimizer` rounds it, and the state. No argument may change."""
    param = array(data.param)
    state = rule.init(param)
    for step, row in enumerate(data.grads, first):
        values = np.asarray(row)
        grad = array(values)
        direction, new = rule.update(grad, state, param, step=step, lr=lr, seed=7, index=3)
        assert_same_bits(grad, values, what="the gradient after the step")
        x = to_compute(param, rule.compute_dtype) - lr * direction
        words = (
            noise_in_range(NoiseKey(7, step - 1, 3), 0, data.param.size, like=param).reshape(param.shape)
            if dtype_name(param) == "bfloat16"
            else None
        )
        param, state = array(host(to_storage(x, dtype_name(param), words))), new
    return param, state


def assert_same_trajectory(actual: tuple[Any, Any], expected: tuple[Any, Any], *, backend: str, what: str) -> None:
    """Raise unless parameters and states have the same bits."""
    assert_same_bits(actual[0], expected[0], backend=backend, what=f"{what}: the parameter")
    names = leaf_names(expected[1])
    assert leaf_names(actual[1]) == names
    for name, leaf, other in zip(names, leaves(actual[1]), leaves(expected[1]), strict=True):
        assert (leaf is None) == (other is None)
        if leaf is not None:
            assert_same_bits(leaf, other, backend=backend, what=f"{what}: {name}")
