"""The rules against optax, in float64."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from rose_core import peers
from rose_core.peers import Rule
from tests.comparators.comparing import DECAY, LR, assert_close, comparator, grads, param, run
from tests.peers.agreement import FLOAT64, OPTAX_ADAFACTOR
from tests.peers.trajectories import data_of, trajectory

jax = comparator("jax")
optax = comparator("optax")


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def run_optax(transformation: Any) -> tuple[np.ndarray, Any]:
    """Return the parameter after 20 steps, and the state."""
    x = jax.numpy.asarray(param())
    state = transformation.init(x)
    for grad in grads():
        updates, state = transformation.update(jax.numpy.asarray(grad), state, x)
        x = optax.apply_updates(x, updates)
    return np.asarray(x), state


ADAM = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}
BETAS = {"betas": (0.8, 0.95), "eps": 1e-3}
CASES: dict[str, tuple[Rule, Callable[[], Any], float]] = {
    "SGD": (peers.SGD(momentum=0.9, nesterov=True), lambda: optax.sgd(LR, momentum=0.9, nesterov=True), 0.0),
    "Adam": (peers.Adam(**BETAS, eps_root=1e-2), lambda: optax.adam(LR, **ADAM, eps_root=1e-2), 0.0),
    "Adam, Nesterov": (peers.Adam(**BETAS, nesterov=True), lambda: optax.adam(LR, **ADAM, nesterov=True), 0.0),
    "AdamW": (peers.AdamW(**BETAS), lambda: optax.adamw(LR, **ADAM, weight_decay=DECAY), DECAY),
    "NAdamW": (peers.NAdamW(**BETAS), lambda: optax.nadamw(LR, **ADAM, weight_decay=DECAY), DECAY),
    "RAdam": (peers.RAdam(**BETAS), lambda: optax.radam(LR, **ADAM), 0.0),
    "RAdam, defaults": (peers.RAdam(), lambda: optax.radam(LR), 0.0),
    "AdEMAMix": (
        peers.AdEMAMix(betas=(0.8, 0.95, 0.99), eps=1e-3, alpha=5.0),
        lambda: optax.contrib.ademamix(LR, b1=0.8, b2=0.95, b3=0.99, eps=1e-3, alpha=5.0),
        0.0,
    ),
    "RMSprop": (peers.RMSprop(), lambda: optax.rmsprop(LR, decay=0.99, eps_in_sqrt=False), 0.0),
    "Lion": (peers.Lion(), lambda: optax.lion(LR, weight_decay=DECAY), DECAY),
    "Signum": (peers.Signum(momentum=0.0), lambda: optax.sign_sgd(LR), 0.0),
    "LAMB": (peers.LAMB(**BETAS, weight_decay=DECAY), lambda: optax.lamb(LR, **ADAM, weight_decay=DECAY), 0.0),
    "Adafactor": (
        peers.Adafactor(step_size="constant"),
        lambda: optax.adafactor(LR, min_dim_size_to_factor=1),
        0.0,
    ),
}


LIMITS = {"Adafactor": OPTAX_ADAFACTOR}


@pytest.mark.parametrize("name", CASES)
def test_20_steps_agree(name: str) -> None:
    rule, make, decay = CASES[name]
    ours, theirs = run(rule, decay=decay), run_optax(make())[0]
    assert_close(ours, theirs, f"{name.partition(',')[0]}, optax", LIMITS.get(name, FLOAT64))


@pytest.mark.parametrize("beta", [0.9, 0.5])
def test_schedule_free_agrees_with_its_practical_weighting(beta: float) -> None:
    base = optax.chain(optax.scale_by_adam(b1=0.0, b2=0.95, eps=1e-3), optax.scale(-LR))
    y, state = run_optax(optax.contrib.schedule_free(base, LR, b1=beta))
    rule = peers.ScheduleFree(peers.Adam(betas=(0.0, 0.95), eps=1e-3), beta=beta, weighting="practical")
    param_, state_ = trajectory(rule, data_of((6, 5), "float64"), np.asarray, lr=LR, decay=1.0)
    assert_close(param_, y, "ScheduleFree, optax")
    evaluated = optax.contrib.schedule_free_eval_params(state, jax.numpy.asarray(y))
    assert_close(rule.evaluation_param(param_, state_), np.asarray(evaluated), "ScheduleFree, optax")
