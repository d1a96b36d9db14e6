"""Inverse fourth roots by products are near those of an eigendecomposition."""

import numpy as np
import pytest

from rose_core.peers import PRISM
from rose_core.peers.matrix.inverse_root import between_inverse_fourth_roots
from rose_core.peers.matrix.newton_schulz import newton_schulz


def inverse_fourth_root(x: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(x)
    return vectors * values[..., None, :] ** -0.25 @ np.swapaxes(vectors, -1, -2)


@pytest.mark.parametrize("stack", [(), (3,)])
def test_the_product_between_inverse_fourth_roots(stack: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((*stack, n, n)) for n in (6, 4))
    left, right = (x @ np.swapaxes(x, -1, -2) + 0.1 * np.eye(x.shape[-1]) for x in (left, right))
    x = rng.standard_normal((*stack, 6, 4))
    result = between_inverse_fourth_roots(left, x, right, steps=12, eps=0.0, scale=1.0)
    expected = inverse_fourth_root(left) @ x @ inverse_fourth_root(right)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10 * np.max(np.abs(expected)))


def test_the_directions_of_prism_are_those_of_its_formulas() -> None:
    """With exact roots, up to the number of steps."""
    g, weight = np.random.default_rng(0).standard_normal((6, 4)), np.zeros((6, 4))
    m = 0.05 * g
    t, d = 0.95 * m + 0.05 * g, g - m
    both = PRISM(mode="bidirectional", inv_steps=14, inv_eps=0.0, inv_scale=1.0, gamma_l=0.5, gamma_r=2.0)
    outputs, inputs = t @ t.T + 4.0 * d @ d.T, t.T @ t + 0.25 * d.T @ d
    norm = np.sum(t**2) + 4.0 * np.sum(d**2)
    expected = inverse_fourth_root(outputs + 1e-6 * norm * np.eye(6)) @ t
    expected = expected @ inverse_fourth_root(inputs + 1e-6 * norm * np.eye(4))
    direction, _ = both.update(g, both.init(weight), weight, step=1)
    np.testing.assert_allclose(direction, expected, rtol=0, atol=1e-7)
    one = PRISM(coefficient_set="polar_express", steps=14, gamma=0.5, output_axis=1)
    values, vectors = np.linalg.eigh(t.T @ t + 0.25 * d.T @ d)
    direction, _ = one.update(g, one.init(weight), weight, step=1)
    np.testing.assert_allclose(direction, t @ (vectors * values**-0.5 @ vectors.T), rtol=0, atol=1e-7)
    assert newton_schulz(t, ()).shape == t.shape
