"""PSGD Kron: its factors whiten, in every mode, and its parts are what their names say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rose_core.noise import NoiseKey
from rose_core.peers import Kron
from rose_core.peers.base import At
from rose_core.peers.matrix.exponential import exponential
from rose_core.peers.matrix.factors import MODES, applied, balanced, nth_root
from rose_core.peers.matrix.normals import normal_draws, uniform_draw
from rose_core.peers.matrix.spectral_norm import VECTORS, spectral_norm
from rose_core.peers.matrix.triangular import solved
from tests.backends import Backend, backends
from tests.bits import assert_same_bits


def at_step(step: int) -> At:
    return At(step, 0.1, "fp64", NoiseKey(7, step - 1, 0), (4, 3))


def whitening_grads(count: int) -> list[np.ndarray]:
    """Return random gradients, whose elements have scales from 1/8 to 4."""
    rng = np.random.default_rng(0)
    scale = 2.0 ** np.arange(-2, 2)[:, None] * 2.0 ** np.arange(-1, 2)
    return [rng.standard_normal((4, 3)) * scale for _ in range(count)]


def whitened_squares(mode: str, grads: Sequence[np.ndarray], **options: Any) -> np.ndarray:
    """Return the mean square of each element of the whitened gradients, over the second half of the steps.

    Each gradient is whitened by the factors of the steps before it.
    """
    rule = Kron(mode=mode, max_skew=9.0, precond_lr=0.5, b1=0.0, update_clip=None, update_first=False)
    rule, param, squares = replace(rule, **options), np.zeros((4, 3)), []
    state = rule.init(param)
    for step, grad in enumerate(grads, 1):
        direction, state = rule.update(grad, state, param, step=step)
        squares.append(direction * direction)
    return np.mean(squares[len(squares) // 2 :], axis=0)


def assert_whitened(squares: np.ndarray) -> None:
    assert np.min(squares) > 0.5
    assert np.max(squares) < 2.5
    assert 0.85 < np.mean(squares) < 1.5


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_whitens_stationary_gradients(mode: str) -> None:
    assert_whitened(whitened_squares(mode, whitening_grads(100)))


def test_diagonal_factors_whiten_gradients_with_independent_elements() -> None:
    assert_whitened(whitened_squares("QUAD", whitening_grads(100), memory_save_mode="all_diag"))


def test_factors_that_are_not_fitted_do_not_whiten() -> None:
    """Proof that the tests above can fail."""
    squares = whitened_squares("QUAD", whitening_grads(40), min_probability=0.0, max_probability=0.0)
    assert np.min(squares) < 0.1
    assert np.max(squares) > 5.0


@pytest.mark.parametrize("mode", MODES)
def test_the_factors_move_at_the_first_step(mode: str) -> None:
    """In rlx-optim they do not: its probe is the gradient, and both sides of the difference are equal for ever."""
    rule, param, grad = Kron(mode=mode, init_scale=1.0), np.zeros((3, 3)), whitening_grads(1)[0][:3]
    state = rule.init(param)
    _, new = rule.update(grad, state, param, step=1)
    for before, after in zip(state.factors[:2], new.factors[:2], strict=True):
        assert np.max(np.abs(after - before)) > 1e-3


def test_normal_draws_have_the_moments_of_the_normal_distribution() -> None:
    draws = normal_draws(at_step(1), 0, (100_000,), np.empty(0))
    assert abs(np.mean(draws)) < 0.01
    assert abs(np.var(draws) - 1.0) < 0.01
    assert abs(np.mean(draws**3)) < 0.03
    assert abs(np.mean(draws**4) - 2.9) < 0.05
    assert abs(np.mean(draws[1:] * draws[:-1])) < 0.01
    assert np.max(np.abs(draws)) <= 6.0
    assert np.any(normal_draws(at_step(2), 0, (100,), np.empty(0)) != draws[:100])


def test_uniform_draws_are_uniform() -> None:
    draws = np.asarray([uniform_draw(at_step(step), 0) for step in range(1, 1001)])
    assert 0.0 <= np.min(draws) < 0.01
    assert 0.99 < np.max(draws) < 1.0
    assert abs(np.mean(draws) - 0.5) < 0.03


@backends
def test_draws_have_the_same_bits(backend: Backend) -> None:
    like = backend.array(np.zeros(1))
    expected = normal_draws(at_step(3), 2**58, (2, 3), np.zeros(1))
    assert_same_bits(normal_draws(at_step(3), 2**58, (2, 3), like), expected, backend=backend.name)


def test_the_probability_falls_from_its_maximum_to_its_minimum() -> None:
    rule = Kron()
    assert [rule.probability(step) for step in (1, 500, 10**6)] == [1.0, 1.0, 0.03]
    assert abs(rule.probability(1500) - np.exp(-1.0)) < 1e-15


DIAGONAL = {
    "square": ({}, (4, 4), [False, False]),
    "skewed": ({}, (8, 4), [True, False]),
    "skew allowed": ({"max_skew": 2.0}, (8, 4), [False, False]),
    "length 1": ({}, (1, 4), [True, True]),
    "long": ({"max_size": 3}, (4, 4), [True, True]),
    "three axes": ({}, (4, 3, 2), [False, False, False]),
    "few axes": ({"min_ndim": 3}, (4, 4), [True, True]),
    "one_diag": ({"memory_save_mode": "one_diag"}, (4, 4), [False, True]),
    "all_diag": ({"memory_save_mode": "all_diag"}, (4, 4), [True, True]),
    "layers do not count": ({"batch_axes": (0,)}, (100, 8, 4), [True, False]),
}


@pytest.mark.parametrize(("options", "shape", "expected"), DIAGONAL.values(), ids=DIAGONAL)
def test_which_factors_are_diagonal(options: dict[str, Any], shape: tuple[int, ...], expected: list[bool]) -> None:
    factors = Kron(**options).init(np.zeros(shape)).factors
    assert [q.ndim == 2 for q in factors if q is not None] == expected


def test_factors_start_at_the_scale_of_the_first_gradient() -> None:
    """Their product is the inverse eighth root of the mean fourth power."""
    rule, param = Kron(min_probability=0.0, max_probability=0.0), np.zeros((4, 3, 2))
    grad = np.random.default_rng(0).standard_normal((4, 3, 2))
    _, state = rule.update(grad, rule.init(param), param, step=1)
    scale = np.prod([q.reshape(-1)[0] for q in state.factors if q is not None])
    np.testing.assert_allclose(scale, np.mean(grad**4) ** (-1 / 8), rtol=1e-14)


def test_global_rms_scales_all_parameters_alike() -> None:
    rule = Kron(clip_mode="global_rms", update_clip=(0.01, 1.0), min_probability=0.0, max_probability=0.0)
    param, grad = np.zeros((4, 3)), whitening_grads(1)[0]
    state, plain = rule.init(param), replace(rule, update_clip=None)
    total = rule.summand(grad, state, param, at_step(1))
    assert total is not None
    direction, _ = rule.update(grad, state, param, step=1, total=total._replace(size=4 * total.size))
    unclipped, _ = plain.update(grad, state, param, step=1)
    rms = np.sqrt(np.mean(unclipped**2) / 4)
    np.testing.assert_allclose(direction, unclipped * 0.01 / rms, rtol=1e-14)
    assert plain.summand(grad, state, param, at_step(1)) is None


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_nth_root(n: int) -> None:
    x = np.asarray([[1e-30, 1e-3, 0.5, 1.0, 7.0, 1e20]])
    np.testing.assert_allclose(nth_root(x, n), x ** (1 / n), rtol=1e-14)


def test_balanced_factors_have_the_same_largest_magnitude_and_product() -> None:
    rng = np.random.default_rng(0)
    factors, x = [rng.standard_normal((2, 3, 3)), rng.standard_normal((2, 4)), rng.standard_normal((2, 5))], 1.0
    before = [np.max(np.abs(q.reshape(2, -1)), axis=1) for q in factors]
    after = [np.max(np.abs(q.reshape(2, -1)), axis=1) for q in balanced(factors)]
    np.testing.assert_allclose(np.prod(after, axis=0), np.prod(before, axis=0) * x, rtol=1e-14)
    np.testing.assert_allclose(after, np.broadcast_to(after[0], (3, 2)), rtol=1e-14)


def test_factors_act_along_their_axis() -> None:
    rng = np.random.default_rng(0)
    q, d, x = rng.standard_normal((2, 4, 4)), rng.standard_normal((2, 4)), rng.standard_normal((2, 3, 4, 5))
    np.testing.assert_allclose(applied(q, x, 2, twice=False), np.einsum("bij,bajc->baic", q, x), atol=1e-14)
    expected = np.einsum("bki,bkj,bajc->baic", q, q, x)
    np.testing.assert_allclose(applied(q, x, 2, twice=True), expected, atol=1e-13)
    np.testing.assert_allclose(applied(d, x, 2, twice=True), d[:, None, :, None] ** 2 * x, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-3, 0.5, 3.0])
def test_exponential(scale: float) -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 5))
    x = scale * (x + np.swapaxes(x, -1, -2)) / np.linalg.norm(x, 2, axis=(-2, -1))[:, None, None] / 2
    values, vectors = np.linalg.eigh(x)
    expected = vectors * np.exp(values)[:, None, :] @ np.swapaxes(vectors, -1, -2)
    np.testing.assert_allclose(exponential(x), expected, atol=1e-14 * np.exp(scale))


def test_triangular_systems() -> None:
    rng = np.random.default_rng(0)
    lower, b = rng.standard_normal((2, 5, 5)) + 3.0 * np.eye(5), rng.standard_normal((2, 5, 3))
    np.testing.assert_allclose(np.tril(lower) @ solved(lower, b), b, atol=1e-13)


def test_the_spectral_norm_is_a_lower_bound() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 6, 6))
    for each in (x @ np.swapaxes(x, -1, -2), x - np.swapaxes(x, -1, -2), np.zeros((3, 6, 6))):
        bound, norm = spectral_norm(each, rng.standard_normal((3, VECTORS, 6))), np.linalg.norm(each, 2, axis=(-2, -1))
        assert bound.shape == (3, 1, 1)
        assert np.all(bound[:, 0, 0] <= norm * (1 + 1e-14))
        assert np.all(bound[:, 0, 0] >= 0.8 * norm)


WRONG = {
    "whiten_grad=False needs b1 > 0": {"whiten_grad": False, "b1": 0.0},
    "min_probability must be <= max_probability, got 0.03 and 0.01": {"max_probability": 0.01},
    "mode must be one of 'Q0.5EQ1.5', 'EQ'": {"mode": "BEST"},
    r"update_clip must be a tuple of 2 numbers, got 2.0": {"update_clip": 2.0},
}


@pytest.mark.parametrize("text", WRONG)
def test_options_that_are_refused(text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        Kron(**WRONG[text])


def test_shapes_that_are_refused() -> None:
    with pytest.raises(ValueError, match="must name its axes, each once"):
        Kron(batch_axes=(0, -4)).init(np.zeros((2, 2, 2, 2)))
    with pytest.raises(ValueError, match="Kron has at most 6 axes"):
        Kron().init(np.zeros((1,) * 7))
