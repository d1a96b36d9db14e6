"""What the next step of an array optimizer would do."""

from typing import Any

from rose_arrays.optimizer import ArrayOptimizer
from rose_diagnosis import Diagnosis
from rose_diagnosis.parameter import diagnose_parameter

__all__ = ["diagnose"]


def diagnose(optimizer: ArrayOptimizer, grads: Any) -> Diagnosis:
    """Return what a step with these gradients would do to each parameter.

    For telemetry: it costs about four steps of the core, which are many of the compiled kernels, waits for the device
    to read its numbers back, and changes nothing.

    Parameters
    ----------
    optimizer : Rose
        The optimizer of `rose_numpy` or `rose_cupy`.
    grads : mapping, iterable, or iterable of those
        The gradients, as `step` takes them.

    Returns
    -------
    rose_diagnosis.Diagnosis
        A sequence of one entry a parameter, to be printed as a table with rich, plotted, or turned into plain values.

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
