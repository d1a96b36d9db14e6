"""One step of Rose for one parameter, and the elementwise update: the last of the three phases (ROSE-6)."""

from collections.abc import Sequence
from typing import Any, TypeVar

from rose_core.decay import apply_decay, decay_factor
from rose_core.gate import denominators
from rose_core.hyperparameters import Hyperparameters, resolve_compute_dtype
from rose_core.namespace import (
    Array,
    array_namespace,
    dtype_name,
    floating_dtype,
    quiet,
    require_integer_words,
    require_same_place,
    scalar,
)
from rose_core.rounding import ComputeDtype, round_number, round_to_compute, to_compute, to_storage
from rose_core.statistics import center, measure

__all__ = ["advance", "advance_by_sign", "checked_compute_dtype", "repeats_memory", "update", "updated"]

ArrayT = TypeVar("ArrayT", bound=Array)


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
        Reference learning rate of a schedule-coupled decay, a finite number > 0; None decays in
        proportion to `lr` itself.
    centralize : bool
        Whether to subtract the mean of each slice, at rank 2 and above.
    stabilize : bool
        Whether to blend the ranges with their mean by the trust factor, at rank 2 and above.
    compute_dtype : str, dtype or None
        The dtype that every intermediate value is rounded to: "fp64", "fp32", "fp16", "bf16", or a dtype
        of any library; None is the parameter's own, float32 for bfloat16 with `noise`.
    noise : array of integers, the shape of `param`, or None
        One word in [0, 2**16) an element, to round a bfloat16 parameter stochastically. None rounds to
        nearest, ties to even.
    maximize : bool
        Whether to ascend the gradient.

    Returns
    -------
    array
        A new array of the library, dtype, shape and device of `param`, whatever its memory layout.

    Raises
    ------
    TypeError
        If an array is of another kind than named here, or an option is of the wrong type.
    ValueError
        If shapes or devices differ, an option has a value that is not allowed, or `noise` is given for a
        parameter that is not bfloat16 or beside a 16-bit compute dtype.

    Notes
    -----
    ``param <- param * decay - lr * (grad - mean) / denominator``: ROSE-2.6, ROSE-3.1, ROSE-6.1 to 6.3.
    The sign and the payload of a NaN may differ from one library to another (ROSE-12.1).

    Examples
    --------
    >>> import numpy as np
    >>> param, grad = np.ones((2, 2)), np.asarray([[1.0, 3.0], [0.0, 4.0]])
    >>> update(param, grad, lr=0.75, weight_decay=0.0, stabilize=False)
    array([[1.375, 0.625],
           [1.375, 0.625]])
    """
    options = Hyperparameters(
        lr=lr,
        weight_decay=weight_decay,
        centralize=centralize,
        stabilize=stabilize,
        bf16_sr=False,
        compute_dtype=compute_dtype,
        maximize=maximize,
    )
    factor = decay_factor(options.lr, weight_decay=options.weight_decay, lr_reference=lr_reference)
    compute = checked_compute_dtype(param, grad, options.compute_dtype, stochastic=noise is not None)
    if noise is not None:
        _check_noise(param, noise, compute)
    return updated(param, grad, options, factor=factor, compute=compute, noise=noise)  # type: ignore[no-any-return]


@quiet
def updated(
    param: Array, grad: Array, options: Hyperparameters, *, factor: float, compute: ComputeDtype, noise: Array | None
) -> Any:
    """Return the parameter after a step whose arrays and options are checked: the three phases in their order."""
    xp = array_namespace(param)
    if 0 in param.shape:  # ROSE-1.4
        return xp.zeros_like(param)
    x, g = apply_decay(to_compute(param, compute), factor, compute), to_compute(grad, compute)
    g = -g if options.maximize else g  # ROSE-1.3
    if x.ndim == 0:
        x = advance_by_sign(x, g, lr=options.lr, compute=compute)
    else:
        mean, range_ = measure(g, centralize=options.centralize, compute=compute)
        _, denominator = denominators(range_, stabilize=options.stabilize, compute=compute)
        x = advance(x, center(g, mean, compute), denominator, lr=options.lr, compute=compute)
    return xp.reshape(to_storage(x, dtype_name(param), noise), param.shape)


def checked_compute_dtype(
    param: Array,
    grad: Array,
    compute_dtype: ComputeDtype | None,
    *,
    stochastic: bool,
    names: tuple[str, str] = ("param", "grad"),
) -> ComputeDtype:
    """Return the compute dtype of a step, or raise what the step would; `names` are those of the arrays.

    An optimizer calls it for every parameter before it writes the first one (ROSE-11.2, ROSE-11.3).
    """
    floating_dtype(param, names[0])
    floating_dtype(grad, names[1])
    require_same_place(param, grad, names)
    return resolve_compute_dtype(compute_dtype, param, stochastic=stochastic)


def repeats_memory(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Tell whether elements share memory, as those of an expanded array do, so that no step in place is possible."""
    extent = 1
    for stride, length in sorted((abs(stride), n) for n, stride in zip(shape, strides, strict=True) if n > 1):
        if stride < extent:
            return 0 not in shape
        extent = stride * length
    return False


def advance(x: Array, g: Array, denominator: Array, *, lr: float, compute: ComputeDtype) -> Any:
    """Step against the gradient divided by its slice's denominator (ROSE-6.1)."""
    return round_to_compute(x + (g * round_number(-lr, compute)) / denominator, compute)


def advance_by_sign(x: Array, g: Array, *, lr: float, compute: ComputeDtype) -> Any:
    """Step against the sign of a gradient of rank 0 (ROSE-6.2)."""
    xp = array_namespace(x)
    # Not xp.sign: libraries differ in the sign of NaN and of a zero.
    sign = xp.astype(g > 0.0, x.dtype) - xp.astype(g < 0.0, x.dtype)
    step = sign * round_to_compute(scalar(x, round_number(-lr, compute)), compute)
    return round_to_compute(x + xp.where(xp.isnan(g), g, step), compute)


def _check_noise(param: Array, noise: Any, compute: ComputeDtype) -> None:
    if dtype_name(param) != "bfloat16":
        raise ValueError(f"noise must be None for a param of dtype {dtype_name(param)}; it rounds bfloat16 only")
    if compute in ("fp16", "bf16"):
        raise ValueError(f"noise needs a compute_dtype wider than 16 bits, got {compute!r}")
    require_integer_words(param, noise, "param")
