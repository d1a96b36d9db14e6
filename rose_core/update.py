"""One step of Rose for one parameter: what is checked before it, and its result in one piece."""

from collections.abc import Sequence
from typing import Any, TypeVar

from rose_core.blocks import NoiseSource, updated_blocks
from rose_core.decay import decay_factor
from rose_core.hyperparameters import Hyperparameters, resolve_compute_dtype
from rose_core.namespace import (
    Array,
    array_namespace,
    dtype_name,
    floating_dtype,
    require_integer_words,
    require_same_place,
)
from rose_core.rounding import ComputeDtype, to_noise

__all__ = ["checked_compute_dtype", "repeats_memory", "update"]

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
    source = None if noise is None else _checked_noise(param, noise, compute)
    blocks = updated_blocks([param], [grad], options, factor=factor, compute=compute, noise=source)
    xp = array_namespace(param)
    rounded = [xp.astype(values, param.dtype) for _, _, values in blocks]
    return _joined(param, rounded)  # type: ignore[no-any-return]


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
        extent += stride * (length - 1)
    return False


def _joined(param: Array, blocks: list[Any]) -> Any:
    """Return the array that consists of blocks in C order."""
    if len(blocks) == 1:
        return blocks[0]
    xp = array_namespace(param)
    return xp.reshape(xp.concat([xp.reshape(values, (-1,)) for values in blocks]), param.shape)


def _checked_noise(param: Array, noise: Any, compute: ComputeDtype) -> NoiseSource:
    if dtype_name(param) != "bfloat16":
        raise ValueError(f"noise must be None for a param of dtype {dtype_name(param)}; it rounds bfloat16 only")
    if compute in ("fp16", "bf16"):
        raise ValueError(f"noise needs a compute_dtype wider than 16 bits, got {compute!r}")
    require_integer_words(param, noise, "param")
    words = array_namespace(noise).reshape(noise, (-1,))
    return lambda _, start, stop: to_noise(words[start:stop])
