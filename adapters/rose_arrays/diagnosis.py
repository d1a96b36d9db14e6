"""The effect of the next step of an array optimizer."""

from typing import Any

from rose_arrays.optimizer import ArrayOptimizer
from rose_diagnosis import Diagnosis
from rose_diagnosis.parameter import diagnose_parameter

__all__ = ["diagnose"]


def diagnose(optimizer: ArrayOptimizer, grads: Any) -> Diagnosis:
    """Return the effect that a step with these gradients would have on each parameter.

    Use it for telemetry. It costs about four steps of the core, which are many steps of the compiled kernels, and
    waits for the device to read numbers back. It changes nothing.

    Parameters
    ----------
    optimizer : Rose
        The optimizer of `rose_numpy` or `rose_cupy`.
    grads : mapping, iterable, or iterable of those
        The gradients, as `step` takes them.

    Returns
    -------
    rose_diagnosis.Diagnosis
        A sequence with an entry for each parameter. It can be printed as a table, plotted, or converted to plain
        values.

    Raises
    ------
    TypeError, ValueError
        If `optimizer` is no such optimizer, or its step would raise.

    Examples
    --------
    >>> import numpy as np
    >>> from rose_numpy import Rose, diagnose
    >>> optimizer = Rose({"w": np.full((2, 2), 0.5)}, lr=0.25)
    >>> diagnosis = diagnose(optimizer, {"w": np.asarray([[1.0, 3.0], [2.0, 4.0]])})
    >>> diagnosis.scalars()["rose/w/relative_update"]
    0.25
    """
    if not isinstance(optimizer, ArrayOptimizer):
        raise TypeError(f"optimizer must be a Rose of rose_numpy or rose_cupy, got {type(optimizer).__name__}")
    return Diagnosis(diagnose_parameter(*entry) for entry in optimizer.named_gradients(grads))
