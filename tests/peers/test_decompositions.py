"""Decompositions from elementwise operations: accurate, in every library the same bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rose_core.peers.matrix.eigenvectors import eigenvectors, rounds
from rose_core.peers.matrix.orthonormal import orthonormal
from tests.backends import Backend, backends
from tests.bits import assert_same_bits
from tests.strategies import examples, generators

SIDES = st.integers(1, 9)


def covariance(rng: np.random.Generator, stack: tuple[int, ...], n: int, rank: int, scale: float) -> np.ndarray:
    """Return positive semidefinite matrices of a rank, with axes of different scales."""
    g = rng.standard_normal((*stack, n, rank)) * 2.0 ** rng.integers(-10, 3, (*stack, n, 1)) * scale
    return np.asarray(g @ np.swapaxes(g, -1, -2))


@given(n=st.integers(1, 12))
@examples(12)
def test_each_pair_meets_once(n: int) -> None:
    pairs = [(i, j) for partner in rounds(n) for i, j in enumerate(partner) if i < j]
    assert sorted(pairs) == [(i, j) for i in range(n) for j in range(i + 1, n)]
    assert all(partner[partner[i]] == i for partner in rounds(n) for i in range(n))


@given(
    rng=generators(), stack=st.sampled_from([(), (3,)]), n=SIDES, rank=SIDES, scale=st.sampled_from([1.0, 1e-60, 1e40])
)
@examples(60)
def test_eigenvectors_diagonalize(
    rng: np.random.Generator, stack: tuple[int, ...], n: int, rank: int, scale: float
) -> None:
    x = covariance(rng, stack, n, rank, scale)
    values, vectors = eigenvectors(x)
    largest = np.max(np.abs(values), axis=-1, keepdims=True)[..., None]
    assert np.all(np.abs(np.swapaxes(vectors, -1, -2) @ vectors - np.eye(n)) < 1e-13)
    assert np.all(np.abs(x @ vectors - vectors * values[..., None, :]) < 1e-13 * largest)
    assert np.all(values[..., :-1] >= values[..., 1:])
    assert np.all(np.abs(values - np.linalg.eigvalsh(x)[..., ::-1]) < 1e-13 * largest[..., 0])
    assert np.all(np.max(vectors, axis=-2) >= -np.min(vectors, axis=-2))


EIGEN = {
    "zeros": (np.zeros((3, 3)), [0, 0, 0]),
    "one": (np.asarray([[4.0]]), [4]),
    "diagonal": (np.diag([1.0, 3.0, 2.0]), [3, 2, 1]),
    "equal diagonal elements": (np.asarray([[0.0, 1.0], [1.0, 0.0]]), [1, -1]),
    "a double eigenvalue": (np.ones((3, 3)) + np.eye(3), [4, 1, 1]),
    "negative": (-np.ones((2, 2)), [0, -2]),
}


@pytest.mark.parametrize(("x", "values"), EIGEN.values(), ids=EIGEN)
def test_eigenvalues_of_small_matrices(x: np.ndarray, values: list[float]) -> None:
    np.testing.assert_allclose(eigenvectors(x)[0], np.asarray(values, np.float64), rtol=0, atol=1e-14)


def test_an_absolute_threshold_would_leave_small_gradients_alone() -> None:
    """rlx-optim compares with 1e-6, so gradients of 1e-4 keep the basis I."""
    x = covariance(np.random.default_rng(0), (), 4, 4, 1e-4)
    assert np.max(np.abs(x - np.diag(np.diag(x)))) < 1e-6
    assert_same_bits(eigenvectors(x * 2.0**20)[1], eigenvectors(x)[1])


@given(rng=generators(), stack=st.sampled_from([(), (3,)]), n=SIDES, rank=SIDES)
@examples(60)
def test_orthonormal_is_the_factor_of_qr(rng: np.random.Generator, stack: tuple[int, ...], n: int, rank: int) -> None:
    x = rng.standard_normal((*stack, n, rank)) @ rng.standard_normal((*stack, rank, n))
    q = orthonormal(x)
    assert np.all(np.abs(np.swapaxes(q, -1, -2) @ q - np.eye(n)) < 1e-14)
    r = np.swapaxes(q, -1, -2) @ x
    assert np.all(np.abs(np.tril(r, -1)) < 1e-13 * np.max(np.abs(x)))
    assert np.all(np.diagonal(r, axis1=-2, axis2=-1) > -1e-13 * np.max(np.abs(x)))


@pytest.mark.parametrize("x", [np.zeros((3, 3)), np.eye(3), np.diag([2.0, 0.0, 1e-300]), np.zeros((0, 0))])
def test_the_factor_of_a_nonnegative_diagonal_is_the_identity(x: np.ndarray) -> None:
    assert np.all(orthonormal(x) == np.eye(x.shape[0]))


@backends
@given(
    rng=generators(),
    stack=st.sampled_from([(), (2,)]),
    n=SIDES,
    rank=SIDES,
    dtype=st.sampled_from(["float64", "float32"]),
)
@examples(15)
def test_decompositions_have_the_same_bits(
    backend: Backend, rng: np.random.Generator, stack: tuple[int, ...], n: int, rank: int, dtype: str
) -> None:
    x = covariance(rng, stack, n, rank, 1.0).astype(dtype)
    x = (x + np.swapaxes(x, -1, -2)) / 2
    for actual, expected in zip(eigenvectors(backend.array(x)), eigenvectors(x), strict=True):
        assert_same_bits(actual, expected, backend=backend.name)
    assert_same_bits(orthonormal(backend.array(x)), orthonormal(x), backend=backend.name)
