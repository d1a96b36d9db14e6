"""The step of some rows of an array, as if they were the whole array."""

from collections.abc import Mapping
from typing import Any

from rose_core import Hyperparameters
from rose_core.decay import group_reference
from rose_core.namespace import array_namespace, dtype_name, require_array, require_like
from rose_core.noise import NoiseKey, noise_at
from rose_core.update import checked_compute_dtype, update

__all__ = ["check_rows", "stepped_rows"]


def stepped_rows(
    group: Mapping[str, Any], options: Hyperparameters, index: int, param: Any, name: str, rows: Any, grad: Any
) -> Any:
    """Return the rows after a step, or raise. Nothing is changed.

    Parameters
    ----------
    group, options : mapping, Hyperparameters
        The group of the array and its options.
    index : int
        The index of the array among all arrays of the optimizer.
    param, name : array, str
        The array and its name for errors.
    rows : array of integers, shape (n,)
        The rows, checked by `check_rows`.
    grad : array, shape (n, ...)
        The gradient of these rows.
    """
    touched, stochastic = param[rows], options.rounds_stochastically(param)
    names = f"{name}[rows]", "grad"
    checked_compute_dtype(touched, grad, options.compute_dtype, stochastic=stochastic, names=names)
    noise = None
    if stochastic and touched.size:
        noise = _noise_of_rows(NoiseKey(options.sr_seed, group["step"], index), rows, touched)  # type: ignore[arg-type]
    return update(
        touched,
        grad,
        lr=options.lr,
        weight_decay=options.weight_decay,
        lr_reference=group_reference(options, group),
        centralize=options.centralize,
        stabilize=options.stabilize,
        compute_dtype=options.compute_dtype,
        noise=noise,
        maximize=options.maximize,
        max_step=options.max_step,
    )


def check_rows(rows: Any, param: Any, name: str) -> None:
    """Raise an error that says what is wrong with the numbers of rows."""
    require_array(rows, "rows", "of integers")
    if not dtype_name(rows).startswith(("int", "uint")) or rows.ndim != 1:
        raise TypeError(f"rows must be integers of shape (n,), got {dtype_name(rows)} of shape {tuple(rows.shape)}")
    require_like(param, rows, (name, "rows"), any_shape=True)
    if param.ndim == 0:
        raise ValueError(f"{name} has no rows, since it has rank 0")
    if rows.size:
        xp = array_namespace(rows)
        low, high = int(xp.min(rows)), int(xp.max(rows))
        if low < 0 or high >= param.shape[0]:
            raise ValueError(f"rows must lie in [0, {param.shape[0]}) for {name}, got {low} to {high}")
        if xp.unique_values(rows).size < rows.size:
            raise ValueError("rows must not repeat a row; add up the gradients of a repeated row first")


def _noise_of_rows(key: NoiseKey, rows: Any, touched: Any) -> Any:
    """Return the noise words of all elements of some rows."""
    xp, length = array_namespace(touched), touched.size // len(rows)
    positions = xp.astype(rows, xp.int64)[:, None] * length + xp.arange(length, dtype=xp.int64)[None, :]
    return xp.reshape(noise_at(key, xp.reshape(positions, (-1,))), touched.shape)
