"""The CuPy optimizer."""

from collections.abc import Sequence
from typing import Any

from rose_arrays import ArrayOptimizer
from rose_cupy.arrays import CupyArrays

__all__ = ["Rose"]


class Rose(CupyArrays, ArrayOptimizer):
    """Rose (Range-Of-Slice Equilibration, by Matthew E. Kieren) over CuPy arrays, updated in place.

    A step is queued on the current stream of the current device, and the host does not wait for it, unless `nonfinite`
    is "skip" or "raise". `step_rows` waits, too. The arrays must be on this device.

    Parameters
    ----------
    params : mapping of str to cupy.ndarray, iterable of cupy.ndarray, or iterable of dict
        The parameters: arrays of float64, float32, float16 or `ml_dtypes.bfloat16`. A dict is a group. It has
        "params", a mapping or an iterable of arrays, and options that override those of the optimizer.
    lr : float
        Learning rate, a finite number >= 0.
    weight_decay, wd_schedule, centralize, stabilize, bf16_sr, compute_dtype, maximize, max_step
        As in `rose_core.Hyperparameters`.
    sr_seed : int
        Seed of the noise that rounds bfloat16 parameters, in [0, 2**64).
    nonfinite : str
        What a step with an infinity or a NaN in a gradient does: "propagate" takes the rule as it is; "skip" leaves the
        whole step out, decay and step count included, and adds 1 to `skipped_steps`; "raise" raises.
    fused : bool or None
        None or False. There are no compiled kernels for CuPy arrays.

    Attributes
    ----------
    param_groups : list of dict
        The groups with their options. They may be changed between steps, for instance "lr" by a schedule.
    skipped_steps : int
        The number of steps that ``nonfinite="skip"`` left out.

    Raises
    ------
    TypeError, ValueError
        If an array or an option is not allowed; the message names it.

    Notes
    -----
    `spec/SPEC.md` specifies a step, and `rose_core` computes it. There is no warning about very large steps: the host
    would wait for the gradients. CuPy flushes float32 subnormals. At compute dtype
    float64 the results equal those of NumPy, bit for bit. At other compute dtypes they may differ if a float32
    intermediate is subnormal (ROSE-12.3).
    """

    @staticmethod
    def _readable(grads: Sequence[Any], position: int) -> Any:  # noqa: ARG004
        return None  # the host would wait for the device
