"""The CuPy optimizer of the rules of `rose_core.peers`."""

from rose_arrays import RuleOptimizer
from rose_cupy.arrays import CupyArrays

__all__ = ["Optimizer"]


class Optimizer(CupyArrays, RuleOptimizer):
    """A rule of `rose_core.peers` over CuPy arrays, updated in place.

    Parameters
    ----------
    params : mapping of str to cupy.ndarray, iterable of cupy.ndarray, or iterable of dict
        The parameters: arrays of float64, float32, float16 or `ml_dtypes.bfloat16`. A dict is a group. It has
        "params", a mapping or an iterable of arrays, and may override the options of the optimizer.
    rule : rose_core.peers.Rule
        The rule, such as ``AdamW(betas=(0.9, 0.95))``.
    lr : float
        Learning rate, a finite number >= 0.
    weight_decay, weight_decay_method, maximize, bf16_sr, sr_seed
        As in `rose_plan.rule_steps.GroupOptions`.

    Attributes
    ----------
    param_groups : list of dict
        The groups with their options. They may be changed between steps, for instance "lr" by a schedule.

    Raises
    ------
    TypeError, ValueError
        If an array or an option is not allowed; the message names it.

    Notes
    -----
    A step is queued on the current stream of the current device, and the host does not wait for it. At compute dtype
    float64 the results have the bits of NumPy.
    """
