"""PSGD Kron beside rollfast, 20 steps in float64, with the same random numbers in both."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rose_core.peers import Kron
from rose_core.peers.matrix import kron
from tests.comparators.matrices import assert_close, rollfast_module, rollfast_trajectory
from tests.peers.test_kron import assert_whitened, whitened_squares, whitening_grads
from tests.peers.trajectories import data_of, trajectory

LR = 0.05

# Our options, and those of rollfast.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}),
    **{mode: ({"mode": mode}, {"preconditioner_mode": mode}) for mode in ("EQ", "QUAD", "NS", "EXP", "HYPER")},
    "dense": ({"max_skew": 2.0}, {"max_skew_triangular": 2.0}),
    **{
        f"dense, {mode}": (
            {"mode": mode, "max_skew": 2.0},
            {"preconditioner_mode": mode, "max_skew_triangular": 2.0},
        )
        for mode in ("EQ", "QUAD", "NS", "EXP", "HYPER")
    },
    "short axes": ({"max_size": 4}, {"max_size_triangular": 4}),
    "many axes": ({"min_ndim": 3}, {"min_ndim_triangular": 3}),
    "one diagonal": (
        {"memory_save_mode": "one_diag", "max_skew": 9.0},
        {"memory_save_mode": "one_diag", "max_skew_triangular": 9.0},
    ),
    "all diagonal": ({"memory_save_mode": "all_diag"}, {"memory_save_mode": "all_diag"}),
    "average whitened": ({"whiten_grad": False}, {"whiten_grad": False}),
    "old factors": ({"update_first": False}, {"update_preconditioner_first": False}),
    "norms not tracked": ({"track_norms": False}, {"track_lipschitz": False}),
    "scale given": ({"init_scale": 0.7}, {"preconditioner_init_scale": 0.7}),
    "no average": ({"b1": 0.0}, {"b1": 0.0}),
    "clipped": ({"update_clip": (0.2, 0.4)}, {"grad_clip_max_amps": (0.2, 0.4)}),
    "global_rms": (
        {"update_clip": (0.2, 0.4), "clip_mode": "global_rms"},
        {"grad_clip_max_amps": (0.2, 0.4), "grad_clip_mode": "global_rms"},
    ),
    "rates": (
        {"precond_lr": 0.3, "beta_lipschitz": 0.5},
        {"preconditioner_lr": 0.3, "beta_lipschitz": 0.5},
    ),
}


def table(shape: tuple[int, ...]) -> np.ndarray:
    """Return the random numbers of a shape: always the same."""
    return np.random.default_rng(len(shape)).standard_normal(shape)


@pytest.fixture
def psgd(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module of rollfast, with random numbers from `table`. Ours come from there too."""
    module = rollfast_module(monkeypatch, "psgd")
    import jax

    monkeypatch.setattr(jax.random, "normal", lambda _, shape, dtype: jax.numpy.asarray(table(tuple(shape)), dtype))
    monkeypatch.setattr(kron, "normal_draws", lambda _at, _start, shape, _like: table(tuple(shape[1:]))[None])
    return module


def compare(psgd: ModuleType, shape: tuple[int, ...], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise unless both have the same parameter after 20 steps. rollfast has the scale 2**-52 of the noise."""
    data = data_of(shape, "float64")
    rule = Kron(min_probability=1.0, damping=0.0, noise_scale=2.0**-52, **ours)
    transformation = psgd.scale_by_kron(preconditioner_update_probability=1.0, damping=0.0, **theirs)
    expected = rollfast_trajectory(transformation, data.param, data.grads, LR)
    actual, _ = trajectory(rule, data, np.asarray, lr=LR, decay=1.0)
    assert_close(expected, actual, data, "Kron rollfast, in float64")


@pytest.mark.parametrize("balance", [0.0, 1.0])
@pytest.mark.parametrize(("ours", "theirs"), OPTIONS.values(), ids=OPTIONS)
def test_rollfast_kron(
    monkeypatch: pytest.MonkeyPatch, psgd: ModuleType, ours: dict[str, Any], theirs: dict[str, Any], balance: float
) -> None:
    import jax

    monkeypatch.setattr(jax.random, "uniform", lambda _: jax.numpy.asarray(0.5 * (1.0 - balance)))
    compare(psgd, (5, 4), ours | {"balance_probability": balance}, theirs)


@pytest.mark.parametrize("shape", [(4, 3, 2), (3, 2, 2, 2)])
def test_rollfast_kron_of_higher_rank(psgd: ModuleType, shape: tuple[int, ...]) -> None:
    compare(psgd, shape, {"balance_probability": 0.0}, {})


def test_taylor2_of_rollfast_does_not_whiten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its preconditioner tends to the inverse of the covariance, in place of the root of the inverse."""
    psgd = rollfast_module(monkeypatch, "psgd")
    import jax

    grads = whitening_grads(400)
    theirs = psgd.scale_by_kron(
        b1=0.0,
        preconditioner_update_probability=1.0,
        preconditioner_mode="TAYLOR2",
        preconditioner_lr=0.5,
        max_skew_triangular=9.0,
        grad_clip_max_amps=1e9,
    )
    state, update, squares = theirs.init(jax.numpy.zeros(grads[0].shape)), jax.jit(theirs.update), []
    for grad in grads:
        direction, state = update(grad, state)
        squares.append(np.asarray(direction) ** 2)
    mean = np.mean(squares[200:], axis=0)
    assert np.min(mean) < 0.1
    assert np.max(mean) > 10.0
    assert_whitened(whitened_squares("TAYLOR2", grads[:200]))
