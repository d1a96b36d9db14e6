"""What holds for all rules: updates are pure and agree with steps, every option matters, errors name the option."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from rose_core import peers
from rose_core.namespace import quiet
from rose_core.noise import NoiseKey
from rose_core.peers.base import At, round_states, state_noise, widen_states
from rose_core.peers.states import leaves
from tests.bits import assert_same_bits, assert_within_ulps, words
from tests.peers.cases import ALIKE_ALONE, OVERRIDING, RULES, VARIANTS
from tests.peers.matrix_cases import MATRIX_RULES
from tests.peers.trajectories import all_cases, assert_same_state, data_of, trajectory, with_options

CASES = all_cases()


@pytest.mark.parametrize("name", CASES)
@quiet
def test_an_update_has_the_direction_and_the_state_of_a_step(name: str) -> None:
    rule, data = CASES[name], data_of((4, 3), "float32", steps=3)
    param, state = data.param, CASES[name].init(data.param)
    rule = rule.for_shape(param.shape)
    for step, grad in enumerate(data.grads, 1):
        at = At(step, 0.125, "fp64", NoiseKey(7, step - 1, 0), param.shape)
        g, x, wide = grad.astype(np.float64), param.astype(np.float64), widen_states(state, "fp64")
        at = at._replace(total=rule.summand(g, wide, x, at))
        stepped, expected = rule.advance(g, wide, x, at, 1.0)
        direction, new = rule.update(grad, state, param, step=step, lr=0.125, seed=7)
        assert_same_state(new, round_states(expected, state, partial(state_noise, at.key)), backend="", what=name)
        if not any(name in repr(rule) for name in OVERRIDING):
            assert_same_bits(x - 0.125 * direction, stepped, what=name)
        param, state = stepped.astype(np.float32), new


def rate(step: int) -> float:
    """Return a learning rate that changes: a constant one hides the weighting of an average."""
    return 0.01 * (1 + step % 3)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ALIKE_ALONE])
def test_every_option_changes_the_result(name: str) -> None:
    """A variant with several options shows the effect of the last one."""
    rule, options = VARIANTS[name]
    others, data = dict(list(options.items())[:-1]), data_of((6, 5), "float32")
    before, after = (
        trajectory(each, data, np.asarray, lr=rate)[0] for each in (replace(RULES[rule], **others), CASES[name])
    )
    assert np.any(words(before) != words(after))


def test_every_option_of_a_rule_is_among_the_variants() -> None:
    """Some change a result in special cases only; other tests cover these."""
    varied = {(rule, option) for rule, options in VARIANTS.values() for option in options}
    special = {("MAdam", "scale_log2"), ("SophiaH", "gamma"), ("SophiaH", "eps")}
    options = {
        (name, option)
        for name, rule in RULES.items()
        for option in vars(rule)
        if option not in ("state_dtype", "compute_dtype", "rule") and name != "AdamW"
    }
    assert options - varied == special


WRONG: dict[str, tuple[str, Any]] = {
    "betas must be a tuple of 2 numbers, got 0.9": ("Adam", {"betas": 0.9}),
    "betas[1] must be a finite number in [0, 1), got 1.0": ("Adam", {"betas": (0.9, 1.0)}),
    "betas[0] must be a finite number in [0, 1), got nan": ("Lion", {"betas": (float("nan"), 0.5)}),
    "eps must be a finite number >= 0, got -1e-08": ("Adam", {"eps": -1e-8}),
    "nesterov must be True or False, got 1": ("Adam", {"nesterov": 1}),
    "state_dtype must be one of None, 'float32', 'bfloat16', 'float64'; got 'float16'": (
        "Adam",
        {"state_dtype": "float16"},
    ),
    "compute_dtype must be one of 'fp64', 'fp32'; got 'bf16'": ("Adam", {"compute_dtype": "bf16"}),
    "rectify_above must be one of 5, 4; got True": ("RAdam", {"rectify_above": True}),
    "scale_log2 must be an even integer in [0, 200], got 3": ("MAdam", {"scale_log2": 3}),
    "num_alpha_warmup_steps must be an integer >= 1, got 0": ("AdEMAMix", {"num_alpha_warmup_steps": 0}),
    "betas[2] must be less than 1 - 1e-08 in a warmup of the half-life, got 0.99999999": (
        "AdEMAMix",
        {"betas": (0.9, 0.999, 1.0 - 1e-8), "num_beta_slow_warmup_steps": 10},
    ),
    "betas[0] must be less than 1 - 1e-08 in a warmup of the half-life, got 0.999999999": (
        "SimplifiedAdEMAMix",
        {"betas": (1.0 - 1e-9, 0.999), "num_beta_fast_warmup_steps": 10},
    ),
    "min_beta_fast must be less than 1 - 1e-08 in a warmup of the half-life, got 0.999999999": (
        "SimplifiedAdEMAMix",
        {"min_beta_fast": 1.0 - 1e-9, "num_beta_fast_warmup_steps": 10},
    ),
    "nesterov=True needs momentum > 0 and dampening 0, got momentum=0.0 and dampening=0.0": (
        "SGD",
        {"momentum": 0.0, "nesterov": True},
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_option_is_refused_by_name(message: str) -> None:
    name, options = WRONG[message]
    with pytest.raises((TypeError, ValueError)) as error:
        replace(RULES[name], **options)
    assert str(error.value) == message


def test_an_update_refuses_wrong_arguments_by_name() -> None:
    rule, x = RULES["Adam"], np.ones(2)
    state = rule.init(x)
    for arguments, options, message in (
        ((x, state, x), {"step": 0}, "step must be an integer >= 1, got 0"),
        ((x, state, x), {"step": 1.0}, "step must be an integer in [0, 2**32), got 1.0"),
        (
            (x, [x, x], x),
            {"step": 1},
            "state must be the named tuple that init returns, AdamState of ['exp_avg', 'exp_avg_sq'], got list",
        ),
        ((x, RULES["Lion"].init(x), x), {"step": 1}, "state must be the named tuple that init returns, AdamState of"),
        (
            (x, rule.init(np.ones(1)), x),
            {"step": 1},
            "state.exp_avg has shape (1,), the state that init returns for param has (2,); they must be equal",
        ),
        ((x, state._replace(exp_avg_sq=None), x), {"step": 1}, "state.exp_avg_sq must be an array, got None"),
        ((x, state._replace(exp_avg=[0.0, 0.0]), x), {"step": 1}, "state.exp_avg must be an array"),
        (
            (x, state._replace(exp_avg=np.zeros(2, np.float32)), x),
            {"step": 1},
            "state.exp_avg has dtype float32; allowed is float64",
        ),
        ((np.ones(3), state, x), {"step": 1}, "grad has shape (3,), param has (2,); they must be equal"),
        ((x, state, np.ones(2, np.int32)), {"step": 1}, "param has dtype int32; allowed are float64"),
        ((x, state, x), {"step": 1, "lr": float("inf")}, "lr must be a finite number, got inf"),
        ((x, state, x), {"step": 1, "lr": float("nan")}, "lr must be a finite number, got nan"),
        ((x, state, x), {"step": 1, "seed": -1}, "seed must be an integer in [0, 2**64), got -1"),
        ((x, state, x), {"step": 1, "total": 3.0}, "total must be None or a Total, got 3.0"),
    ):
        with pytest.raises((TypeError, ValueError)) as error:
            rule.update(*arguments, **options)
        assert str(error.value).startswith(message)


STRUCTURE = "must be the named tuple that init returns"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("SophiaH", lambda _: None, f"state {STRUCTURE}, SophiaState of ['exp_avg', 'hessian'], got NoneType"),
        ("SophiaH", tuple, f"state {STRUCTURE}, SophiaState of ['exp_avg', 'hessian'], got tuple"),
        ("SophiaH", lambda state: RULES["Adam"].init(state.hessian), f"state {STRUCTURE}, SophiaState of"),
        ("SophiaH", lambda state: state._replace(hessian=None), "state.hessian must be an array, got None"),
        ("SophiaH", lambda state: state._replace(exp_avg=(1.0, 2.0)), "state.exp_avg must be an array"),
        ("SophiaH", lambda state: state._replace(exp_avg=state), "state.exp_avg must be an array"),
        ("SophiaH", lambda state: state._replace(hessian=np.ones(3)), "state.hessian has shape (3,)"),
        ("SophiaH", lambda state: state._replace(hessian=np.ones(2, int)), "state.hessian has dtype int64"),
        (
            "SpikeGuard",
            lambda _: None,
            f"state {STRUCTURE}, WrapperState of ['rule.exp_avg', 'rule.hessian'], got None",
        ),
        ("SpikeGuard", lambda state: state.rule, f"state {STRUCTURE}, WrapperState of"),
        ("SpikeGuard", lambda state: state._replace(rule=None), f"state.rule {STRUCTURE}, SophiaState of"),
        ("SpikeGuard", lambda state: state._replace(rule=state), f"state.rule {STRUCTURE}, SophiaState of"),
        ("ScheduleFree", lambda _: None, f"state {STRUCTURE}, ScheduleFreeState of ['rule.exp_avg', "),
        ("ScheduleFree", lambda state: state._replace(rule=None), f"state.rule {STRUCTURE}, AdamState of ['exp_avg', "),
        ("ScheduleFree", lambda state: state._replace(rule=(1.0, 2.0)), f"state.rule {STRUCTURE}, AdamState of"),
        ("ScheduleFree", lambda state: state._replace(rule=state), f"state.rule {STRUCTURE}, AdamState of"),
        ("ScheduleFree", lambda state: state._replace(z=np.ones(3)), "state.z has shape (3,)"),
    ],
)
def test_a_wrong_state_is_refused_by_name(name: str, change: Callable[[Any], Any], message: str) -> None:
    x, rule = np.ones(2), peers.SpikeGuard(RULES["SophiaH"]) if name == "SpikeGuard" else RULES[name]
    wrong = change(rule.init(x))
    calls = [lambda: rule.update(x, wrong, x, step=1), lambda: rule.evaluation_param(x, wrong)]
    if name != "ScheduleFree":
        calls.append(lambda: rule.update_hessian(x, wrong))
    for call in calls:
        with pytest.raises((TypeError, ValueError)) as error:
            call()
        assert str(error.value).startswith(message)


def test_an_array_that_is_none_is_refused_by_name() -> None:
    x, rule = np.ones(2), RULES["SophiaH"]
    state = rule.init(x)
    for name, call in {
        "param": lambda: rule.evaluation_param(None, state),
        "hessian": lambda: rule.update_hessian(None, state),
        "grad": lambda: rule.update(None, state, x, step=1),
    }.items():
        with pytest.raises(TypeError, match=f"^{name} must be an array"):
            call()
    with pytest.raises(TypeError, match=r"^param must be an array"):
        rule.update(x, state, None, step=1)


def test_an_estimate_of_another_shape_is_refused_by_name() -> None:
    rule = RULES["SophiaH"]
    with pytest.raises(ValueError, match=r"^state.exp_avg has shape .* the state that init returns for hessian has"):
        rule.update_hessian(np.ones(3), rule.init(np.ones(2)))


def test_an_estimate_may_have_another_dtype_than_the_state() -> None:
    """The caller gives no parameter, so the dtype of the state is not known."""
    x, rule = np.ones(2), RULES["SophiaH"]
    new = rule.update_hessian(x.astype(np.float16), rule.init(x))
    assert_same_bits(new.hessian, rule.update_hessian(x, rule.init(x)).hessian)


def test_signum_scaled_by_the_shape_refuses_vectors() -> None:
    with pytest.raises(ValueError, match="param has rank 1; use_shape_scaling=True needs matrices, of rank 2"):
        replace(RULES["Signum"], use_shape_scaling=True).init(np.zeros(3))


@pytest.mark.parametrize("name", RULES)
def test_an_empty_parameter_stays_empty(name: str) -> None:
    x = np.zeros((0, 3), np.float32)
    direction, _ = RULES[name].update(x, RULES[name].init(x), x, step=1)
    assert direction.shape == (0, 3)


@pytest.mark.parametrize("name", CASES | MATRIX_RULES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_update_returns_no_memory_of_its_arguments(name: str, dtype: str) -> None:
    rule = with_options((CASES | MATRIX_RULES)[name], compute_dtype="fp32" if dtype == "float32" else "fp64")
    (grad, second), param = data_of((4, 3), dtype, steps=2).grads, np.ones((4, 3), dtype)
    state = rule.init(param)
    for step, g in enumerate((grad, second), 1):
        given = [g, param, *leaves(state)]
        direction, state = rule.update(g, state, param, step=step, lr=0.1)
        returned = [direction, *leaves(state)]
        assert not any(np.shares_memory(a, b) for a in given for b in returned if a is not None and b is not None)


def test_an_update_of_a_hessian_returns_no_memory_of_its_arguments() -> None:
    x, rule = np.ones((4, 3)), RULES["SophiaH"]
    state = rule.init(x)
    new = rule.update_hessian(x, state)
    assert not any(np.shares_memory(a, b) for a in (x, *state) for b in new)


def test_an_empty_update_returns_no_memory_of_its_arguments() -> None:
    x = np.zeros((0, 3))
    rule = RULES["LAMB"]
    state = rule.init(x)
    assert all(new is not old for new, old in zip(rule.update(x, state, x, step=1)[1], state, strict=True))


@quiet
@pytest.mark.parametrize("name", CASES | MATRIX_RULES)
@pytest.mark.parametrize("compute", ["fp64", "fp32"])
def test_zero_gradients_give_a_zero_direction(name: str, compute: str) -> None:
    """LAMB has a decay in its direction."""
    rule = with_options((CASES | MATRIX_RULES)[name], compute_dtype=compute, weight_decay=0.0)
    param = np.ones((4, 3), np.float32)
    state = rule.init(param)
    for step in (1, 2):
        direction, state = rule.update(np.zeros_like(param), state, param, step=step, lr=0.125)
        assert not np.any(direction)
        assert all(np.all(np.isfinite(leaf)) for leaf in leaves(state) if leaf is not None)


@pytest.mark.parametrize("scale", [1e-8, 1e-13])
@pytest.mark.parametrize("rows", [4, 2])
def test_adafactor_scales_small_gradients_in_float32(scale: float, rows: int) -> None:
    """The product of the means of two rows of zeros and columns of 1e-16 underflows in float32."""
    grad = np.zeros((4, 3), np.float32)
    grad[:rows] = np.asarray([[1, -2, 3], [2, 1, -1], [1, 1, 1], [2, 2, -2]])[:rows] * scale
    param = np.ones((4, 3), np.float32)
    rules = [replace(RULES["Adafactor"], compute_dtype=compute) for compute in ("fp32", "fp64")]
    single, double = (rule.update(grad, rule.init(param), param, step=1)[0] for rule in rules)
    expected = double.astype(np.float32)
    # Ten roundings of half an ulp, half of which the root halves, add up to less than four ulps. Some cancel here.
    assert_within_ulps(single, expected, limit=2.0, magnitude=expected, backend="")
    assert np.all((single != 0.0) == (grad != 0.0))
