"""Limiting cases, in which one rule is another one bit for bit, and the values of originals that are wrong."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rose_core
from rose_core import peers
from rose_core.namespace import quiet
from rose_core.peers import Rule, Total
from rose_core.peers.elementwise.ademamix import half_life_warmup
from rose_core.peers.scalars import power, real_power
from tests.bits import assert_same_bits, words
from tests.peers.trajectories import assert_same_trajectory, data_of, trajectory

DATA = data_of((6, 5), "float32")
ADAM = peers.Adam()


def run(rule: Rule, **options: Any) -> np.ndarray:
    """Return the parameter after 20 steps."""
    result: np.ndarray = trajectory(rule, DATA, np.asarray, **options)[0]
    return result


EQUAL: dict[str, tuple[Rule, Rule]] = {
    "AdEMAMix with alpha 0 is Adam": (peers.AdEMAMix(alpha=0.0), ADAM),
    "QHAdamW with weights 1 is Adam": (peers.QHAdamW(betas=(0.9, 0.999), nus=(1.0, 1.0)), ADAM),
    "MARS with gamma 0 is Adam": (peers.MARS(betas=(0.9, 0.999), gamma=0.0, clip_c=False), ADAM),
    "NAdamW without a schedule is Adam with Nesterov's momentum": (peers.NAdamW(), replace(ADAM, nesterov=True)),
    "LaProp without momentum is Adam without momentum": (
        peers.LaProp(betas=(0.0, 0.999)),
        replace(ADAM, betas=(0.0, 0.999)),
    ),
    "Signum without momentum is sign descent": (peers.Signum(momentum=0.0), peers.Lion(betas=(0.0, 0.0))),
    "RMSprop is Adam without momentum and correction": (
        peers.RMSprop(alpha=0.999),
        replace(ADAM, betas=(0.0, 0.999), correct_bias=False),
    ),
    "a clip that is not reached changes nothing": (peers.ClipUpdates(ADAM, max_rms=1e9, max_abs=1e9), ADAM),
    "no limits clip nothing": (peers.ClipUpdates(ADAM, max_rms=None, max_abs=None), ADAM),
    "a guard without spikes changes nothing": (peers.SpikeGuard(ADAM, max_norm=1e9), ADAM),
    "a partition takes the first rule for matrices": (peers.Partition(ADAM, peers.Lion()), ADAM),
    "a partition takes the second rule below its rank": (peers.Partition(peers.Lion(), ADAM, min_ndim=3), ADAM),
}


@pytest.mark.parametrize("name", EQUAL)
def test_limiting_case(name: str) -> None:
    rule, other = EQUAL[name]
    assert_same_bits(run(rule), run(other))


@quiet
def test_madam_is_adam_without_eps_where_nothing_underflows() -> None:
    """Where the average is 0, Adam without eps is 0 / 0."""
    data = data_of((6, 5), "float32")
    data.grads[0][...] = np.where(data.grads[0] == 0.0, np.float32(1.0), data.grads[0])
    for scale in (0, 8, 16):
        rule = peers.MAdam(scale_log2=scale)
        assert_same_bits(trajectory(rule, data, np.asarray)[0], trajectory(replace(ADAM, eps=0.0), data, np.asarray)[0])


@quiet
def test_madam_with_a_scale_keeps_gradients_whose_square_underflows() -> None:
    """Squares of 2**-80 underflow in float32 without a scale."""
    grad, x = np.full(2, 2.0**-80, np.float32), np.zeros(2, np.float32)
    directions = [
        float(rule.update(grad, rule.init(x), x, step=1)[0][0])
        for scale in (0, 100)
        for rule in [peers.MAdam(scale_log2=scale, compute_dtype="fp32")]
    ]
    assert directions[0] == np.inf
    assert directions[1] == pytest.approx(1.0)


def test_sign_descent_moves_by_the_learning_rate() -> None:
    x, grad = np.asarray([1.0, 2.0, 3.0]), np.asarray([-4.0, 0.0, 1e-30])
    direction, _ = peers.Signum(momentum=0.0).update(grad, peers.Signum().init(x), x, step=1)
    assert_same_bits(direction, np.asarray([-1.0, 0.0, 1.0]))


def test_sophia_depends_on_its_hessian_its_scale_and_its_least_divisor() -> None:
    x, grad = np.zeros(2), np.asarray([1.0, -1.0])
    results = []
    changes: list[dict[str, Any]] = [{}, {"gamma": 0.5}, {"eps": 0.5}, {"betas": (0.9, 0.5)}]
    for options, hessian in [({}, 3.0), *((change, 1.0) for change in changes)]:
        rule = peers.SophiaH(**({"rho": 1e9, "betas": (0.9, 0.9)} | options))
        state = rule.update_hessian(np.full(2, hessian), rule.init(x))
        results.append(float(rule.update(grad, state, x, step=1)[0][0]))
    assert len(set(results)) == len(results)


def test_lion_keeps_nan_where_rlx_optim_freezes_the_coordinate() -> None:
    """There the sign of NaN is 0, so the parameter silently stays while the average is NaN for ever."""
    x, grad = np.ones(2), np.asarray([np.nan, 1.0])
    direction, state = peers.Lion().update(grad, peers.Lion().init(x), x, step=1)
    assert np.isnan(direction[0])
    assert direction[1] == 1.0
    assert np.isnan(state.exp_avg[0])


def test_adafactor_does_not_shrink_its_moment_by_the_number_of_rows() -> None:
    """rlx-optim divides by the sum of the row means, where the mean is right: its update is 8 times too large here."""
    rng = np.random.default_rng(0)
    grad, x = rng.standard_normal((64, 16)), np.zeros((64, 16))
    rule = peers.Adafactor(step_size="constant", scale_parameter=False, clip_threshold=1e9)
    direction, _ = rule.update(grad, rule.init(x), x, step=1)
    rows, columns = np.mean(grad**2, 1, keepdims=True), np.mean(grad**2, 0, keepdims=True)
    theirs = grad / np.sqrt(rows * columns / np.sum(rows))
    assert np.sqrt(np.mean(direction**2)) == pytest.approx(1.0, rel=0.05)
    np.testing.assert_allclose(theirs, 8.0 * direction, rtol=1e-9)


@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.0])
def test_adafactor_clips_to_its_threshold(threshold: float) -> None:
    """An update with a root mean square of 3 gets that of the threshold. rlx-optim gives 0.5 for a threshold of 2."""
    x, first, second = np.zeros(4), np.full(4, 1.0), np.full(4, 1e3)
    rule = peers.Adafactor(step_size="constant", scale_parameter=False, clip_threshold=threshold, beta2_decay=-0.01)
    _, state = rule.update(first, rule.init(x), x, step=1)
    unclipped = second / np.sqrt(state.variance * (1 - 1000**-0.01) + second**2 * 1000**-0.01)
    assert np.sqrt(np.mean(unclipped**2)) < 1.1  # so the clip is not reached here above 1.1
    direction, _ = rule.update(second, state, x, step=1000)
    assert np.sqrt(np.mean(direction**2)) == pytest.approx(min(threshold, np.sqrt(np.mean(unclipped**2))), rel=1e-6)


def test_a_half_life_warmup_goes_from_the_first_to_the_last_rate() -> None:
    rates = [half_life_warmup(0.9, 0.999, step, 100) for step in range(102)]
    assert rates[0] == pytest.approx(0.9, abs=1e-7)
    assert rates[100] == rates[101] == 0.999
    assert rates == sorted(rates)
    half_lives = [np.log(0.5) / np.log(rate) for rate in rates[:101]]
    np.testing.assert_allclose(np.diff(half_lives), np.diff(half_lives)[0], rtol=2e-3)
    assert rates[50] != pytest.approx((0.9 + 0.999) / 2, abs=1e-2)  # not linear in the rate


def test_real_powers_agree_with_those_of_the_c_library() -> None:
    for base, exponent in ((0.96, 0.004), (20.0, -0.8), (1.0, -0.8), (0.5, 0.3)):
        assert real_power(base, exponent) == pytest.approx(base**exponent, rel=1e-15)


def test_lamb_has_a_trust_ratio_of_1_where_a_norm_is_0() -> None:
    rule, zeros, ones = peers.LAMB(weight_decay=0.0), np.zeros(2), np.ones(2)
    assert_same_bits(
        rule.update(ones, rule.init(zeros), zeros, step=1)[0],
        replace(ADAM, eps=1e-6).update(ones, rule.init(zeros), zeros, step=1)[0],
    )
    assert_same_bits(rule.update(zeros, rule.init(ones), ones, step=1)[0], zeros)
    direction = rule.update(2.0 * ones, rule.init(ones), 3.0 * ones, step=1)[0]
    np.testing.assert_allclose(direction, 3.0 * ones, rtol=1e-12)  # the direction has the norm of the parameter


def test_sophia_moves_by_rho_before_the_first_estimate() -> None:
    rule, x, grad = peers.SophiaH(), np.zeros(3), np.asarray([2.0, -1e-3, 0.0])
    assert_same_bits(rule.update(grad, rule.init(x), x, step=1)[0], np.asarray([0.04, -0.04, 0.0]))


def test_the_slow_average_of_ademamix_is_never_corrected() -> None:
    rule, x, grad = peers.AdEMAMix(betas=(0.9, 0.999, 0.75), eps=0.0), np.zeros(1), np.ones(1)
    direction, _ = rule.update(grad, rule.init(x), x, step=1)
    assert float(direction[0]) == pytest.approx(1.0 + 2.0 * 0.25)
    assert float(direction[0]) != pytest.approx(1.0 + 2.0 * 0.25 / (1.0 - 0.75))


def test_a_lerp_rounds_differently_than_an_average_here() -> None:
    """NOTE: [moving averages]."""
    rng = np.random.default_rng(0)
    m, g = rng.standard_normal((2, 1000))
    state = peers.Lion(betas=(0.9, 0.9)).init(m)._replace(exp_avg=m)
    ours = peers.Lion(betas=(0.9, 0.9)).update(g, state, m, step=1)[1].exp_avg
    lerp = m + (1.0 - 0.9) * (g - m)
    assert np.count_nonzero(ours != lerp) > 100
    np.testing.assert_allclose(ours, lerp, rtol=0, atol=1e-15)


# Rose


@pytest.mark.parametrize("shape", [(), (7,), (6, 5), (2, 3, 4)])
@pytest.mark.parametrize("options", [{}, {"centralize": False}, {"stabilize": False}])
@pytest.mark.parametrize("compute", ["fp64", "fp32"])
def test_rose_has_the_bits_of_the_core_for_a_power_of_two_as_lr(
    shape: tuple[int, ...], options: dict[str, Any], compute: str
) -> None:
    data = data_of(shape, "float32", steps=3)
    actual = trajectory(peers.Rose(**options, compute_dtype=compute), data, np.asarray, lr=0.125, decay=1.0)[0]
    expected = data.param
    for grad in data.grads:
        expected = rose_core.update(expected, grad, lr=0.125, weight_decay=0.0, compute_dtype=compute, **options)
    assert_same_bits(actual, expected)


def test_rose_may_differ_from_the_core_in_the_last_bits_for_another_lr() -> None:
    """The core multiplies by the learning rate first (ROSE-6.1)."""
    data = data_of((200, 50), "float64", steps=1)
    actual = trajectory(peers.Rose(), data, np.asarray, lr=1e-3, decay=1.0)[0]
    expected = rose_core.update(data.param, data.grads[0], lr=1e-3, weight_decay=0.0)
    assert 0 < np.count_nonzero(words(actual) != words(expected)) < 0.2 * actual.size
    np.testing.assert_allclose(actual, expected, rtol=1e-15, atol=1e-18)


# Wrappers


def test_schedule_free_descent_evaluates_at_the_average_of_the_iterates() -> None:
    rule, x = peers.ScheduleFree(peers.SGD(), weighting="theoretical"), np.asarray([2.0])
    state, iterates = rule.init(x), []
    for step in range(1, 11):
        direction, state = rule.update(x, state, x, step=step, lr=0.25)
        x = x - 0.25 * direction
        iterates.append(state.z)
    np.testing.assert_allclose(rule.evaluation_param(x, state), np.mean(iterates, axis=0), rtol=1e-12)
    np.testing.assert_allclose(x, 0.9 * np.mean(iterates, axis=0) + 0.1 * state.z, rtol=1e-12)


def test_schedule_free_with_lr_0_stays() -> None:
    rule, x = peers.ScheduleFree(peers.Adam()), np.asarray([2.0, -3.0])
    direction, state = rule.update(x, rule.init(x), x, step=1, lr=0.0)
    assert_same_bits(direction, np.zeros(2))
    np.testing.assert_allclose(rule.evaluation_param(x, state), x, rtol=1e-15)


def test_magma_masks_whole_tensors_as_often_as_p_says() -> None:
    rule, x = peers.Magma(peers.SGD(momentum=0.9), p=0.25), np.ones((2, 2))
    state, kept = rule.init(x), []
    for step in range(1, 401):
        direction, state = rule.update(np.ones((2, 2)), state, x, step=step)
        assert np.all(direction == 0.0) or np.all(direction != 0.0)
        kept.append(bool(direction[0, 0]))
    assert 70 < sum(kept) < 130
    others = [bool(rule.update(np.ones((2, 2)), state, x, step=step, index=1)[0][0, 0]) for step in range(1, 401)]
    assert kept != others


def test_magma_moves_the_state_of_its_rule_where_it_masks_the_step() -> None:
    rule, inner, x = peers.Magma(peers.SGD(momentum=0.9), p=0.01), peers.SGD(momentum=0.9), np.ones(2)
    state, expected = rule.init(x), inner.init(x)
    for step in range(1, 4):
        direction, state = rule.update(x, state, x, step=step)
        _, expected = inner.update(x, expected, x, step=step)
        assert_same_bits(direction, np.zeros(2))
        assert_same_bits(state.rule.momentum_buffer, expected.momentum_buffer)


def test_magma_scores_the_agreement_of_gradient_and_momentum() -> None:
    rule, x = peers.Magma(peers.SGD(momentum=0.9), p=1.0), np.zeros(3)
    grad = np.asarray([1.0, 2.0, -1.0])
    direction, state = rule.update(grad, rule.init(x), x, step=1)
    score = 0.9 * 0.5 + 0.1 / (1.0 + np.exp(-0.5))
    assert float(state.score) == pytest.approx(score, rel=1e-13)
    np.testing.assert_allclose(direction, score * grad, rtol=1e-13)
    _, nan_state = rule.update(np.full(3, np.nan), rule.init(x), x, step=1)
    assert float(nan_state.score) == pytest.approx(0.9 * 0.5 + 0.1 * 0.5, rel=1e-13)


def test_magma_refuses_a_rule_without_momentum() -> None:
    with pytest.raises(ValueError, match="has no momentum"):
        peers.Magma(peers.SGD()).init(np.zeros(2))


def test_updates_are_clipped_by_their_rms_and_then_by_their_amplitude() -> None:
    rule, x = peers.ClipUpdates(peers.SGD(), max_rms=2.0, max_abs=3.0), np.zeros(4)
    grad = np.asarray([8.0, 0.0, 0.0, 0.0])
    direction, _ = rule.update(grad, rule.init(x), x, step=1)
    assert_same_bits(direction, np.asarray([3.0, 0.0, 0.0, 0.0]))  # the rms of 4 becomes 2, the 4 becomes 3
    total = Total(np.asarray(4.0 * 100.0), 4)
    global_rule = peers.ClipUpdates(peers.SGD(), mode="global_rms", max_abs=None)
    direction, _ = global_rule.update(grad, global_rule.init(x), x, step=1, total=total)
    assert_same_bits(direction, np.asarray([1.6, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("on_spike", ["clip", "skip"])
def test_a_gradient_that_is_not_finite_skips_the_step_with_its_decay(bad: float, on_spike: str) -> None:
    """NaN passes the guard of rollfast, and infinity becomes NaN there. Its skipped steps decay the parameter."""
    rule = peers.SpikeGuard(ADAM, max_norm=1.0, on_spike=on_spike)
    before = trajectory(rule, DATA, np.asarray)
    grad = np.ones((6, 5), np.float32)
    grad[2, 3] = bad
    after = trajectory(rule, DATA._replace(param=before[0], grads=[grad]), np.asarray, state=before[1], first=21)
    assert_same_trajectory(after, before, backend="", what="skipped")
    direction, _ = rule.update(grad, before[1], before[0], step=21)
    assert_same_bits(direction, np.zeros((6, 5)))


@pytest.mark.parametrize("on_spike", ["clip", "skip"])
@quiet
def test_a_finite_gradient_whose_norm_overflows_skips_the_step(on_spike: str) -> None:
    rule, x = peers.SpikeGuard(ADAM, on_spike=on_spike), np.zeros(6)
    direction, state = rule.update(np.full(6, 1.7e308), rule.init(x), x, step=1)
    assert_same_bits(direction, x)
    assert_same_bits(state.rule.exp_avg, x)


def test_a_spike_is_clipped_or_skipped() -> None:
    x, grad = np.zeros(2), np.asarray([3.0, 4.0])
    clip, skip = (peers.SpikeGuard(peers.SGD(), max_norm=2.5, on_spike=mode) for mode in ("clip", "skip"))
    assert_same_bits(clip.update(grad, clip.init(x), x, step=1)[0], np.asarray([1.5, 2.0]))
    assert_same_bits(skip.update(grad, skip.init(x), x, step=1)[0], np.zeros(2))
    assert_same_bits(skip.update(grad / 2, skip.init(x), x, step=1)[0], grad / 2)


def test_two_norms_over_all_parameters_are_refused() -> None:
    inner = peers.ClipUpdates(ADAM, mode="global_rms")
    with pytest.raises(ValueError, match="reads a norm over all parameters, too"):
        peers.SpikeGuard(inner)
    assert peers.SpikeGuard(inner, scope="tensor").reads_total
    with pytest.raises(ValueError, match="must read no norm over all parameters; put it inside the wrapper"):
        peers.Partition(inner, ADAM)


def test_a_wrapper_takes_the_default_decay_and_the_compute_dtype_of_its_rule() -> None:
    rule = peers.SpikeGuard(peers.ClipUpdates(peers.SophiaH(compute_dtype="fp32")))
    assert rule.default_weight_decay == 0.1
    assert rule.compute_dtype == "fp32"
    assert eval(repr(rule), vars(peers)) == rule
    with pytest.raises(TypeError, match=r"rule must be a rule of rose_core\.peers"):
        peers.SpikeGuard("adam")


def test_the_power_of_a_large_step_is_0_without_a_warning() -> None:
    assert power(0.9, 2**31) == 0.0
