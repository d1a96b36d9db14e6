"""The CuPy optimizer."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rose_arrays import ArrayOptimizer

try:
    import cupy
except ImportError as error:
    raise ImportError(
        "rose_cupy needs CuPy: pip install 'rose-core[cupy12]' for CUDA 12, 'rose-core[cupy13]' for CUDA 13"
    ) from error

__all__ = ["Rose"]


class Rose(ArrayOptimizer):
    """Rose (Range-Of-Slice Equilibration, by Matthew E. Kieren) over CuPy arrays, updated in place.

    A step is queued on the current stream of the current device, on which the arrays must be, and
    does not wait for it.

    Parameters
    ----------
    params : mapping of str to cupy.ndarray, iterable of cupy.ndarray, or iterable of dict
        The parameters: arrays of float64, float32, float16 or `ml_dtypes.bfloat16`. A dict is a group:
        "params", a mapping or an iterable of arrays, and options that hold for it alone.
    lr : float
        Learning rate, a finite number >= 0.
    weight_decay, wd_schedule, centralize, stabilize, bf16_sr, compute_dtype, maximize
        As in `rose_core.Hyperparameters`.
    sr_seed : int
        Seed of the noise that rounds bfloat16 parameters, in [0, 2**64).
    fused : bool or None
        None or False: there are no kernels for CuPy arrays.

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
    `spec/SPEC.md` says what a step computes, and `rose_core` computes it. CuPy flushes
    float32 subnormals: results are those of NumPy, bit for bit, at compute dtype float64, and at the
    others where no float32 intermediate is subnormal (ROSE-12.3).
    """

    def _check_param(self, array: Any, label: str) -> None:
        if not isinstance(array, cupy.ndarray):
            raise TypeError(f"{label} must be a cupy.ndarray, got {type(array).__name__}")
        current = cupy.cuda.Device()
        if array.device != current:
            raise ValueError(f"{label} is on {array.device}, the current device is {current}; they must be the same")

    def _addresses_of(self, arrays: Sequence[Any]) -> np.ndarray:
        return np.asarray([array.data.ptr for array in arrays], np.int64)
