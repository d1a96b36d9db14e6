"""Every rule has the same bits on every array library: parameters and states after 20 steps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backends import Backend, backends
from tests.peers.cases import RULES
from tests.peers.trajectories import all_cases, assert_same_trajectory, data_of, trajectory
from tests.strategies import examples

CASES = all_cases()


@backends
@pytest.mark.parametrize("name", CASES)
def test_a_trajectory_of_20_steps(backend: Backend, name: str) -> None:
    for dtype, state_dtype in (("float32", None), ("float32", "bfloat16"), ("bfloat16", None), ("float64", None)):
        if dtype in backend.dtypes and (state_dtype or dtype) in backend.dtypes:
            rule, data = replace(CASES[name], state_dtype=state_dtype), data_of((6, 5), dtype)
            expected = trajectory(rule, data, np.asarray)
            actual = trajectory(rule, data, backend.array)
            assert_same_trajectory(actual, expected, backend=backend.name, what=f"{name} {dtype} {state_dtype}")


@backends
@given(
    name=st.sampled_from(list(CASES)),
    shape=st.sampled_from([(), (1,), (7,), (3, 4), (4, 3), (2, 3, 5)]),
    dtypes=st.sampled_from([("float32", None), ("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float64", None)]),
    compute=st.sampled_from(["fp64", "fp32"]),
    seed=st.integers(0, 2**16),
)
@examples(25)
def test_trajectories(
    backend: Backend, name: str, shape: tuple[int, ...], dtypes: tuple[str, str | None], compute: str, seed: int
) -> None:
    if not {dtypes[0], dtypes[1] or dtypes[0]} <= set(backend.dtypes):
        dtypes = "float32", None
    rule = replace(CASES[name], state_dtype=dtypes[1], compute_dtype=compute)
    try:
        rule.init(np.zeros(shape))
    except ValueError:  # a rule for matrices
        shape = (3, 4)
    data = data_of(shape, dtypes[0], steps=5, seed=seed)
    expected, actual = (trajectory(rule, data, array) for array in (np.asarray, backend.array))
    assert_same_trajectory(actual, expected, backend=backend.name, what=f"{rule} {shape} {dtypes}")


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_its_own_line_in_the_report(name: str) -> None:
    """The line counts the comparisons of the rule on torch."""
    from tests.backends import BACKENDS

    torch = next(backend for backend in BACKENDS if backend.name == "torch-1-thread")
    data = data_of((8, 6), "float32")
    expected, actual = (trajectory(RULES[name], data, array) for array in (np.asarray, torch.array))
    assert_same_trajectory(actual, expected, backend=f"peers.{name}", what=name)
