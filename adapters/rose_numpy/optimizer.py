"""The NumPy optimizer."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from rose_arrays import ArrayOptimizer
from rose_core import Hyperparameters
from rose_core.namespace import dtype_name
from rose_core.rounding import ComputeDtype
from rose_kernels import Kernel, Kernels, Kind, Threads, get_num_threads, layout_of, resolve_fused
from rose_numpy.arrays import NumpyArrays
from rose_plan import Plan, Properties

__all__ = ["Rose"]

# The properties that the checks depend on.
_OF_GRAD: Final = operator.attrgetter("dtype", "shape", "strides")
_OF_PARAM: Final = operator.attrgetter("dtype", "shape", "strides", "flags.writeable")


class Rose(NumpyArrays, ArrayOptimizer):
    """Rose (Range-Of-Slice Equilibration, by Matthew E. Kieren) over NumPy arrays, updated in place.

    Parameters
    ----------
    params : mapping of str to ndarray, iterable of ndarray, or iterable of dict
        The parameters: writable arrays of float64, float32, float16 or `ml_dtypes.bfloat16`. A dict is a group. It
        has "params", a mapping or an iterable of arrays, and options that override those of the optimizer.
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
        Whether compiled kernels update the arrays, with `rose_kernels.get_num_threads()` threads. They need Numba,
        and change no bit. True waits for them at the first step; None uses them once they are compiled.

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
    RuntimeError
        If `fused` is True and there are no kernels.

    Notes
    -----
    `spec/SPEC.md` specifies a step, `rose_core` computes it, and the kernels return the same bits.

    Examples
    --------
    >>> import numpy as np
    >>> weights = {"w": np.ones((2, 2), np.float32), "b": np.zeros(2, np.float32)}
    >>> optimizer = Rose(weights, lr=0.5, weight_decay=0.0)
    >>> optimizer.step({"w": np.asarray([[1, 3], [2, 4]], np.float32), "b": None})
    >>> weights["w"].tolist()
    [[1.25, 0.75], [1.25, 0.75]]
    """

    def _use_kernels(self, fused: bool | None) -> None:
        self._fused, self._kernels = resolve_fused(fused), Kernels()

    @staticmethod
    def _properties(params: Sequence[Any], grads: Sequence[Any]) -> Properties | None:
        if {*map(type, params), *map(type, grads)} != {np.ndarray}:
            return None
        return list(map(_OF_PARAM, params)), list(map(_OF_GRAD, grads))

    def _kernel_of(self, param: Any, grad: Any, options: Hyperparameters, compute: ComputeDtype) -> Kernel | None:
        kind = Kind(dtype_name(param), dtype_name(grad), compute)
        if self._fused is False or not kind.has_kernels or not type(param) is type(grad) is np.ndarray:
            return None
        if any(stride % x.itemsize for x in (param, grad) for stride in x.strides):
            return None
        layout = layout_of(
            param.shape,
            [stride // param.itemsize for stride in param.strides],
            [stride // grad.itemsize for stride in grad.strides],
            (param.itemsize, grad.itemsize),
            centralize=options.centralize,
            stabilize=options.stabilize,
            in_c_order=options.rounds_stochastically(param),
        )
        return None if layout is None else Kernel(kind, layout)

    def _prepare_run(self, plan: Plan) -> Callable[[], None]:
        return super()._prepare_run(plan.with_ready_kernels(self._kernels))

    def _run_updates(self, plan: Plan, addresses: tuple[np.ndarray, np.ndarray], positions: Sequence[int]) -> None:
        kernels = plan.checked.kernels
        fused = [position for position in positions if kernels[position] is not None]
        if fused:
            self._kernels.run(plan.launch(*addresses, fused), Threads(get_num_threads()))
        super()._run_updates(plan, addresses, [position for position in positions if kernels[position] is None])
