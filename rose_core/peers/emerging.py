"""The update functions of emerging_optimizers, under their names and with their arguments, as pure functions.

Each returns the update, and the new states beside it. The originals overwrite their states and return the update
only. The update is in the operation dtype, float64. Each state keeps its dtype, one of float64, float32, float16 and
bfloat16, and is rounded to nearest.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rose_core.namespace import detached, floating_dtype, quiet, require_like
from rose_core.peers.base import Rule, round_states, widen_states
from rose_core.peers.elementwise.adam import Adam, AdamState
from rose_core.peers.elementwise.ademamix import AdEMAMix, AdEMAMixState, SimplifiedAdEMAMix
from rose_core.peers.elementwise.laprop import LaProp
from rose_core.peers.elementwise.lion import Lion, LionState
from rose_core.peers.elementwise.madam import MAdam
from rose_core.peers.elementwise.signum import Signum, SignumState
from rose_core.peers.states import map_leaves

__all__ = [
    "calculate_adam_update",
    "calculate_ademamix_update",
    "calculate_laprop_update",
    "calculate_lion_update",
    "calculate_madam_update",
    "calculate_signum_update",
    "calculate_sim_ademamix_update",
]


def calculate_adam_update(
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    *,
    betas: tuple[float, float],
    eps: float,
    correct_bias: bool,
    nesterov: bool,
    step: int,
) -> tuple[Any, ...]:
    """Return the update of `Adam`, and the new averages.

    Parameters
    ----------
    grad, exp_avg, exp_avg_sq : arrays of one shape
        The gradient and the averages, which are not changed.
    betas, eps, correct_bias, nesterov
        As in `rose_core.peers.Adam`.
    step : int
        The number of this step, from 1 on.

    Examples
    --------
    >>> import numpy as np
    >>> options = {"betas": (0.9, 0.999), "eps": 0.0, "correct_bias": True, "nesterov": False, "step": 1}
    >>> update, *averages = calculate_adam_update(np.asarray([2.0]), np.zeros(1), np.zeros(1), **options)
    >>> update.round(6).tolist()
    [1.0]
    """
    rule = Adam(betas=betas, eps=eps, correct_bias=correct_bias, nesterov=nesterov)
    return _updated(rule, grad, AdamState(exp_avg, exp_avg_sq), step)


def calculate_ademamix_update(
    grad: Any,
    exp_avg_fast: Any,
    exp_avg_slow: Any,
    exp_avg_sq: Any,
    *,
    betas: tuple[float, float, float],
    eps: float,
    correct_bias: bool,
    step: int,
    num_beta_slow_warmup_steps: int | None,
    num_alpha_warmup_steps: int | None,
    alpha: float = 2,
) -> tuple[Any, ...]:
    """Return the update of `AdEMAMix`, and the new averages.

    Parameters
    ----------
    grad, exp_avg_fast, exp_avg_slow, exp_avg_sq : arrays of one shape
        The gradient and the averages, which are not changed.
    betas, eps, correct_bias, num_beta_slow_warmup_steps, num_alpha_warmup_steps, alpha
        As in `rose_core.peers.AdEMAMix`.
    step : int
        The number of this step, from 1 on.
    """
    rule = AdEMAMix(
        betas=betas,
        eps=eps,
        alpha=alpha,
        correct_bias=correct_bias,
        num_beta_slow_warmup_steps=num_beta_slow_warmup_steps,
        num_alpha_warmup_steps=num_alpha_warmup_steps,
    )
    return _updated(rule, grad, AdEMAMixState(exp_avg_fast, exp_avg_slow, exp_avg_sq), step)


def calculate_sim_ademamix_update(
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    *,
    betas: tuple[float, float],
    eps: float,
    correct_bias: bool,
    step: int,
    num_beta_fast_warmup_steps: int | None,
    min_beta_fast: float,
    alpha: float = 2,
) -> tuple[Any, ...]:
    """Return the update of `SimplifiedAdEMAMix`, and the new averages.

    Parameters
    ----------
    grad, exp_avg, exp_avg_sq : arrays of one shape
        The gradient and the averages, which are not changed.
    betas, eps, correct_bias, num_beta_fast_warmup_steps, min_beta_fast, alpha
        As in `rose_core.peers.SimplifiedAdEMAMix`.
    step : int
        The number of this step, from 1 on.
    """
    rule = SimplifiedAdEMAMix(
        betas=betas,
        eps=eps,
        alpha=alpha,
        correct_bias=correct_bias,
        num_beta_fast_warmup_steps=num_beta_fast_warmup_steps,
        min_beta_fast=min_beta_fast,
    )
    return _updated(rule, grad, AdamState(exp_avg, exp_avg_sq), step)


def calculate_laprop_update(
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    *,
    betas: tuple[float, float],
    eps: float,
    correct_bias: bool,
    step: int,
) -> tuple[Any, ...]:
    """Return the update of `LaProp`, and the new averages.

    Parameters
    ----------
    grad, exp_avg, exp_avg_sq : arrays of one shape
        The gradient and the averages, which are not changed.
    betas, eps, correct_bias
        As in `rose_core.peers.LaProp`.
    step : int
        The number of this step, from 1 on.
    """
    rule = LaProp(betas=betas, eps=eps, correct_bias=correct_bias)
    return _updated(rule, grad, AdamState(exp_avg, exp_avg_sq), step)


def calculate_lion_update(grad: Any, exp_avg: Any, *, betas: tuple[float, float], step: int = 1) -> tuple[Any, ...]:
    """Return the update of `Lion`, and the new average.

    Parameters
    ----------
    grad, exp_avg : arrays of one shape
        The gradient and the average, which are not changed.
    betas
        As in `rose_core.peers.Lion`.
    step : int
        The number of this step. It has no effect.
    """
    return _updated(Lion(betas=betas), grad, LionState(exp_avg), step)


def calculate_madam_update(
    grad: Any,
    exp_avg: Any,
    exp_avg_sq_scaled: Any,
    *,
    betas: tuple[float, float],
    correct_bias: bool,
    step: int,
    scale_log2: int,
) -> tuple[Any, ...]:
    """Return the update of `MAdam`, and the new averages.

    Parameters
    ----------
    grad, exp_avg, exp_avg_sq_scaled : arrays of one shape
        The gradient and the averages, which are not changed.
    betas, correct_bias, scale_log2
        As in `rose_core.peers.MAdam`.
    step : int
        The number of this step, from 1 on.
    """
    rule = MAdam(betas=betas, correct_bias=correct_bias, scale_log2=scale_log2)
    return _updated(rule, grad, AdamState(exp_avg, exp_avg_sq_scaled), step, names=("exp_avg", "exp_avg_sq_scaled"))


def calculate_signum_update(
    grad: Any,
    exp_avg: Any,
    *,
    momentum: float,
    correct_bias: bool,
    nesterov: bool,
    step: int,
    use_shape_scaling: bool = False,
) -> tuple[Any, ...]:
    """Return the update of `Signum`, and the new average.

    Parameters
    ----------
    grad, exp_avg : arrays of one shape
        The gradient and the average, which are not changed.
    momentum, correct_bias, nesterov, use_shape_scaling
        As in `rose_core.peers.Signum`.
    step : int
        The number of this step, from 1 on.
    """
    rule = Signum(momentum=momentum, correct_bias=correct_bias, nesterov=nesterov, use_shape_scaling=use_shape_scaling)
    return _updated(rule, grad, SignumState(exp_avg), step)


@quiet
def _updated(rule: Rule, grad: Any, state: Any, step: int, *, names: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Return the update and the new states of a rule that does not read the parameter.

    Errors call the states `names`. None: the names are those of the fields of `state`.
    """
    rule.checked_compute_dtype(grad, grad, ("grad", "grad"))
    for name, leaf in zip(names or state._fields, state, strict=True):
        floating_dtype(leaf, name)
        require_like(grad, leaf, ("grad", name))
    wide = widen_states(map_leaves(lambda leaf: detached(leaf)[0], state), "fp64")
    update, new = replace(rule, state_dtype="float64").update(grad, wide, grad, step=step)
    return (update, *round_states(new, state, None))
