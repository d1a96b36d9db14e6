"""What a step would do to a parameter, in a few plain numbers, by the phases that the step itself takes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rose_core.blocks import updated_blocks
from rose_core.gate import gated_ranges
from rose_core.hyperparameters import Hyperparameters
from rose_core.namespace import (
    Array,
    array_namespace,
    block_elements,
    device,
    dtype_name,
    quiet,
    square_root,
    widen,
)
from rose_core.partition import partition
from rose_core.rounding import ComputeDtype, operation_dtype
from rose_core.statistics import statistics_of_blocks, stays_in_place
from rose_core.summation import (
    exact_mean,
    extrema,
    fold_sigmas,
    fold_sums,
    joined_extrema,
    joined_folds,
    magnitude,
    to_summand,
)
from rose_core.update import checked_compute_dtype

__all__ = ["ParameterDiagnosis", "diagnose_parameter"]


@dataclass(frozen=True, kw_only=True)
class ParameterDiagnosis:
    """What a step would do to one parameter, in plain values.

    A number is None where there is nothing to tell: without a gradient, and without elements, there is none. One that
    a NaN or an infinity of the gradient reaches is not finite itself.

    Attributes
    ----------
    name, dtype : str
        What the optimizer calls the parameter, and its dtype.
    shape : tuple of int
        Its shape.
    slices, slice_elements : int
        How many slices it has, and how many elements each of them has; 0 at rank 0, which has no slices.
    stays_in_place : bool
        Whether no gradient moves it: centred slices of one element.
    trust : float or None
        The trust factor of the gate; None where there is no gate.
    range_min, range_median, range_max : float or None
        Of the ranges of all slices; None at rank 0.
    zero_denominators : float or None
        The share of the slices whose denominator is 0, so that 1 stands in for it; None at rank 0.
    param_rms, update_rms : float or None
        Root of the mean square of the parameter, and of what the step subtracts from it, decay and the rounding of
        the parameter left aside.
    relative_update : float or None
        Their quotient; None for a parameter of zeros.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    slices: int
    slice_elements: int
    stays_in_place: bool
    trust: float | None = None
    range_min: float | None = None
    range_median: float | None = None
    range_max: float | None = None
    zero_denominators: float | None = None
    param_rms: float | None = None
    update_rms: float | None = None
    relative_update: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by their names, in plain values, as `json.dumps` takes them."""
        return asdict(self) | {"shape": list(self.shape)}


@quiet
def diagnose_parameter(name: str, param: Array, grad: Array | None, options: Hyperparameters, /) -> ParameterDiagnosis:
    """Return what a step with these options would do to a parameter.

    Parameters
    ----------
    name : str
        What to call the parameter.
    param : array of float64, float32, float16 or bfloat16, any shape
        The parameter; without a gradient, an array of any dtype. It is not changed.
    grad : array of any of these dtypes, the shape of `param`, or None
        Its gradient.
    options : Hyperparameters
        The options of the step.

    Returns
    -------
    ParameterDiagnosis

    Raises
    ------
    TypeError, ValueError
        If a step would raise; the message has the name.

    Notes
    -----
    ROSE-4.3, ROSE-5.3, ROSE-5.5 and ROSE-6.1. It works in blocks, as a step does.

    Examples
    --------
    >>> import numpy as np
    >>> param, grad = np.full((2, 2), 2.0), np.asarray([[1.0, 3.0], [5.0, 5.0]])
    >>> found = diagnose_parameter("w", param, grad, Hyperparameters(lr=0.5, stabilize=False))
    >>> found.range_min, found.range_median, found.range_max, found.zero_denominators
    (0.0, 1.0, 2.0, 0.5)
    """
    shape = tuple(param.shape)
    known: dict[str, Any] = {
        "name": name,
        "dtype": dtype_name(param),
        "shape": shape,
        "slices": shape[0] if len(shape) > 1 else len(shape),
        "slice_elements": math.prod(shape[1:] if len(shape) > 1 else shape) if shape else 0,
        "stays_in_place": stays_in_place(shape, centralize=options.centralize),
    }
    if grad is None:
        return ParameterDiagnosis(**known)
    stochastic = options.rounds_stochastically(param)
    names = name, f"the gradient of {name}"
    compute = checked_compute_dtype(param, grad, options.compute_dtype, stochastic=stochastic, names=names)
    if 0 in shape:
        return ParameterDiagnosis(**known)
    statistics = _statistics(grad, options, compute) if shape else {}
    count = math.prod(shape)
    param_rms = _root_mean_square(lambda: _summands(param), count)
    update_rms = _root_mean_square(lambda: _steps(grad, options, compute), count)
    relative = update_rms / param_rms if param_rms else None
    return ParameterDiagnosis(
        **known, **statistics, param_rms=param_rms, update_rms=update_rms, relative_update=relative
    )


def _statistics(grad: Array, options: Hyperparameters, compute: ComputeDtype) -> dict[str, Any]:
    """Return what there is to tell of the slices of a gradient of rank 1 or more."""
    _, range_, through = statistics_of_blocks(grad, options, compute)
    xp = array_namespace(range_)
    is_zero = gated_ranges(range_, through, compute) == 0.0
    range_ = xp.reshape(range_, (-1,))
    count = range_.shape[0]
    low, high = (_number(end) for end in extrema(range_, (0,)))
    ordered = xp.sort(range_)
    middle = (_number(ordered[(count - 1) // 2]) + _number(ordered[count // 2])) / 2.0
    return {
        "trust": None if through is None else _number(through.trust),
        "range_min": low,
        "range_median": low if math.isnan(low) else middle,
        "range_max": high,
        "zero_denominators": int(xp.count_nonzero(is_zero)) / count,
    }


def _summands(param: Array) -> Iterator[Any]:
    """Return the values of a parameter, block by block."""
    for group in partition(param.shape, block_elements(param)):
        for block in group:
            part = param[block.index]
            yield to_summand(part if dtype_name(part) == "float64" else widen(part, "float32"))


def _steps(grad: Array, options: Hyperparameters, compute: ComputeDtype) -> Iterator[Any]:
    """Return what a step adds to the parameter, block by block: what it makes of zeros that do not decay."""
    xp = array_namespace(grad)
    zero = xp.zeros((), dtype=getattr(xp, operation_dtype(compute)), device=device(grad))
    zeros = xp.broadcast_to(zero, grad.shape)
    for _, _, values in updated_blocks([zeros], [grad], options, factor=1.0, compute=compute):
        yield to_summand(values)


def _root_mean_square(parts: Callable[[], Iterator[Any]], count: int) -> float:
    """Return the root of the mean square of `count` values that lie in parts, the same for every way to cut them.

    A power of two keeps the squares from over- and underflowing, and changes no bit else.
    """
    largest = magnitude(joined_extrema(extrema(_flat(x), (0,)) for x in parts()))
    limit = 1000 if dtype_name(largest) == "float64" else 100
    exponent = max(-limit, min(limit, math.frexp(_number(largest))[1]))
    scaled = largest * 2.0**-exponent
    sigmas = fold_sigmas(scaled * scaled, count)  # rounding is monotonic: the largest square is that of the largest
    folds = joined_folds(fold_sums(_square(x, 2.0**-exponent), sigmas, (0,)) for x in parts())
    return _number(square_root(exact_mean(folds, count))) * 2.0**exponent


def _square(x: Array, factor: float) -> Any:
    scaled = _flat(x) * factor
    return scaled * scaled


def _flat(x: Array) -> Any:
    return array_namespace(x).reshape(x, (-1,))


def _number(x: Array) -> float:
    return float(array_namespace(x).reshape(x, ()))
