"""The rule of Rose, clause by clause, in the order of `spec/SPEC.md`.

`step` is the whole rule; the functions below it are its clauses. They are pure: they take whole arrays of any
array-API library and return new ones.

Arrays are held in the operation dtype, and `compute` names the dtype that each line is rounded to (ROSE-2). A slice
is `g[i, ...]`, and a vector is one slice (ROSE-1.2). Reduced axes keep the size 1, so that the mean and the range of
each slice broadcast against the gradient.
"""

import math
from typing import Any, NamedTuple

from rose_core.namespace import Array, array_namespace, as_float64, dtype_name, square_root
from rose_core.rounding import ComputeDtype, round_to_compute, to_compute, to_storage
from rose_core.summation import Extrema, Folds, extrema, fold_sigmas, fold_sums, mean_of_folds, reproducible_mean

__all__ = [
    "Gate",
    "StepOptions",
    "advance",
    "denominators",
    "gate_of_moments",
    "gate_of_ranges",
    "gated_ranges",
    "gradient",
    "mean_and_range",
    "slice_axes",
    "squared_deviations",
    "statistics",
    "step",
]


class StepOptions(NamedTuple):
    """The options of one step, already checked.

    Attributes
    ----------
    lr, decay : float, or scalar of the array library in the operation dtype
        The learning rate, and the factor that the parameter shrinks by (ROSE-3.2). Each is rounded once to the
        operation dtype: a Python float by the operation that takes it (ROSE-2.4).
    centralize, stabilize, maximize : bool
        As in `rose_core.Hyperparameters`.
    compute : str
        The compute dtype.
    max_step : float or None
        The largest change of an element, as a multiple of `lr`; None does not limit it.
    """

    lr: Any
    decay: Any
    centralize: bool
    stabilize: bool
    maximize: bool
    compute: ComputeDtype
    max_step: float | None = None


class Gate(NamedTuple):
    """The mean range and the trust factor, one value each."""

    mean: Any
    trust: Any


def step(param: Array, grad: Array, options: StepOptions, noise: Array | None = None) -> Any:
    """Return the parameter after one step. `param` and `grad` have one shape and at least one element."""
    g = gradient(grad, options)  # ROSE-1.3, ROSE-2.6
    mean, range_ = statistics(g, options)  # ROSE-4
    gate = gate_of_ranges(range_, options)  # ROSE-5.1 to ROSE-5.3
    denominator = denominators(range_, gate, options)  # ROSE-5.4, ROSE-5.5
    return advance(param, g, mean, denominator, options, noise)  # ROSE-2.6, ROSE-3, ROSE-6


def gradient(grad: Array, options: StepOptions) -> Any:
    """Return the gradient as the rule reads it."""
    g = to_compute(grad, options.compute)  # ROSE-2.6
    return -g if options.maximize else g  # ROSE-1.3


def statistics(g: Array, options: StepOptions) -> tuple[Any, Any]:
    """Return the mean of each slice, None where slices are not centered, and its range, None at rank 0 (ROSE-4)."""
    if g.ndim == 0:
        return None, None
    axes, count = slice_axes(g), math.prod(g.shape[1:])
    ends, folds = extrema(g, axes), None  # ROSE-4.1
    if options.centralize and g.ndim >= 2:
        folds = fold_sums(as_float64(g), fold_sigmas(ends, count), axes)
    return mean_and_range(ends, folds, count, options.compute)


def slice_axes(g: Array) -> tuple[int, ...]:
    """Return the axes within a slice (ROSE-1.2)."""
    return tuple(range(1, g.ndim)) or (0,)


def mean_and_range(ends: Extrema, folds: Folds | None, count: int, compute: ComputeDtype) -> tuple[Any, Any]:
    """Return the mean and the range of slices of `count` elements; without `folds` they are not centered.

    The extrema are centered in place of the slice: rounding is monotonic, so they stay the extrema (ROSE-4.3).
    """
    low, high = ends
    xp, mean = array_namespace(low), None
    if folds is not None:
        mean = to_compute(mean_of_folds(folds, count), compute)  # ROSE-4.2
        mean = xp.minimum(xp.maximum(mean, low), high) + 0.0  # -0 becomes +0
        low, high = _center(low, mean, compute), _center(high, mean, compute)
    return mean, round_to_compute(xp.abs(high) - low, compute)  # ROSE-4.3


def gate_of_ranges(range_: Any, options: StepOptions) -> Gate | None:
    """Return the gate that the ranges pass, None where they pass none (ROSE-5.1)."""
    if not options.stabilize or range_ is None or range_.ndim < 2:
        return None
    ranges = as_float64(range_)
    mean64 = reproducible_mean(ranges, 0)
    var64 = reproducible_mean(squared_deviations(ranges, mean64), 0)
    return gate_of_moments(mean64, var64, options.compute)


def squared_deviations(ranges: Array, mean64: Array) -> Any:
    """Return the squared deviation of each range from the mean range, in float64 (ROSE-5.2)."""
    d = ranges - mean64
    return d * d


def gate_of_moments(mean64: Array, var64: Array, compute: ComputeDtype) -> Gate:
    """Return the gate: its trust is near 1 where ranges agree, and near 0 where they differ."""
    mean, std = to_compute(mean64, compute), to_compute(square_root(var64), compute)  # ROSE-5.2
    t = round_to_compute(std + mean, compute)
    t = array_namespace(t).where(mean == 0.0, 1.0, t)
    return Gate(mean, trust=round_to_compute(mean / t, compute))  # ROSE-5.3


def gated_ranges(range_: Any, gate: Gate | None, options: StepOptions) -> Any:
    """Return the ranges after the gate: near the mean range where its trust is low (ROSE-5.4)."""
    if gate is None:
        return range_
    mean, w = gate
    distance = range_ - mean
    blend = array_namespace(range_).where(w < 0.5, mean + w * distance, range_ - distance * (1.0 - w))
    return round_to_compute(blend, options.compute)


def denominators(range_: Any, gate: Gate | None, options: StepOptions) -> Any:
    """Return the number that each slice is divided by, None at rank 0."""
    if range_ is None:
        return None
    denominator = gated_ranges(range_, gate, options)
    return array_namespace(denominator).where(denominator == 0.0, 1.0, denominator)  # ROSE-5.5


def advance(
    param: Array, g: Array, mean: Any, denominator: Any, options: StepOptions, noise: Array | None = None
) -> Any:
    """Return the parameter after the step, given the gradient and the statistics of its slices."""
    compute = options.compute
    x = to_compute(param, compute)  # ROSE-2.6
    x = round_to_compute(x * options.decay, compute)  # ROSE-3.1
    if g.ndim == 0:
        rate = round_to_compute(array_namespace(x).ones_like(x) * -options.lr, compute)
        change = _sign(g) * rate  # ROSE-6.2
    else:
        g = g if mean is None else _center(g, mean, compute)  # ROSE-4.2
        change = (-options.lr * g) / denominator  # ROSE-6.1
    x = round_to_compute(x + _limited(change, options), compute)  # ROSE-6.4
    return to_storage(x, dtype_name(param), noise)  # ROSE-6.3


def _limited(change: Array, options: StepOptions) -> Any:
    """Return the change of each element, at most ``max_step * lr`` in magnitude (ROSE-6.4)."""
    if options.max_step is None:
        return change
    xp = array_namespace(change)
    limit = xp.ones_like(change) * (options.max_step * options.lr)
    return xp.where(change > limit, limit, xp.where(change < -limit, -limit, change))


def _center(g: Array, mean: Array, compute: ComputeDtype) -> Any:
    return round_to_compute(g - mean, compute)  # ROSE-4.2


def _sign(g: Array) -> Any:
    """Return the sign of a gradient (ROSE-6.2). Libraries differ in the `xp.sign` of NaN and of -0."""
    xp = array_namespace(g)
    return xp.where(g > 0.0, 1.0, xp.where(g < 0.0, -1.0, g + 0.0))
