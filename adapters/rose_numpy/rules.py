"""The NumPy optimizer of the rules of `rose_core.peers`."""

from rose_arrays import RuleOptimizer
from rose_numpy.arrays import NumpyArrays

__all__ = ["Optimizer"]


class Optimizer(NumpyArrays, RuleOptimizer):
    """A rule of `rose_core.peers` over NumPy arrays, updated in place.

    Parameters
    ----------
    params : mapping of str to ndarray, iterable of ndarray, or iterable of dict
        The parameters: writable arrays of float64, float32, float16 or `ml_dtypes.bfloat16`. A dict is a group. It has
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

    Examples
    --------
    >>> import numpy as np
    >>> from rose_core.peers import Lion
    >>> weights = {"w": np.ones(2, np.float32), "b": np.zeros(1, np.float32)}
    >>> optimizer = Optimizer(weights, Lion(), lr=0.25, weight_decay=0.0)
    >>> optimizer.step({"w": np.asarray([3.0, -2.0], np.float32), "b": None})
    >>> weights["w"].tolist()
    [0.75, 1.25]
    """
