"""The matrix rules: same bits on every array library, options, stacks, and arrays of higher rank."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rose_core.peers import Kron, Rule
from rose_core.peers.matrix.layout import MatrixRule
from rose_core.peers.states import leaves
from tests.backends import Backend, backends
from tests.bits import assert_same_bits
from tests.peers.matrix_cases import MATRIX_RULES, MATRIX_VARIANTS
from tests.peers.trajectories import Data, assert_same_trajectory, data_of, trajectory
from tests.strategies import examples, fill, generators

VARIANTS: dict[str, Rule] = {
    name: replace(MATRIX_RULES[rule], **options) for name, (rule, options) in MATRIX_VARIANTS.items()
}
ALL_RULES = pytest.mark.parametrize("rule", MATRIX_RULES.values(), ids=MATRIX_RULES)
DTYPES = [("float32", None), ("float32", "bfloat16"), ("bfloat16", None), ("bfloat16", "bfloat16"), ("float64", None)]


def assert_same_on(backend: Backend, name: str, rule: Rule, data: Data, dtypes: tuple[str, str | None]) -> None:
    """Raise unless a trajectory has the bits of the one on NumPy. Skip dtypes that the library lacks."""
    if {dtypes[0], dtypes[1] or dtypes[0]} <= set(backend.dtypes):
        rule = replace(rule, state_dtype=dtypes[1])
        expected, actual = (trajectory(rule, data, array) for array in (np.asarray, backend.array))
        for line in (backend.name, f"peers.{type(rule).__name__}"):
            assert_same_trajectory(actual, expected, backend=line, what=f"{name} {dtypes}")


@backends
@pytest.mark.parametrize("name", MATRIX_RULES)
def test_a_trajectory_of_20_steps(backend: Backend, name: str) -> None:
    """A rule with its defaults runs with several dtypes, other ones with one pair of them."""
    for dtypes in (DTYPES[0], DTYPES[3]) if name.isalpha() else DTYPES[1:2]:
        assert_same_on(backend, name, MATRIX_RULES[name], data_of((5, 4), dtypes[0]), dtypes)


@backends
@given(
    name=st.sampled_from(list(MATRIX_RULES)),
    kind=st.sampled_from(["extremes", "subnormal", "zeros", "words", "edges"]),
    dtype=st.sampled_from(["float32", "float64"]),
    rng=generators(),
)
@examples(15)
def test_special_values(backend: Backend, name: str, kind: str, dtype: str, rng: np.random.Generator) -> None:
    """NaN, infinities, subnormals and large values."""
    data = Data(fill("normal", rng, (3, 4), dtype), [fill(kind, rng, (3, 4), dtype) for _ in range(3)])
    assert_same_on(backend, name, MATRIX_RULES[name], data, (dtype, None))


@ALL_RULES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_stay_finite(rule: Rule, dtype: str) -> None:
    param, state = trajectory(rule, data_of((5, 4), dtype), np.asarray)
    assert all(leaf is None or np.all(np.isfinite(leaf)) for leaf in (param, *leaves(state)))


@backends
@given(
    name=st.sampled_from(list(VARIANTS)),
    shape=st.sampled_from([(1, 1), (1, 5), (3, 4), (6, 2), (2, 3, 2)]),
    dtypes=st.sampled_from(DTYPES),
    compute=st.sampled_from(["fp64", "fp32"]),
    seed=st.integers(0, 2**16),
)
@examples(20)
def test_trajectories(
    backend: Backend, name: str, shape: tuple[int, ...], dtypes: tuple[str, str | None], compute: str, seed: int
) -> None:
    rule = replace(VARIANTS[name], compute_dtype=compute)
    assert_same_on(backend, name, rule, data_of(shape, dtypes[0], steps=3, seed=seed), dtypes)


@backends
@pytest.mark.parametrize("name", [name for name in MATRIX_RULES if name.isalpha()])
def test_two_steps_of_a_larger_matrix(backend: Backend, name: str) -> None:
    """Libraries multiply such matrices in blocks, and with vector instructions."""
    assert_same_on(backend, name, MATRIX_RULES[name], data_of((50, 37), "float32", steps=2), ("float32", None))


@pytest.mark.slow
@backends
@pytest.mark.parametrize("name", VARIANTS)
def test_a_trajectory_of_20_steps_of_each_variant(backend: Backend, name: str) -> None:
    dtypes = DTYPES[list(VARIANTS).index(name) % 5]
    assert_same_on(backend, name, VARIANTS[name], data_of((5, 4), dtypes[0]), dtypes)


@pytest.mark.parametrize("name", MATRIX_VARIANTS)
def test_every_option_changes_the_result(name: str) -> None:
    data = data_of((5, 4), "float64", steps=4)
    base, _ = trajectory(MATRIX_RULES[MATRIX_VARIANTS[name][0]], data, np.asarray)
    assert np.any(trajectory(VARIANTS[name], data, np.asarray)[0] != base)


@ALL_RULES
def test_every_option_has_a_case(rule: Rule) -> None:
    own = {field.name for field in fields(rule)} - {field.name for field in fields(MatrixRule)}
    name = type(rule).__name__
    assert own <= set().union(*(options for other, options in MATRIX_VARIANTS.values() if other.startswith(name)))


@ALL_RULES
def test_a_stack_is_updated_as_its_matrices_are(rule: Rule) -> None:
    data = data_of((3, 4, 2), "float64", steps=4)
    stacked, state = trajectory(replace(rule, batch_axes=(0,)), data, np.asarray)
    layers = 1 if isinstance(rule, Kron) else 3  # its noise differs from layer to layer
    for i in range(layers):
        one, one_state = trajectory(rule, Data(data.param[i], [grad[i] for grad in data.grads]), np.asarray)
        assert_same_bits(stacked[i], one)
        for leaf, other in zip(leaves(state), leaves(one_state), strict=True):
            if leaf is not None:
                assert_same_bits(leaf[i], other.reshape(leaf[i].shape))


@ALL_RULES
@pytest.mark.parametrize("shape", [(5,), (), (3, 4)])
def test_vectors_and_scalars_are_refused(rule: Rule, shape: tuple[int, ...]) -> None:
    rule = replace(rule, batch_axes=(0,)) if len(shape) == 2 else rule
    with pytest.raises(ValueError, match=rf"{type(rule).__name__} updates matrices and needs rank >= .*Partition"):
        rule.init(np.zeros(shape))


@ALL_RULES
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_matrices_are_left_alone(rule: Rule, shape: tuple[int, int]) -> None:
    param = np.zeros(shape)
    direction, _ = rule.update(param, rule.init(param), param, step=1)
    assert_same_bits(direction, param)
