"""Norms of numbers whose squares over- or underflow, and the rules that read them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rose_core import peers
from rose_core.namespace import quiet
from rose_core.peers.arithmetic import l2, rms, squares_of, total_of
from rose_core.peers.matrix.clipping import clipped_by_rms
from rose_core.peers.matrix.products import frobenius
from rose_core.summation import reproducible_sum
from tests.backends import Backend, backends
from tests.bits import assert_same_bits
from tests.peers.trajectories import with_options
from tests.strategies import examples

LARGE, SMALL = 2.0**600, 2.0**-600
"""Their squares over- and underflow in float64. Those of 2**80 and 2**-80 do in float32."""


@given(exponent=st.sampled_from([-1000, -600, -401, -399, 0, 399, 401, 600, 1000]), seed=st.integers(0, 2**16))
@examples(30)
def test_a_norm_scales_with_powers_of_two(exponent: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((3, 4))
    for norm in (l2, rms, frobenius, lambda a: l2(a, -1), lambda a: rms(a, (0,))):
        assert_same_bits(norm(x * 2.0**exponent), norm(x) * 2.0**exponent)


@given(exponent=st.sampled_from([-100, -80, 0, 80, 100]), seed=st.integers(0, 2**16))
@examples(30)
def test_a_norm_of_float32_scales_with_powers_of_two(exponent: int, seed: int) -> None:
    x, scale = np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32), np.float32(2.0**exponent)
    for norm in (l2, rms, frobenius, lambda a: l2(a, -1), lambda a: rms(a, (0,))):
        assert norm(x).dtype == np.float32
        assert_same_bits(norm(x * scale), np.asarray(norm(x) * scale))


@backends
@quiet
def test_norms_of_all_sizes_have_the_bits_of_numpy(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    for scale in (LARGE, SMALL, 2.0**-1060, 1.0):
        x = rng.standard_normal((5, 4)) * scale
        x[0, :2] = [-0.0, 0.0]
        for values in (x, np.where(x > 0.0, np.inf, x), np.where(x > 0.0, np.nan, x)):
            for axis in (None, (0,), (0, 1)):
                expected = l2(values, axis), rms(values, axis)
                actual = [norm(backend.array(values), axis) for norm in (l2, rms)]
                for one, other in zip(actual, expected, strict=True):
                    assert_same_bits(one, other, backend=backend.name)


def test_norms_of_ordinary_numbers_are_roots_of_sums() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 50, 7))
    sums = [reproducible_sum(z * z, axis=None) for z in (x, y)]
    total = reproducible_sum(np.stack(sums), axis=None)
    assert_same_bits(l2(x), np.sqrt(sums[0]))
    assert_same_bits(rms(x), np.sqrt(sums[0] / 350.0))
    assert_same_bits(peers.l2_norm([x, y]), np.asarray(np.sqrt(total)))
    both = total_of([squares_of(x), squares_of(y)])
    assert_same_bits(both.l2, np.sqrt(total))
    assert_same_bits(both.rms, np.sqrt(total / 700.0))


@pytest.mark.parametrize("scale", [LARGE, SMALL, 2.0**-1000])
def test_arrays_of_different_sizes_have_one_norm(scale: float) -> None:
    x = np.asarray([3.0, 4.0]) * max(scale, 1.0)
    y = np.asarray([12.0]) * min(scale, 1.0)
    assert float(peers.l2_norm([x, y])) == float(peers.l2_norm([y, x])) == 5.0 * max(scale, 1.0)
    joined = total_of([squares_of(np.asarray([3.0, 4.0]) * 2.0**399), squares_of(np.asarray([12.0]) * 2.0**399)])
    assert float(joined.l2) == 13.0 * 2.0**399  # one sum is scaled, the other is not


def test_the_public_norms_of_float64() -> None:
    for scale in (LARGE, SMALL, 1.0):
        grads = [np.asarray([3.0, np.nan]) * scale, np.asarray([[4.0], [-np.inf]]) * scale]
        assert float(peers.l2_norm(grads)) == 5.0 * scale
        assert float(peers.global_grad_clip_scale(grads, scale)) == 0.2
        assert float(peers.global_grad_clip_scale(grads, 6.0 * scale)) == 1.0


NORMS: dict[str, peers.Rule] = {
    "SpikeGuard": peers.SpikeGuard(peers.SGD(), max_norm=1.0),
    "SpikeGuard, tensor": peers.SpikeGuard(peers.SGD(), max_norm=1.0, scope="tensor"),
    "SpikeGuard, any finite norm": peers.SpikeGuard(peers.SGD()),
    "ClipUpdates": peers.ClipUpdates(peers.SGD(), max_abs=None),
    "ClipUpdates, global": peers.ClipUpdates(peers.SGD(), max_abs=None, mode="global_rms"),
    "MARS": peers.MARS(),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(("compute", "scale"), [("fp32", 2.0**100), ("fp64", 2.0**100), ("fp64", LARGE)])
def test_a_rule_reads_the_norm_of_large_gradients(name: str, compute: str, scale: float) -> None:
    """Its direction is that of a gradient which is smaller by a power of two, or larger by this power."""
    dtype = "float32" if compute == "fp32" else "float64"
    rule = with_options(NORMS[name], compute_dtype=compute)
    grad, x = np.asarray([[3.0, -4.0]], dtype) * np.asarray(16.0, dtype), np.zeros((1, 2), dtype)
    direction, _ = rule.update(grad, rule.init(x), x, step=1)
    large, _ = rule.update(grad * np.asarray(scale, dtype), rule.init(x), x, step=1)
    factor = scale if name == "SpikeGuard, any finite norm" else 1.0
    assert_same_bits(large, direction * np.asarray(factor, dtype), what=name)


def test_lamb_and_clips_of_small_numbers_in_float32() -> None:
    x, grad = np.full(3, 2.0**-80, np.float32), np.ones(3, np.float32)
    rule = peers.LAMB(compute_dtype="fp32", weight_decay=0.0)
    direction, _ = rule.update(grad, rule.init(x), x, step=1)
    assert_same_bits(direction, x)
    large = np.full((2, 3), 2.0**100, np.float32)
    assert_same_bits(clipped_by_rms(large, 2.0), np.full((2, 3), 2.0, np.float32))


@quiet
def test_magma_scores_gradients_of_all_sizes_in_float32() -> None:
    rule = peers.Magma(peers.SGD(momentum=0.9, compute_dtype="fp32"), p=1.0)
    scores = []
    for scale in (1.0, 2.0**100):
        x = np.zeros(3, np.float32)
        _, state = rule.update(np.asarray([1.0, 2.0, -1.0], np.float32) * np.float32(scale), rule.init(x), x, step=1)
        scores.append(float(state.score))
    assert scores[0] == scores[1]
