"""The effect of the next step on one parameter, in plain numbers, by the functions of the step itself."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rose_core import Hyperparameters, rule
from rose_core.chunks import chunks_of_slices, statistics_in_chunks
from rose_core.namespace import Array, array_namespace, as_float64, convert, detached, dtype_name, quiet, square_root
from rose_core.summation import Extrema, extrema, fold_sigmas, fold_sums, mean_of_folds
from rose_core.update import checked_compute_dtype
from rose_plan import is_always_centered_away

__all__ = ["ParameterDiagnosis", "diagnose_parameter"]


@dataclass(frozen=True, kw_only=True)
class ParameterDiagnosis:
    """The effect of the next step on one parameter, in plain values.

    Numbers are None for a parameter without a gradient or without elements. A number that depends on a NaN or an
    infinity of the gradient is itself not finite.

    Attributes
    ----------
    name, dtype : str
        The parameter's name in the optimizer, and its dtype.
    shape : tuple of int
        Its shape.
    slices, slice_elements : int
        The number of its slices, and the number of elements in each; both are 0 at rank 0, which has no slices.
    stays_in_place : bool
        Whether no gradient moves the parameter, because its centered slices have one element.
    trust : float or None
        The trust factor of the gate; None where there is no gate.
    range_min, range_median, range_max : float or None
        The smallest, the median and the largest range of a slice; None at rank 0.
    zero_denominators : float or None
        The share of the slices whose denominator is 0, and is replaced by 1; None at rank 0.
    centered_share : float or None
        The share of the gradient that centering removes: the sum of squares of the means, relative to the sum of
        squares of the gradient, in [0, 1]. None where slices are not centered.
    param_rms, update_rms : float or None
        The root mean square of the parameter, and of what the step subtracts from it. The latter leaves out the
        weight decay and the rounding of the parameter.
    relative_update : float or None
        `update_rms` divided by `param_rms`; None for a parameter of zeros.
    largest_step : float or None
        The largest magnitude of what the step subtracts from an element, divided by the learning rate; None for a
        learning rate of 0. Up to rounding, it is at most 1 for slices with positive and negative elements whose ranges
        are not blended.
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
    centered_share: float | None = None
    param_rms: float | None = None
    update_rms: float | None = None
    relative_update: float | None = None
    largest_step: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by their names, in plain values, as `json.dumps` takes them."""
        return asdict(self) | {"shape": list(self.shape)}


@quiet
def diagnose_parameter(name: str, param: Array, grad: Array | None, options: Hyperparameters, /) -> ParameterDiagnosis:
    """Return the effect that a step with these options would have on a parameter.

    Parameters
    ----------
    name : str
        The name of the parameter.
    param : array of float64, float32, float16 or bfloat16, any shape
        The parameter. Without a gradient it may have any dtype. It is not changed.
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
        If a step would raise. The message contains the name.

    Notes
    -----
    ROSE-4.3, ROSE-5.3, ROSE-5.5 and ROSE-6.1. It works in chunks, as a step does.

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
        "stays_in_place": is_always_centered_away(shape, centralize=options.centralize),
    }
    if grad is None:
        return ParameterDiagnosis(**known)
    stochastic = options.rounds_stochastically(param)
    names = name, f"the gradient of {name}"
    compute = checked_compute_dtype(param, grad, options.compute_dtype, stochastic=stochastic, names=names)
    if 0 in shape:
        return ParameterDiagnosis(**known)
    param, grad = detached(param, grad)
    step = rule.StepOptions(
        lr=options.lr,
        decay=1.0,
        centralize=options.centralize,
        stabilize=options.stabilize,
        maximize=options.maximize,
        compute=compute,
        max_step=options.limit,
    )
    mean, range_ = statistics_in_chunks(grad, step)
    gate = rule.gate_of_ranges(range_, step)
    denominator = rule.denominators(range_, gate, step)
    count = math.prod(shape)
    param_rms, _ = _magnitude(lambda: _values(param), count)
    update_rms, largest = _magnitude(lambda: _steps(grad, mean, denominator, step), count)
    return ParameterDiagnosis(
        **known,
        **({} if range_ is None else _numbers_of_slices(range_, gate, step)),
        centered_share=None if mean is None else _centered_share(grad, mean, step),
        param_rms=param_rms,
        update_rms=update_rms,
        relative_update=update_rms / param_rms if param_rms else None,
        largest_step=largest / options.lr if options.lr else None,
    )


def _centered_share(grad: Array, mean: Array, options: rule.StepOptions) -> float:
    """Return the sum of squares of the means, each for all elements of its slice, relative to that of the gradient."""
    grad_rms, _ = _magnitude(lambda: _gradients(grad, options), math.prod(grad.shape))
    mean_rms, _ = _magnitude(lambda: iter((mean,)), mean.shape[0])
    return min((mean_rms / grad_rms) ** 2, 1.0) if grad_rms else 0.0


def _numbers_of_slices(range_: Array, gate: rule.Gate | None, options: rule.StepOptions) -> dict[str, Any]:
    xp, count = array_namespace(range_), range_.shape[0]
    is_zero = rule.gated_ranges(range_, gate, options) == 0.0
    ranges = xp.sort(xp.reshape(range_, (-1,)))
    low, high = (_number(end) for end in extrema(ranges, (0,)))
    middle = (_number(ranges[(count - 1) // 2]) + _number(ranges[count // 2])) / 2.0
    return {
        "trust": None if gate is None else _number(gate.trust),
        "range_min": low,
        "range_median": low if math.isnan(low) else middle,
        "range_max": high,
        "zero_denominators": int(xp.count_nonzero(is_zero)) / count,
    }


def _values(param: Array) -> Iterator[Any]:
    """Yield the values of the parameter, chunk by chunk."""
    for index, _, _ in chunks_of_slices(param):
        chunk = param[index]
        yield chunk if dtype_name(chunk) == "float64" else convert(chunk, "float32")


def _gradients(grad: Array, options: rule.StepOptions) -> Iterator[Any]:
    """Yield the gradient as the rule reads it, chunk by chunk."""
    for index, _, _ in chunks_of_slices(grad):
        yield rule.gradient(grad[index], options)


def _steps(grad: Array, mean: Any, denominator: Any, options: rule.StepOptions) -> Iterator[Any]:
    """Yield what the step adds to the parameter, chunk by chunk: the result for zeros that do not decay."""
    for index, _, _ in chunks_of_slices(grad):
        g = rule.gradient(grad[index], options)
        chunk_mean, chunk_denominator = (None if x is None else x[index] for x in (mean, denominator))
        yield rule.advance(array_namespace(g).zeros_like(g), g, chunk_mean, chunk_denominator, options)


def _magnitude(chunks: Callable[[], Iterator[Any]], count: int) -> tuple[float, float]:
    """Return the root mean square and the largest magnitude of `count` values in chunks of any size.

    Values are scaled by a power of two, which is exact, so that their squares do not over- or underflow.
    """
    low, high = _extrema_of_chunks(chunks())
    largest = array_namespace(low).maximum(abs(low), abs(high))
    limit = 1000 if dtype_name(largest) == "float64" else 100
    exponent = max(-limit, min(limit, math.frexp(_number(largest))[1]))
    square = _squares(largest, exponent)  # rounding is monotonic: this is the largest square
    sigmas, sums = fold_sigmas((square, square), count), None
    for chunk in chunks():
        folds = fold_sums(_squares(chunk, exponent), sigmas, (0,))
        sums = folds if sums is None else tuple(a + b for a, b in zip(sums, folds, strict=True))
    assert sums is not None
    return _number(square_root(mean_of_folds(sums, count))) * 2.0**exponent, _number(largest)


def _extrema_of_chunks(chunks: Iterator[Any]) -> Extrema:
    lows, highs = zip(*(extrema(_flat(chunk), (0,)) for chunk in chunks), strict=True)
    xp = array_namespace(lows[0])
    return xp.min(xp.concat(lows), keepdims=True), xp.max(xp.concat(highs), keepdims=True)


def _squares(x: Array, exponent: int) -> Any:
    scaled = as_float64(_flat(x)) * 2.0**-exponent
    return scaled * scaled


def _flat(x: Any) -> Any:
    return array_namespace(x).reshape(x, (-1,))


def _number(x: Array) -> float:
    return float(array_namespace(x).reshape(x, ()))
