"""Trajectories: several steps of a rule on one parameter, by pure functions."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from rose_core.namespace import array_namespace, detached, dtype_name, quiet
from rose_core.noise import NoiseKey, noise_in_range
from rose_core.peers import Rule
from rose_core.peers.base import At, round_states, state_noise, widen_states
from rose_core.peers.states import leaf_names, leaves
from rose_core.rounding import to_compute, to_storage
from tests.bits import assert_same_bits
from tests.peers.cases import RULES, VARIANTS

__all__ = ["Data", "all_cases", "assert_same_state", "assert_same_trajectory", "data_of", "trajectory", "with_options"]

SEED, INDEX = 7, 0


class Data(NamedTuple):
    """A parameter, and its gradient at each step."""

    param: np.ndarray
    grads: list[np.ndarray]


def with_options(rule: Rule, **options: Any) -> Rule:
    """Return the rule with other options, which the rules inside it get too. Each takes those that it has."""
    own = {field.name: options[field.name] for field in fields(rule) if field.init and field.name in options}
    inner = {name: with_options(value, **options) for name, value in vars(rule).items() if isinstance(value, Rule)}
    return replace(rule, **own, **inner)


def all_cases() -> dict[str, Rule]:
    """Return the rules, and the variants of them."""
    return RULES | {name: replace(RULES[rule], **options) for name, (rule, options) in VARIANTS.items()}


def data_of(shape: tuple[int, ...], dtype: str, *, steps: int = 20, seed: int = 0) -> Data:
    """Return random data: gradients of many scales, some of them exactly 0."""
    rng = np.random.default_rng(seed)
    grads = rng.standard_normal((steps, *shape)) * 2.0 ** rng.integers(-6, 3, (steps, *shape))
    grads.reshape(steps, -1)[1::3, :1] = 0.0
    storage = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    return Data(np.asarray(rng.standard_normal(shape)).astype(storage), [np.asarray(g).astype(storage) for g in grads])


@quiet
def trajectory(
    rule: Rule,
    data: Data,
    array: Callable[[np.ndarray], Any],
    *,
    lr: float | Callable[[int], float] = 1e-2,
    decay: float = 1.0 - 1e-3,
    state: Any = None,
    first: int = 1,
) -> tuple[Any, Any]:
    """Return the parameter after all steps, and the state, by the pure functions that an optimizer calls.

    No argument may change. The arrays of NumPy may be read-only.
    """
    param = array(data.param)
    rule = rule.for_shape(tuple(param.shape))
    state = rule.init(param) if state is None else state
    for step, values in enumerate(data.grads, first):
        grad, key = array(values), NoiseKey(SEED, step - 1, INDEX)
        compute = rule.checked_compute_dtype(param, grad)
        g, x = (to_compute(a, compute) for a in detached(grad, param))
        rate = lr(step) if callable(lr) else lr
        at, wide = At(step, rate, compute, key, tuple(param.shape)), widen_states(state, compute)
        x, new = rule.advance(g, wide, x, at._replace(total=rule.summand(g, wide, x, at)), decay)
        assert_same_bits(grad, values, what="the gradient after the step")
        words = None
        if dtype_name(param) == "bfloat16":
            words = noise_in_range(key, 0, data.param.size, like=param).reshape(param.shape)
        state = round_states(new, state, partial(state_noise, key))
        param = array_namespace(param).asarray(to_storage(x, dtype_name(param), words))
    return param, state


def assert_same_trajectory(actual: tuple[Any, Any], expected: tuple[Any, Any], *, backend: str, what: str) -> None:
    """Raise unless parameters and states have the same bits."""
    assert_same_bits(actual[0], expected[0], backend=backend, what=f"{what}: the parameter")
    assert_same_state(actual[1], expected[1], backend=backend, what=what)


def assert_same_state(actual: Any, expected: Any, *, backend: str, what: str) -> None:
    """Raise unless two states have the same names and the same bits."""
    names = leaf_names(expected)
    assert leaf_names(actual) == names
    for name, leaf, other in zip(names, leaves(actual), leaves(expected), strict=True):
        assert (leaf is None) == (other is None)
        if leaf is not None:
            assert_same_bits(leaf, other, backend=backend, what=f"{what}: {name}")
