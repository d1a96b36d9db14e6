"""Averages of parameters over the steps of a run."""

import numbers
from typing import Any, TypeVar

from rose_core.hyperparameters import validate
from rose_core.namespace import Array, array_namespace, detached, dtype_name, quiet
from rose_core.rounding import round_to_compute, to_compute, to_storage
from rose_core.update import checked_compute_dtype, checked_noise

__all__ = ["average"]

ArrayT = TypeVar("ArrayT", bound=Array)


@quiet
def average(mean: ArrayT, param: Array, /, *, decay: float, compute_dtype: Any = "fp64", noise: Any = None) -> ArrayT:
    """Return the exponential moving average (EMA) of a parameter after one more step.

    Parameters
    ----------
    mean : array of float64, float32, float16 or bfloat16, any shape
        The average so far. Begin with a copy of the parameter. It is not changed.
    param : array of any of these dtypes, the shape of `mean`
        The parameter after the step, of the same library and on the same device.
    decay : float
        Weight of the average so far, in [0, 1]. The result reaches back about ``1 / (1 - decay)`` steps.
    compute_dtype : str, dtype or None
        The dtype that every intermediate value is rounded to, as in `rose_core.update`.
    noise : array of integers, the shape of `mean`, or None
        One word in [0, 2**16) for each element, to round an average in bfloat16 stochastically. With None, such an
        average stops where a change is smaller than half the spacing of bfloat16.

    Returns
    -------
    array
        A new array of the library, dtype, shape and device of `mean`.

    Raises
    ------
    TypeError
        If an array is of another kind than named here, or an option is of the wrong type.
    ValueError
        If shapes or devices differ, or an option has a value that is not allowed. Also if `noise` is given for an
        average that is not bfloat16, or for a 16-bit compute dtype.

    Notes
    -----
    ``mean + (1 - decay) * (param - mean)``, or ``param + decay * (mean - param)`` where `decay` is below 0.5. So with a
    `decay` of 0 the result is the parameter. Every library returns the same bits.

    Elements of `mean` and `param` that are equal are kept, infinite ones too. If both are zeros, the result has the
    sign of `mean`. Where `decay` is below 0.5, it has the sign of `param`.

    Take another seed for `rose_core.noise_words` than the optimizer has. Otherwise the parameter and its average are
    rounded with the same noise.

    Examples
    --------
    >>> import numpy as np
    >>> average(np.asarray([1.0, 2.0]), np.asarray([2.0, 2.0]), decay=0.75)
    array([1.25, 2.  ])
    """
    allowed = "decay must be a number in [0, 1]"
    if not isinstance(decay, numbers.Real) or isinstance(decay, bool):
        raise TypeError(f"{allowed}, got {decay!r}")
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"{allowed}, got {decay!r}")
    chosen, names = validate("compute_dtype", compute_dtype), ("mean", "param")
    compute = checked_compute_dtype(mean, param, chosen, stochastic=noise is not None, names=names)
    words = None if noise is None else checked_noise(mean, noise, compute, "mean")
    x, p = (to_compute(array, compute) for array in detached(mean, param))
    near, far, weight = (p, x, float(decay)) if decay < 0.5 else (x, p, 1.0 - float(decay))
    xp, result = array_namespace(mean), near
    if weight:
        change = round_to_compute(weight * round_to_compute(far - near, compute), compute)
        moved = round_to_compute(near + change, compute)
        result = xp.where(far == near, near, moved)  # infinity minus infinity is NaN
    return xp.asarray(to_storage(result, dtype_name(mean), words))  # NumPy's operations return scalars at rank 0
