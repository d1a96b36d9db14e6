"""The rules against rollfast, whose moments are in float32."""

from typing import Any

import numpy as np
import pytest

from rose_core import peers
from tests.comparators.comparing import DECAY, LR, assert_close, comparator, grads, param, run
from tests.peers.agreement import FLOAT32
from tests.peers.trajectories import data_of, trajectory

jax = comparator("jax")
optax = comparator("optax")
rollfast = comparator("rollfast")


def run_rollfast(transformation: Any) -> tuple[np.ndarray, Any]:
    x = jax.numpy.asarray(param(), jax.numpy.float32)
    state = transformation.init(x)
    for grad in grads():
        updates, state = transformation.update(jax.numpy.asarray(grad, jax.numpy.float32), state, x)
        x = optax.apply_updates(x, updates)
    return np.asarray(x), state


@pytest.mark.parametrize("nesterov", [False, True])
def test_adamw_agrees(nesterov: bool) -> None:
    theirs, _ = run_rollfast(rollfast.adamw(LR, weight_decay=DECAY, nesterov=nesterov))
    assert_close(run(peers.AdamW(nesterov=nesterov), decay=DECAY), theirs, "AdamW, rollfast", FLOAT32)


def test_magma_that_masks_nothing_agrees() -> None:
    theirs, _ = run_rollfast(rollfast.adamw(LR, weight_decay=DECAY, use_magma=True, magma_p=1.0))
    assert_close(run(peers.Magma(peers.AdamW(), p=1.0), decay=DECAY), theirs, "Magma, rollfast", FLOAT32)


@pytest.mark.parametrize("weighting", ["practical", "theoretical", "schedulet"])
def test_schedule_free_agrees(weighting: str) -> None:
    options = {"warmup_fraction": 0.2, "decay_fraction": 0.4}
    transformation = rollfast.schedule_free_adam(LR, 20, **options, weighting_mode=weighting, sf_b1=0.8)
    theirs, state = run_rollfast(transformation)
    schedule = peers.wsd_schedule(LR, 20, 0.2, 0.4, final_lr_ratio=None)
    rule = peers.ScheduleFree(peers.Adam(betas=(0.0, 0.999)), beta=0.8, weighting=weighting)
    data = data_of((6, 5), "float64")
    ours, own_state = trajectory(rule, data, np.asarray, lr=lambda step: schedule(step - 1), decay=1.0)
    assert_close(ours, theirs, "ScheduleFree, rollfast", FLOAT32)
    evaluated = np.asarray(rollfast.schedule_free_eval_params(state, jax.numpy.asarray(theirs)))
    assert_close(rule.evaluation_param(ours, own_state), evaluated, "ScheduleFree, rollfast", FLOAT32)


@pytest.mark.parametrize("fractions", [(0.1, 0.1), (0.0, 0.2), (0.3, 0.5)])
def test_the_schedule_agrees(fractions: tuple[float, float]) -> None:
    theirs, ours = (
        rollfast.wsd_schedule(0.5, 40, *fractions),
        peers.wsd_schedule(0.5, 40, *fractions, final_lr_ratio=None),
    )
    for step in range(40):
        assert ours(step) == pytest.approx(float(theirs(step)), rel=1e-6)


def test_evaluation_with_b1_of_0_is_0_there_and_refused_here() -> None:
    """Rollfast recovers x by a division by a small number in place of 0."""
    transformation = rollfast.schedule_free_adam(LR, 20, sf_b1=0.0)
    theirs, state = run_rollfast(transformation)
    assert np.all(np.asarray(rollfast.schedule_free_eval_params(state, jax.numpy.asarray(theirs))) == 0.0)
    with pytest.raises(ValueError, match="beta must be a finite number > 0"):
        peers.ScheduleFree(peers.Adam(), beta=0.0)
