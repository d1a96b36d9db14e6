"""Every rule has the same bits on every array library: parameters and states after 20 steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backends import Backend, backends
from tests.peers.cases import RULES
from tests.peers.trajectories import all_cases, assert_same_trajectory, data_of, trajectory, with_options
from tests.strategies import examples

CASES = all_cases()
DTYPES = [("float32", None), ("float32", "bfloat16"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")]


@backends
@pytest.mark.parametrize("name", CASES)
def test_a_trajectory_of_20_steps(backend: Backend, name: str) -> None:
    dtypes = DTYPES if name in RULES else DTYPES[:1]
    for dtype, state_dtype in dtypes:
        if {dtype, state_dtype or dtype} <= set(backend.dtypes):
            rule, data = with_options(CASES[name], state_dtype=state_dtype), data_of((6, 5), dtype)
            expected, actual = (trajectory(rule, data, array) for array in (np.asarray, backend.array))
            what = f"{name} {dtype} {state_dtype}"
            assert_same_trajectory(actual, expected, backend=backend.name, what=what)
            assert_same_trajectory(actual, expected, backend=f"peers.{name.partition(',')[0]}", what=what)


@backends
@given(
    name=st.sampled_from(list(CASES)),
    shape=st.sampled_from([(), (1,), (7,), (3, 4), (4, 3), (2, 3, 5)]),
    dtypes=st.sampled_from([*DTYPES, ("float64", None)]),
    compute=st.sampled_from(["fp64", "fp32"]),
    seed=st.integers(0, 2**16),
)
@examples(15)
def test_trajectories(
    backend: Backend, name: str, shape: tuple[int, ...], dtypes: tuple[str, str | None], compute: str, seed: int
) -> None:
    if not {dtypes[0], dtypes[1] or dtypes[0]} <= set(backend.dtypes):
        dtypes = "float32", None
    rule = with_options(CASES[name], state_dtype=dtypes[1], compute_dtype=compute)
    try:
        rule.init(np.zeros(shape))
    except ValueError:  # a rule for matrices
        shape = (3, 4)
    data = data_of(shape, dtypes[0], steps=4, seed=seed)
    expected, actual = (trajectory(rule, data, array) for array in (np.asarray, backend.array))
    assert_same_trajectory(actual, expected, backend=backend.name, what=f"{rule} {shape} {dtypes}")
