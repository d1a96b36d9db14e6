"""SOAP: its directions are those of its formulas, written with NumPy's decompositions, for every choice of systems."""

from typing import Any

import numpy as np
import pytest

from rose_core.peers import SOAP, Adam

SHAPE = (5, 4)

# The first gradient is diagonal in its bases. With a tiny eps, Adam would scale up the rounding errors beside it.
EPS = 1e-3


def gradients(count: int, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(SHAPE) * scale for _ in range(count)]


def directions(rule: Any, grads: list[np.ndarray]) -> list[np.ndarray]:
    param, result = np.zeros(SHAPE), []
    state = rule.init(param)
    for step, grad in enumerate(grads, 1):
        direction, state = rule.update(grad, state, param, step=step)
        result.append(direction)
    return result


def eigenvectors_of(x: np.ndarray) -> np.ndarray:
    """Return the eigenvectors, sorted and signed as ours are."""
    vectors = np.linalg.eigh(x)[1][:, ::-1]
    return vectors * np.where(np.max(vectors, axis=0) >= -np.min(vectors, axis=0), 1.0, -1.0)


def reference(grads: list[np.ndarray], *, rotate: bool, kl: bool) -> list[np.ndarray]:
    """Return the directions with eigenvectors at each step."""
    left, right, u, v = np.zeros((5, 5)), np.zeros((4, 4)), np.eye(5), np.eye(4)
    m, second, result = np.zeros(SHAPE), np.zeros(SHAPE), []
    for step, g in enumerate(grads, 1):
        if kl:
            by_right = v / np.maximum(np.diag(v.T @ right @ v), EPS) @ v.T if step > 1 else np.eye(4)
            by_left = u / np.maximum(np.diag(u.T @ left @ u), EPS) @ u.T if step > 1 else np.eye(5)
            left, right = 0.95 * left + 0.05 * g @ by_right @ g.T / 4, 0.95 * right + 0.05 * g.T @ by_left @ g / 5
        else:
            left, right = 0.95 * left + 0.05 * g @ g.T, 0.95 * right + 0.05 * g.T @ g
        if rotate and step > 1:
            m = u @ m @ v.T
        u, v = eigenvectors_of(left), eigenvectors_of(right)
        if rotate and step > 1:
            m = u.T @ m @ v
        projected = u.T @ g @ v
        m, second = 0.9 * m + 0.1 * projected, 0.8 * second + 0.2 * projected**2
        corrected = m / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.8**step)) + EPS)
        result.append(u @ corrected @ v.T)
    return result


@pytest.mark.parametrize("rotate", [True, False])
@pytest.mark.parametrize("kl", [True, False])
def test_directions_with_eigenvectors_at_each_step(rotate: bool, kl: bool) -> None:
    options = {"precondition_frequency": 1, "basis": "jacobi", "rotate_moments": rotate, "kl_shampoo": kl}
    rule = SOAP(betas=(0.9, 0.8), eps=EPS, **options)
    grads = gradients(6)
    for actual, expected in zip(directions(rule, grads), reference(grads, rotate=rotate, kl=kl), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


def test_small_gradients_have_their_own_bases() -> None:
    """In rlx-optim, gradients of 1e-4 keep the basis of the parameter, and SOAP is Adam."""
    rule, adam = SOAP(betas=(0.9, 0.8), eps=0.0), Adam(betas=(0.9, 0.8), eps=0.0)
    small, large = directions(rule, gradients(3, 2.0**-14)), directions(rule, gradients(3))
    np.testing.assert_allclose(small, large, rtol=0, atol=1e-10)
    assert np.max(np.abs(np.subtract(small, directions(adam, gradients(3))))) > 0.1


def test_without_bases_it_is_adam() -> None:
    grads = gradients(5)
    adam = directions(Adam(betas=(0.95, 0.95)), grads)
    np.testing.assert_array_equal(directions(SOAP(max_size=3), grads), adam)


def test_the_first_step_of_the_authors_only_fills_the_covariances() -> None:
    grads = gradients(3)
    first, *others = directions(SOAP(current_gradient=False), grads)
    assert not np.any(first)
    assert all(np.any(other) for other in others)


def test_exact_averages_of_the_covariances() -> None:
    """The first covariance is G G', and the second one the average of both, weighted by the decay."""
    a, b = gradients(2)
    rule, param = SOAP(correct_shampoo_beta=True), np.zeros(SHAPE)
    _, state = rule.update(a, rule.init(param), param, step=1)
    np.testing.assert_allclose(state.outputs.covariance[0], a @ a.T, atol=1e-14)
    _, state = rule.update(b, state, param, step=2)
    expected = (0.95 * a @ a.T + b @ b.T) / 1.95
    np.testing.assert_allclose(state.outputs.covariance[0], expected, atol=1e-14)
