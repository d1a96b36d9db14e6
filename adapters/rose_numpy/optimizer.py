"""The NumPy optimizer."""

from typing import Any

import numpy as np

from rose_arrays import ArrayOptimizer

__all__ = ["Rose"]


class Rose(ArrayOptimizer):
    """Rose (Range-Of-Slice Equilibration, by Matthew E. Kieren) over NumPy arrays, updated in place.

    Parameters
    ----------
    params : mapping of str to ndarray, iterable of ndarray, or iterable of dict
        The parameters: writable arrays of float64, float32, float16 or `ml_dtypes.bfloat16`. A dict is a
        group: "params", a mapping or an iterable of arrays, and options that hold for it alone.
    lr : float
        Learning rate, a finite number >= 0.
    weight_decay, wd_schedule, centralize, stabilize, bf16_sr, compute_dtype, maximize
        As in `rose_core.Hyperparameters`.
    sr_seed : int
        Seed of the noise that rounds bfloat16 parameters, in [0, 2**64).

    Attributes
    ----------
    param_groups : list of dict
        The groups with their options, which may be changed between steps: a schedule sets "lr".

    Raises
    ------
    TypeError, ValueError
        If an array or an option is not allowed; the message names it.

    Notes
    -----
    `spec/SPEC.md` says what a step computes. Each parameter is updated by `rose_core.update`.

    Examples
    --------
    >>> import numpy as np
    >>> weights = {"w": np.ones((2, 2), np.float32), "b": np.zeros(2, np.float32)}
    >>> optimizer = Rose(weights, lr=0.5, weight_decay=0.0)
    >>> optimizer.step({"w": np.asarray([[1, 3], [2, 4]], np.float32), "b": None})
    >>> weights["w"].tolist()
    [[1.25, 0.75], [1.25, 0.75]]
    """

    def _check_param(self, array: Any, label: str) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{label} must be a numpy.ndarray, got {type(array).__name__}")
        if not array.flags.writeable:
            raise ValueError(f"{label} must be writable, since it is updated in place; it is read-only")
