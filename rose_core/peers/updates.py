"""Updates that are added to parameters, as optax and rollfast apply them."""

import math
from collections.abc import Mapping
from typing import Any

from rose_core.hyperparameters import unsigned
from rose_core.namespace import array_namespace, detached, dtype_name, floating_dtype, has_float64, quiet, require_like
from rose_core.noise import NoiseKey, noise_in_range
from rose_core.rounding import ComputeDtype, to_compute, to_storage

__all__ = ["apply_updates"]


@quiet
def apply_updates(params: Any, updates: Any, /, *, seed: int | None = None, step: int = 0) -> Any:
    """Return parameters plus updates, in the dtype of each parameter.

    Parameters
    ----------
    params : array, mapping of names to arrays, or sequence of arrays
        The parameters. They are not changed.
    updates : the same structure
        The updates, with their sign: minus the learning rate times a direction. None returns the parameter itself.
    seed : int or None
        Seed of the noise that rounds bfloat16 parameters stochastically, in [0, 2**64). None rounds to nearest.
    step : int
        The number of earlier steps, in [0, 2**32): each step has other noise. The index of a parameter is its position.

    Returns
    -------
    array, dict or list
        The new parameters, in the structure of `params`.

    Raises
    ------
    TypeError, ValueError
        If the structures or two arrays do not fit, or a number is not allowed.

    Notes
    -----
    The sum is computed in float64, and rounded once to the dtype of the parameter.

    Examples
    --------
    >>> import numpy as np
    >>> apply_updates({"w": np.ones(2), "b": np.zeros(1)}, {"w": np.asarray([0.5, -0.5]), "b": None})
    {'w': array([1.5, 0.5]), 'b': array([0.])}
    """
    if seed is not None:
        unsigned("seed", seed, bits=64)
    unsigned("step", step, bits=32)
    if hasattr(params, "dtype"):
        return _applied(params, updates, seed, step, 0, "params")
    if isinstance(params, Mapping):
        if not isinstance(updates, Mapping) or set(params) != set(updates):
            raise ValueError(f"updates must have the names of params, {sorted(params)}; got {updates!r}")
        pairs = [(name, params[name], updates[name]) for name in params]
    else:
        if len(params) != len(updates):
            raise ValueError(f"updates must be a sequence of {len(params)} arrays, got {len(updates)}")
        pairs = [(number, param, update) for number, (param, update) in enumerate(zip(params, updates, strict=True))]
    applied = {
        name: _applied(param, update, seed, step, index, f"params[{name!r}]")
        for index, (name, param, update) in enumerate(pairs)
    }
    return applied if isinstance(params, Mapping) else list(applied.values())


def _applied(param: Any, update: Any, seed: int | None, step: int, index: int, name: str) -> Any:
    if update is None:
        return param
    dtype = floating_dtype(param, name)
    floating_dtype(update, f"the update of {name}")
    require_like(param, update, (name, f"the update of {name}"))
    compute: ComputeDtype = "fp64" if has_float64(param) else "fp32"
    x, u = (to_compute(array, compute) for array in detached(param, update))
    xp, noise = array_namespace(param), None
    if seed is not None and dtype_name(param) == "bfloat16":
        words = noise_in_range(NoiseKey(seed, step, index), 0, math.prod(param.shape), like=param)
        noise = xp.reshape(words, param.shape)
    return xp.asarray(to_storage(x + u, dtype, noise))
