"""Every rule has the same bits on every array library: parameters and states after 20 steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backends import Backend, backends
from tests.peers.cases import RULES
from tests.peers.trajectories import Data, all_cases, assert_same_trajectory, data_of, trajectory, with_options
from tests.strategies import KINDS, TINY_KINDS, examples, fill

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
    dtypes=st.sampled_from([*DTYPES, ("float64", None), ("float16", None)]),
    compute=st.sampled_from(["fp64", "fp32"]),
    kind=st.sampled_from(list(KINDS)),
    seed=st.integers(0, 2**16),
)
@examples(40)
def test_trajectories(
    backend: Backend,
    name: str,
    shape: tuple[int, ...],
    dtypes: tuple[str, str | None],
    compute: str,
    kind: str,
    seed: int,
) -> None:
    """The gradients have NaN, infinities and subnormal numbers, too."""
    if backend.flushes and compute != "fp64" and kind in TINY_KINDS:
        kind = "normal"
    if not {dtypes[0], dtypes[1] or dtypes[0]} <= set(backend.dtypes):
        dtypes = "float32", None
    rule = with_options(CASES[name], state_dtype=dtypes[1], compute_dtype=compute)
    try:
        rule.init(np.zeros(shape))
    except ValueError:  # a rule for matrices
        shape = (3, 4)
    rng = np.random.default_rng(seed)
    grads = [fill(kind, rng, shape, dtypes[0]) for _ in range(4)]
    data = Data(fill("normal", rng, shape, dtypes[0]), grads)
    expected, actual = (trajectory(rule, data, array) for array in (np.asarray, backend.array))
    assert_same_trajectory(actual, expected, backend=backend.name, what=f"{rule} {shape} {dtypes} {kind}")


@backends
@pytest.mark.parametrize("name", RULES)
def test_two_steps_of_a_large_matrix(backend: Backend, name: str) -> None:
    """Torch takes two threads above 32768 elements, and NumPy sums in blocks of 128."""
    rng = np.random.default_rng(1)
    grads = [fill("below-two", rng, (211, 311), "float32") for _ in range(2)]
    data = Data(fill("normal", rng, (211, 311), "float32"), grads)
    expected, actual = (trajectory(RULES[name], data, array) for array in (np.asarray, backend.array))
    assert_same_trajectory(actual, expected, backend=backend.name, what=name)
