"""The public face of the rule: its functions check every argument once, then call `rose_core.rule`."""

import math
from typing import Any, NamedTuple, TypeVar

from rose_core import rule
from rose_core.decay import checked_decay_factor
from rose_core.hyperparameters import resolve_compute_dtype, validated
from rose_core.namespace import (
    Array,
    array_namespace,
    detached,
    dtype_name,
    floating_dtype,
    quiet,
    require_integer_words,
    require_like,
)
from rose_core.rounding import ComputeDtype, to_noise

__all__ = ["SliceStatistics", "checked_compute_dtype", "slice_statistics", "update"]

ArrayT = TypeVar("ArrayT", bound=Array)


@quiet
def update(
    param: ArrayT,
    grad: ArrayT,
    /,
    *,
    lr: float,
    weight_decay: float | None = 1e-4,
    lr_reference: float | None = None,
    centralize: bool = True,
    stabilize: bool = True,
    compute_dtype: Any = "fp64",
    noise: Any = None,
    maximize: bool = False,
    max_step: float | None = None,
) -> ArrayT:
    """Return the parameter after one step of Rose.

    Parameters
    ----------
    param : array of float64, float32, float16 or bfloat16, any shape
        The parameter; axis 0 counts its slices. It is not changed.
    grad : array of any of these dtypes, the shape of `param`
        Its gradient, of the same library and on the same device.
    lr : float
        Learning rate, a finite number >= 0.
    weight_decay : float or None
        Coefficient of the decoupled weight decay, a finite number >= 0; None is 0.
    lr_reference : float or None
        Reference learning rate of a schedule-coupled decay, a finite number > 0. With None the decay is
        proportional to `lr` itself.
    centralize : bool
        Whether to subtract the mean of each slice, at rank 2 and above.
    stabilize : bool
        Whether to blend the ranges with their mean by the trust factor, at rank 2 and above.
    compute_dtype : str, dtype or None
        The dtype that every intermediate value is rounded to: "fp64", "fp32", "fp16", "bf16", or a dtype
        of any library. None is the parameter's own dtype, or float32 for bfloat16 with `noise`.
    noise : array of integers, the shape of `param`, or None
        One word in [0, 2**16) for each element, to round a bfloat16 parameter stochastically. None rounds to
        nearest, ties to even.
    maximize : bool
        Whether to ascend the gradient.
    max_step : float or None
        The largest change of an element, as a multiple of `lr`: a number > 0. None and infinity do not limit it.

    Returns
    -------
    array
        A new array of the library, dtype, shape and device of `param`. Its memory layout may differ.

    Raises
    ------
    TypeError
        If an array is of another kind than named here, or an option is of the wrong type.
    ValueError
        If shapes or devices differ, or an option has a value that is not allowed. Also if `noise` is given for a
        parameter that is not bfloat16, or for a 16-bit compute dtype.

    Notes
    -----
    ``param <- param * decay - lr * (grad - mean) / denominator``: ROSE-2.6, ROSE-3.1, ROSE-6.1 to 6.4.
    The sign and the payload of a NaN may differ from one library to another (ROSE-12.1).

    Examples
    --------
    >>> import numpy as np
    >>> param, grad = np.ones((2, 2)), np.asarray([[1.0, 3.0], [0.0, 4.0]])
    >>> update(param, grad, lr=0.75, weight_decay=0.0, stabilize=False)
    array([[1.375, 0.625],
           [1.375, 0.625]])
    """
    options = validated(
        lr=lr,
        weight_decay=weight_decay,
        lr_reference=lr_reference,
        centralize=centralize,
        stabilize=stabilize,
        compute_dtype=compute_dtype,
        maximize=maximize,
        max_step=max_step,
    )
    compute = checked_compute_dtype(param, grad, options["compute_dtype"], stochastic=noise is not None)
    words = None if noise is None else _checked_noise(param, noise, compute)
    xp = array_namespace(param)
    if 0 in param.shape:
        return xp.zeros_like(param)  # type: ignore[no-any-return]  # ROSE-1.4
    step = rule.StepOptions(
        lr=options["lr"],
        decay=checked_decay_factor(options["lr"], options["weight_decay"], options["lr_reference"]),
        centralize=options["centralize"],
        stabilize=options["stabilize"],
        maximize=options["maximize"],
        compute=compute,
        max_step=None if options["max_step"] == math.inf else options["max_step"],
    )
    x, g = detached(param, grad)
    result = rule.step(x, g, step, words)
    return xp.asarray(result)  # type: ignore[no-any-return]  # NumPy's operations return scalars at rank 0


class SliceStatistics(NamedTuple):
    """The intermediate values of a step, for m slices.

    They are held in the operation dtype: float64 for compute dtype "fp64", float32 otherwise.

    Attributes
    ----------
    mean : array of shape (m,), or None
        The mean that centering subtracts from each slice; None without centering.
    range : array of shape (m,), or None
        The range of each slice; None at rank 0, which has no slices.
    trust : array of shape (), or None
        The trust factor; None without a gate.
    denominator : array of shape (m,), or None
        The number that each slice is divided by; None at rank 0.
    """

    mean: Any
    range: Any
    trust: Any
    denominator: Any


@quiet
def slice_statistics(
    grad: Array, /, *, centralize: bool = True, stabilize: bool = True, compute_dtype: Any = "fp64"
) -> SliceStatistics:
    """Return the statistics that a step computes from a gradient before it touches the parameter.

    Use it for telemetry, or to find the first wrong intermediate value of a port.

    Parameters
    ----------
    grad : array of float64, float32, float16 or bfloat16, any shape
        The gradient. A vector is one slice.
    centralize, stabilize, compute_dtype
        As in `Hyperparameters`. None as `compute_dtype` is the gradient's own dtype.

    Returns
    -------
    SliceStatistics
        The named tuple (mean, range, trust, denominator) of arrays of the gradient's library.

    Raises
    ------
    TypeError
        If `grad` is not an array of one of these dtypes, or an option is of the wrong type.
    ValueError
        If an option has a value that is not allowed, or `grad` has no elements.

    Notes
    -----
    ROSE-4.2, ROSE-4.3, ROSE-5.3 and ROSE-5.4 with ROSE-5.5, in this order.

    Examples
    --------
    >>> import numpy as np
    >>> statistics = slice_statistics(np.asarray([[1.0, 3.0], [0.0, 4.0]]))
    >>> [values.tolist() for values in statistics]
    [[2.0, 2.0], [2.0, 4.0], 0.75, [2.25, 3.75]]
    """
    dtype = floating_dtype(grad, "grad")
    options = validated(centralize=centralize, stabilize=stabilize, compute_dtype=compute_dtype)
    if 0 in grad.shape:
        raise ValueError(f"grad must have elements, got shape {tuple(grad.shape)}")
    step = rule.StepOptions(
        lr=0.0,
        decay=1.0,
        centralize=options["centralize"],
        stabilize=options["stabilize"],
        maximize=False,
        compute=resolve_compute_dtype(options["compute_dtype"], grad, dtype, stochastic=False),
    )
    mean, range_ = rule.statistics(rule.gradient(detached(grad)[0], step), step)
    gate = rule.gate_of_ranges(range_, step)
    denominator = rule.denominators(range_, gate, step)
    xp = array_namespace(grad)
    vectors = [None if x is None else xp.reshape(x, (-1,)) for x in (mean, range_, denominator)]
    trust = None if gate is None else xp.reshape(gate.trust, ())
    return SliceStatistics(mean=vectors[0], range=vectors[1], trust=trust, denominator=vectors[2])


def checked_compute_dtype(
    param: Array,
    grad: Array,
    compute_dtype: ComputeDtype | None,
    *,
    stochastic: bool,
    names: tuple[str, str] = ("param", "grad"),
) -> ComputeDtype:
    """Return the compute dtype of a step, or raise for arrays that a step refuses. `names` has their names.

    An optimizer calls it for every parameter before it writes the first one (ROSE-11.2, ROSE-11.3).
    """
    dtype = floating_dtype(param, names[0])
    floating_dtype(grad, names[1])
    require_like(param, grad, names)
    return resolve_compute_dtype(compute_dtype, param, dtype, stochastic=stochastic)


def _checked_noise(param: Array, noise: Any, compute: ComputeDtype) -> Any:
    if dtype_name(param) != "bfloat16":
        raise ValueError(f"noise must be None for a param of dtype {dtype_name(param)}; it rounds bfloat16 only")
    if compute in ("fp16", "bf16"):
        raise ValueError(f"noise needs a compute_dtype wider than 16 bits, got {compute!r}")
    require_integer_words(param, noise, "param")
    return to_noise(noise)
