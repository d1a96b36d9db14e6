"""The functions beside the rules: schedules, norms, applied updates, and the names of emerging_optimizers."""

import inspect
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from rose_core import noise_words, peers, round_to_bfloat16
from rose_core.peers import emerging
from tests.backends import Backend, backends
from tests.bits import DTYPES, assert_same_bits, words
from tests.strategies import fill


@pytest.mark.parametrize(
    ("final", "expected"), [(None, [0.75, 0.5, 0.25]), (0.0, [2 / 3, 1 / 3, 0.0]), (0.1, [0.7, 0.4, 0.1])]
)
def test_the_ends_of_the_schedule_of_rollfast(final: float | None, expected: list[float]) -> None:
    """Version 0.2.1 ends at one over the number of decay steps, and later ones at the final ratio."""
    lr = peers.wsd_schedule(1.0, 20, 0.1, 0.2, final_lr_ratio=final)
    assert [lr(step) for step in (17, 18, 19)] == pytest.approx(expected)
    assert [lr(step) for step in (0, 1, 2, 10, 16)] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0, 1.0])
    assert lr(1000) == lr(19)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 10), "peak_lr must be a finite number >= 0, got -1.0"),
        ((1.0, 1.5), "total_steps must be an integer in [0, 2**32), got 1.5"),
        ((1.0, 2**32), "total_steps must be an integer in [0, 2**32), got 4294967296"),
        ((1.0, 10, 0.6, 0.5), "warmup_fraction + decay_fraction must be at most 1, got 0.6 + 0.5"),
        ((1.0, 10, 1.5), "warmup_fraction must be a number in [0, 1], got 1.5"),
        ((1.0, 10, 0.1, float("nan")), "decay_fraction must be a number in [0, 1], got nan"),
    ],
)
def test_a_wrong_schedule_is_refused_by_name(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as error:
        peers.wsd_schedule(*arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(("final", "last"), [(None, 1.0), (0.0, 0.0), (0.1, 0.1), (1.0, 1.0)])
def test_one_decay_step_has_the_last_rate(final: float | None, last: float) -> None:
    lr = peers.wsd_schedule(2.0, 10, 0.1, 0.1, final_lr_ratio=final)
    assert [lr(step) for step in range(12)] == [1.0, *[2.0] * 8, *[2.0 * last] * 3]


@pytest.mark.parametrize("final", [None, 0.0, 0.1])
def test_a_schedule_without_steps_is_0(final: float | None) -> None:
    lr = peers.wsd_schedule(2.0, 0, final_lr_ratio=final)
    assert [lr(step) for step in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("final", [0.0, 0.5])
def test_a_schedule_counts_steps_with_32_bits(final: float) -> None:
    lr = peers.wsd_schedule(1.0, 2**32 - 1, final_lr_ratio=final)
    assert lr(2**31) == 1.0
    assert lr(2**32 - 1) == lr(2**32 - 2) == final
    with pytest.raises(ValueError, match=r"^step must be an integer in \[0, 2\*\*32\), got 4294967296$"):
        lr(2**32)


@backends
def test_norms_and_scales_have_the_bits_of_numpy(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    arrays = [
        fill(kind, rng, shape, dtype)
        for dtype in backend.dtypes
        for kind, shape in (("normal", (6, 5)), ("words" if dtype != "float64" else "eighths", (40,)), ("normal", ()))
    ]
    held = [backend.array(x) for x in arrays]
    assert_same_bits(peers.l2_norm(held), peers.l2_norm(arrays), backend=backend.name)
    assert_same_bits(peers.l2_norm(held[::-1]), peers.l2_norm(arrays), backend=backend.name)
    for limit in (0.0, 1.0, 1e30, float("inf")):
        expected = peers.global_grad_clip_scale(arrays, limit)
        assert_same_bits(peers.global_grad_clip_scale(held, limit), expected, backend=backend.name)


NAN = np.full(3, np.nan)


@pytest.mark.parametrize(
    ("grads", "max_norm", "scale"),
    [
        ([np.asarray([3.0, 4.0])], 10.0, 1.0),
        ([np.asarray([3.0, 4.0])], 5.0, 1.0),
        ([np.asarray([3.0]), np.asarray([[4.0]])], 1.0, 0.2),
        ([np.asarray([3.0, np.inf, np.nan]), None, np.asarray([4.0])], 2.5, 0.5),
        ([NAN], 1.0, 1.0),
        ([np.zeros(2)], 0.0, 1.0),
        ([np.ones(2)], 0.0, 0.0),
        ([np.ones(2)], float("inf"), 1.0),
    ],
)
def test_the_scale_clips_by_the_norm_of_the_finite_elements(grads: Any, max_norm: float, scale: float) -> None:
    assert float(peers.global_grad_clip_scale(grads, max_norm)) == scale


@pytest.mark.parametrize("max_norm", [-1.0, float("nan")])
def test_a_scale_that_would_flip_the_sign_is_refused(max_norm: float) -> None:
    """rlx-optim returns a negative scale for -1, and 1 for NaN."""
    with pytest.raises(ValueError, match="max_norm must be a number >= 0"):
        peers.global_grad_clip_scale([np.ones(2)], max_norm)


def test_no_arrays_have_no_norm() -> None:
    with pytest.raises(ValueError, match="at least one array"):
        peers.l2_norm([None])
    with pytest.raises(TypeError, match="array 0 has dtype int64"):
        peers.l2_norm([np.ones(2, np.int64)])


@backends
def test_applied_updates_have_the_bits_of_numpy(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    for dtype in backend.dtypes:
        params = {"a": fill("normal", rng, (6, 5), dtype), "b": fill("normal", rng, (), dtype)}
        updates = {"a": fill("normal", rng, (6, 5), "float32"), "b": None}
        held = [
            {name: None if x is None else backend.array(x) for name, x in both.items()} for both in (params, updates)
        ]
        for seed in (None, 3):
            actual, expected = (peers.apply_updates(*both, seed=seed, step=2) for both in (held, (params, updates)))
            assert_same_bits(actual["a"], expected["a"], backend=backend.name)
            assert actual["b"] is held[0]["b"]


def test_bfloat16_parameters_are_rounded_with_the_noise_of_their_position() -> None:
    param, update = np.ones((2, 64), ml_dtypes.bfloat16), np.full((2, 64), 1e-3, np.float32)
    total = (param.astype(np.float64) + update.astype(np.float64)).astype(np.float32)
    first, second = peers.apply_updates([param, param], [update, update], seed=5, step=1)
    for index, result in enumerate((first, second)):
        noise = noise_words((2, 64), seed=5, step=1, index=index, like=param)
        assert_same_bits(result, round_to_bfloat16(total, noise=noise))
    assert np.any(words(first) != words(second))
    assert_same_bits(peers.apply_updates(param, update), round_to_bfloat16(total))


def test_updates_of_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="updates must have the names of params"):
        peers.apply_updates({"a": np.ones(1)}, {"b": np.ones(1)})
    with pytest.raises(ValueError, match="updates must be a sequence of 2 arrays"):
        peers.apply_updates([np.ones(1), np.ones(1)], [np.ones(1)])
    with pytest.raises(ValueError, match=r"the update of params\['a'\] has shape"):
        peers.apply_updates({"a": np.ones(1)}, {"a": np.ones(2)})


OPTIONS: dict[str, Any] = {
    "betas": (0.9, 0.99),
    "eps": 1e-8,
    "correct_bias": True,
    "nesterov": True,
    "step": 3,
    "momentum": 0.9,
    "scale_log2": 16,
    "num_beta_slow_warmup_steps": 10,
    "num_alpha_warmup_steps": None,
    "num_beta_fast_warmup_steps": 10,
    "min_beta_fast": 0.5,
}
RULES = {
    "adam": peers.Adam,
    "ademamix": peers.AdEMAMix,
    "sim_ademamix": peers.SimplifiedAdEMAMix,
    "laprop": peers.LaProp,
    "lion": peers.Lion,
    "madam": peers.MAdam,
    "signum": peers.Signum,
}


def arguments_of(name: str) -> tuple[Callable[..., Any], list[str], dict[str, Any]]:
    """Return a function of emerging_optimizers, the names of its states, and options."""
    function = getattr(emerging, f"calculate_{name}_update")
    parameters = inspect.signature(function).parameters.values()
    options = {p.name: OPTIONS[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in OPTIONS}
    if name == "ademamix":
        options["betas"] = (0.9, 0.99, 0.999)
    return function, [p.name for p in parameters if p.name.startswith("exp_avg")], options


@pytest.mark.parametrize("name", RULES)
def test_a_function_of_emerging_optimizers_is_the_update_of_a_rule(name: str) -> None:
    function, names, options = arguments_of(name)
    states = [np.full((2, 3), 0.25) for _ in names]
    grad = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
    update, *new = function(grad, *states, **options)
    step = options.pop("step")
    rule = RULES[name](**options)
    direction, state = rule.update(grad, type(rule.init(grad))(*states), grad, step=step)
    assert_same_bits(update, direction)
    for actual, expected in zip(new, state, strict=True):
        assert_same_bits(actual, expected)
    for given in states:
        assert_same_bits(given, np.full((2, 3), 0.25))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "dtypes",
    [
        ("float16", "float16", "float16"),
        ("float32", "float64", "float16"),
        ("bfloat16", "float32", "float64"),
        ("float64", "bfloat16", "bfloat16"),
    ],
)
def test_each_state_of_emerging_optimizers_keeps_its_dtype(name: str, dtypes: tuple[str, ...]) -> None:
    """A state is widened to float64, and rounded to its own dtype."""
    states = [np.full((2, 3), 0.2).astype(DTYPES[dtype][0]) for dtype in dtypes[: len(arguments_of(name)[1])]]
    grad, options = np.linspace(-1.0, 1.0, 6, dtype=np.float32).reshape(2, 3), arguments_of(name)[2]
    update, *new = arguments_of(name)[0](grad, *states, **options)
    expected, *wide = arguments_of(name)[0](grad, *(state.astype(np.float64) for state in states), **options)
    assert_same_bits(update, expected)
    for actual, state, of_state in zip(new, states, wide, strict=True):
        nearest = round_to_bfloat16(of_state.astype(np.float32)) if state.dtype == ml_dtypes.bfloat16 else of_state
        assert_same_bits(actual, nearest.astype(state.dtype))
        assert not np.shares_memory(actual, state)


@pytest.mark.parametrize("name", RULES)
def test_a_function_of_emerging_optimizers_names_its_arguments(name: str) -> None:
    function, names, options = arguments_of(name)
    right = [np.zeros((2, 3)) for _ in ("grad", *names)]
    for position, argument in enumerate(("grad", *names)):
        wrong: list[tuple[Any, str]] = [
            (None, f"{argument} must be an array of a library that follows the array-API standard, got NoneType"),
            (np.zeros((2, 3), np.int8), f"{argument} has dtype int8; allowed are float64"),
        ]
        if position:
            wrong.append((np.zeros(3), f"{argument} has shape (3,), grad has (2, 3); they must be equal"))
        for value, message in wrong:
            with pytest.raises((TypeError, ValueError)) as error:
                function(*right[:position], value, *right[position + 1 :], **options)
            assert str(error.value).startswith(message)


def test_signum_of_emerging_optimizers_refuses_a_vector_as_its_gradient() -> None:
    options = arguments_of("signum")[2] | {"use_shape_scaling": True}
    with pytest.raises(ValueError, match=r"^grad has rank 1; use_shape_scaling=True needs matrices"):
        emerging.calculate_signum_update(np.zeros(3), np.zeros(3), **options)


def test_all_functions_of_emerging_optimizers_are_there() -> None:
    assert [f"calculate_{name}_update" for name in sorted(RULES)] == emerging.__all__
