"""Newton-Schulz steps: the polynomial of each singular value, and orthogonal results."""

import numpy as np
import pytest

from rose_core.peers.matrix.newton_schulz import COEFFICIENTS, coefficient_rows, newton_schulz, normalized

# For each set: steps, the range of singular values at first, and their largest distance from 1 afterwards.
DISTANCES = {
    "simple": (5, 0.05, 1.0, 0.33),
    "quintic": (5, 0.05, 1.0, 0.04),
    "polar_express": (9, 0.001, 1.0, 1e-6),
    "cans": (5, 0.05, 1.0, 0.13),
    "aol": (4, 0.05, 0.8, 0.25),
    "deepseekv4": (10, 0.05, 1.0, 1e-3),
    "cubic5": (5, 0.05, 1.0, 0.31),
}


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_singular_values_come_near_1(name: str) -> None:
    steps, low, high, distance = DISTANCES[name]
    s = np.linspace(low, high, 1000)
    for a, b, c in coefficient_rows(name, steps):
        s = a * s + b * s**3 + c * s**5
    assert np.max(np.abs(s - 1.0)) < distance


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (2, 5, 3)])
def test_a_step_maps_singular_values_by_its_polynomial(shape: tuple[int, ...]) -> None:
    x = normalized(np.random.default_rng(0).standard_normal(shape), 1e-15)
    u, s, v = np.linalg.svd(x, full_matrices=False)
    for a, b, c in (rows := COEFFICIENTS["quintic"]):
        s = a * s + b * s**3 + c * s**5
    np.testing.assert_allclose(newton_schulz(x, rows), u * s[..., None, :] @ v, rtol=0, atol=1e-13)


def test_sets_repeat_their_last_row_or_start_again() -> None:
    assert coefficient_rows("polar_express", 10)[7:] == ((1.875, -1.25, 0.375),) * 3
    assert coefficient_rows("deepseekv4", 11)[10] == (2.0, -1.5, 0.5)
    assert coefficient_rows("quintic", 10)[5:] == COEFFICIENTS["quintic"]
    assert coefficient_rows("custom", 4, ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))[2] == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(("name", "steps"), [("quintic", 7), ("aol", 5), ("cubic5", 10)])
def test_numbers_of_steps_that_do_not_converge_are_refused(name: str, steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be .* for the coefficients '{name}', got {steps}"):
        coefficient_rows(name, steps)


def test_aol_reverses_singular_values_near_1() -> None:
    """Other sets do not. The norm of a matrix of rank 1 is its singular value."""
    x = normalized(np.ones((3, 3)), 1e-15)
    for name in COEFFICIENTS:
        steps = 4 if name == "aol" else 5
        assert (np.sum(newton_schulz(x, coefficient_rows(name, steps)) * x) < 0.0) == (name == "aol")


def test_polar_express_is_the_published_set_divided_by_its_safety_factor() -> None:
    first = (8.28721201814563, -23.595886519098837, 17.300387312530933)
    expected = [x / 1.01**power for x, power in zip(first, (1, 3, 5), strict=True)]
    np.testing.assert_allclose(COEFFICIENTS["polar_express"][0], expected, rtol=0, atol=1e-4)


def test_a_zero_matrix_stays_zero() -> None:
    assert not np.any(newton_schulz(normalized(np.zeros((2, 3)), 1e-15), COEFFICIENTS["simple"]))
