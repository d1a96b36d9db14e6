"""What wrappers keep of the rule inside, and what they refuse."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import rose_numpy
from rose_core import peers
from rose_core.namespace import quiet
from rose_core.noise import NoiseKey
from rose_core.peers import Rule
from rose_core.peers.base import At, widen_states
from tests.bits import assert_same_bits, words
from tests.peers.trajectories import all_cases, data_of

FREE = peers.ScheduleFree(peers.AdamW(betas=(0.0, 0.999)))
NORM_KEPT = peers.LaProp(frob_normalize=True)
OTHERS = {"min_ndim": 3, "others_lr_scale": 0.5}
"""Options of a partition that takes its second rule, with half the learning rate, for matrices."""

HOLDERS: dict[str, Callable[[Rule], Rule]] = {
    "SpikeGuard": peers.SpikeGuard,
    "Partition, matrices": lambda rule: peers.Partition(rule, peers.SGD()),
    "Partition, others": lambda rule: peers.Partition(peers.SGD(), rule, **OTHERS),
    "SpikeGuard of Partition": lambda rule: peers.SpikeGuard(peers.Partition(peers.SGD(), rule, **OTHERS)),
    "Partition of SpikeGuard": lambda rule: peers.Partition(
        peers.SGD(), peers.SpikeGuard(rule, scope="tensor"), **OTHERS
    ),
}
"""The wrappers that take a rule whose step is more than a direction."""

DIRECTIONS: dict[str, Callable[[Rule], Rule]] = {
    "ClipUpdates": peers.ClipUpdates,
    "Magma": peers.Magma,
    "ScheduleFree": peers.ScheduleFree,
}
"""The wrappers that take only the direction of a rule."""


def run(rule: Rule, lr: float, **options: Any) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return the parameter after five steps, the parameter to evaluate, and the state."""
    data = data_of((3, 2), "float64", steps=5)
    weights = {"w": data.param.copy()}
    optimizer = rose_numpy.Optimizer(weights, rule, lr=lr, **options)
    for grad in data.grads:
        optimizer.step({"w": grad})
    return weights["w"], optimizer.evaluation_params()["w"], optimizer.state_dict()["state"][0]


@pytest.mark.parametrize("rule", [FREE, NORM_KEPT, peers.Magma(peers.AdamW(), p=0.9)], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("name", HOLDERS)
def test_a_wrapper_keeps_the_step_and_the_evaluation_of_its_rule(name: str, rule: Rule) -> None:
    wrapped, scale = HOLDERS[name](rule), 0.5 if "others" in name or " of " in name else 1.0
    expected = run(rule, 0.25 * scale, weight_decay=0.125, weight_decay_method="independent")
    actual = run(wrapped, 0.25, weight_decay=0.125, weight_decay_method="independent")
    assert_same_bits(actual[0], expected[0])
    assert_same_bits(actual[1], expected[1])
    assert (rule is FREE) == bool(np.any(words(actual[0]) != words(actual[1])))


@pytest.mark.parametrize("name", HOLDERS)
def test_the_functions_of_a_wrapper_find_the_rule_of_the_shape(name: str) -> None:
    x = np.full((2, 2), 2.0)
    rule = HOLDERS[name](FREE)
    direction, state = rule.update(x, rule.init(x), x, step=1, lr=0.25)
    x = x - 0.25 * direction
    inner = state
    while not hasattr(inner, "z"):
        inner = inner.rule
    assert_same_bits(rule.evaluation_param(x, state), FREE.evaluation_param(x, inner))
    hessian = np.asarray([[1.0, 2.0], [3.0, 4.0]])
    rule, sophia = HOLDERS[name](peers.SophiaH()), peers.SophiaH()
    inner = rule.update_hessian(hessian, rule.init(x))
    while hasattr(inner, "rule"):
        inner = inner.rule
    assert_same_bits(inner.hessian, sophia.update_hessian(hessian, sophia.init(x)).hessian)


@quiet
@pytest.mark.parametrize("name", all_cases())
def test_a_rule_says_whether_its_step_is_more_than_a_direction(name: str) -> None:
    """With lr 0.25 no multiple of the direction rounds. `_Scaled` is exact with the scale 0.5."""
    rule, data = all_cases()[name].for_shape((4, 3)), data_of((4, 3), "float64", steps=2)
    x, g = data.param, data.grads[0]
    state = widen_states(rule.init(x), "fp64")
    differs = False
    for seed in range(8):  # Magma masks some steps
        at = At(1, 0.25, "fp64", NoiseKey(seed, 0, 0), (4, 3))
        for grad in (g, np.full_like(g, np.nan)):  # SpikeGuard skips this one
            at = at._replace(total=rule.summand(grad, state, x, at))
            stepped, _ = rule.advance(grad, state, x, at, 0.875)
            direction, _ = rule.compute(grad, state, x, at)
            differs |= not np.array_equal(stepped, x * 0.875 - 0.25 * direction, equal_nan=True)
    assert rule.has_own_step == differs


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_step_that_is_more_than_a_direction_is_refused(name: str) -> None:
    momentum = peers.Magma(peers.AdamW())
    for rule in (FREE, NORM_KEPT, momentum, peers.SpikeGuard(peers.SGD()), peers.Partition(peers.SGD(), NORM_KEPT)):
        with pytest.raises(ValueError, match=f"{name} takes only the direction of its rule"):
            DIRECTIONS[name](rule)
    DIRECTIONS[name](peers.LaProp())


def test_magma_refuses_another_magma_inside() -> None:
    """Both would draw the same numbers, so the inner one would mask nothing more."""
    inner = peers.Magma(peers.AdamW(), mask_weight_decay=False)
    for rule in (inner, peers.ClipUpdates(inner), peers.Partition(peers.SGD(), inner)):
        with pytest.raises(ValueError, match="rule must hold no other Magma"):
            peers.Magma(rule)


@pytest.mark.parametrize("option", ["compute_dtype", "state_dtype"])
@pytest.mark.parametrize("wrap", [*DIRECTIONS.values(), *HOLDERS.values()], ids=[*DIRECTIONS, *HOLDERS])
def test_a_wrapper_takes_no_dtype_that_it_would_ignore(wrap: Callable[[Rule], Rule], option: str) -> None:
    rule = wrap(peers.AdamW())
    make = partial(type(rule), *(value for value in vars(rule).values() if isinstance(value, Rule)))
    if isinstance(rule, peers.ScheduleFree) and option == "state_dtype":  # it has a state besides that of its rule
        assert make(state_dtype="float32").state_dtype == "float32"
    else:
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            make(**{option: "float32"})
