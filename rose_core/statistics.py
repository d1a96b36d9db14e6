"""The statistics of each slice: the first of the rule's three phases (ROSE-4)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from rose_core.alike import Alike
from rose_core.gate import Gate, denominators, gate
from rose_core.gradient import Gradient
from rose_core.hyperparameters import Hyperparameters, resolve_compute_dtype
from rose_core.namespace import Array, array_namespace, as_array_beside, block_elements, floating_dtype, quiet
from rose_core.partition import Block, partition
from rose_core.plain_sums import are_likely_exact, extrema_and_folds
from rose_core.rounding import ComputeDtype, round_to_compute, to_compute
from rose_core.summation import Extrema, Folds, exact_mean, fold_sigmas, magnitude

__all__ = [
    "SliceStatistics",
    "center",
    "mean_and_range",
    "measure",
    "slice_statistics",
    "statistics_of_blocks",
    "stays_in_place",
    "warning_of_slices",
]


class SliceStatistics(NamedTuple):
    """The intermediate values of a step, m being the number of slices.

    They are held in the operation dtype: float64 for compute dtype "fp64", float32 otherwise.

    Attributes
    ----------
    mean : array of shape (m,), or None
        What centering subtracts from each slice; None where nothing is centered.
    range : array of shape (m,), or None
        The range of each slice; None at rank 0, which has no slices.
    trust : array of shape (), or None
        The trust factor of the gate; None where there is no gate.
    denominator : array of shape (m,), or None
        What each slice is divided by; None at rank 0.
    """

    mean: Any
    range: Any
    trust: Any
    denominator: Any


@quiet
def slice_statistics(
    grad: Array, /, *, centralize: bool = True, stabilize: bool = True, compute_dtype: Any = "fp64"
) -> SliceStatistics:
    """Return what a step computes of a gradient before it touches the parameter.

    For telemetry, and for a port that looks for its first wrong step.

    Parameters
    ----------
    grad : array of float64, float32, float16 or bfloat16, any shape
        The gradient. A vector is one slice.
    centralize, stabilize, compute_dtype
        As in `Hyperparameters`; None as `compute_dtype` is the gradient's own dtype.

    Returns
    -------
    SliceStatistics
        The named tuple (mean, range, trust, denominator), each an array of the gradient's library.

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
    floating_dtype(grad, "grad")
    options = Hyperparameters(
        lr=0.0, centralize=centralize, stabilize=stabilize, compute_dtype=compute_dtype, bf16_sr=False
    )
    if 0 in grad.shape:
        raise ValueError(f"grad must have elements, got shape {tuple(grad.shape)}")
    if grad.ndim == 0:
        return SliceStatistics(None, None, None, None)
    compute = resolve_compute_dtype(options.compute_dtype, grad, stochastic=False)
    mean, range_, through = statistics_of_blocks(grad, options, compute)
    xp = array_namespace(grad)

    def shown(values: Any, shape: tuple[int, ...]) -> Any:
        return None if values is None else xp.reshape(as_array_beside(values, grad), shape)

    return SliceStatistics(
        mean=shown(mean, (-1,)),
        range=shown(range_, (-1,)),
        trust=shown(through and through.trust, ()),
        denominator=shown(denominators(range_, through, compute), (-1,)),
    )


def statistics_of_blocks(grad: Array, options: Hyperparameters, compute: ComputeDtype) -> tuple[Any, Any, Gate | None]:
    """Return the mean (or None) and the range of each slice, and the gate over them, of a gradient with slices.

    It is read block by block, so that beside one value a slice there are the temporaries of a block only.
    """
    gradient = Gradient(Alike([grad]), compute, options.maximize)
    mean, range_ = measure(gradient, partition(grad.shape, block_elements(grad)), centralize=options.centralize)
    return mean, range_, gate([range_], grad.shape, stabilize=options.stabilize, compute=compute)


def measure(gradient: Gradient, run: Sequence[Sequence[Block]], *, centralize: bool) -> tuple[Any, Any]:
    """Return the mean (or None) and the range of each slice of a run, the reduced axes kept with size 1.

    Who has not all of a slice follows the last lines, and joins what each stage returns with that of the others.
    """
    shape = gradient.stored.one.shape
    if not centralize or len(shape) < 2:
        ends, folds = gradient.extrema(run), ()
    elif are_likely_exact(gradient.stored, run):
        ends, folds = extrema_and_folds(gradient, run)
    else:
        ends = gradient.extrema(run)
        folds = gradient.folds(run, fold_sigmas(magnitude(ends), math.prod(shape[1:])))
    return mean_and_range(ends, folds, shape, gradient.compute)


def mean_and_range(ends: Extrema, folds: Folds, shape: Sequence[int], compute: ComputeDtype) -> tuple[Any, Any]:
    """Return the mean (or None) and the range of each slice from its extrema and the folds of its sum, if any.

    The extrema are centred instead of the slice: rounding is monotonic (ROSE-4.3). They may be written over.
    """
    mean = _clipped_mean(ends, folds, math.prod(shape[1:]), compute) if folds else None
    low, high = (center(end, mean, compute) for end in ends)
    return mean, round_to_compute(array_namespace(low).abs(high) - low, compute)


def center(g: Array, mean: Array | None, compute: ComputeDtype) -> Any:
    """Subtract the mean of each slice, if there is one, from values that are written over (ROSE-4.2)."""
    if mean is None:
        return g
    g -= mean
    return round_to_compute(g, compute)


def stays_in_place(shape: tuple[int, ...], *, centralize: bool) -> bool:
    """Tell whether centering leaves nothing of any gradient: slices of one element are their own mean."""
    return centralize and len(shape) >= 2 and shape[0] > 0 and set(shape[1:]) == {1}


def warning_of_slices(places: str) -> str:
    """Return what to tell of parameters that stay in place, which `places` names."""
    return (
        f"{places}: slices of one element are their own mean, so centralize=True leaves nothing of their "
        "gradient; put them in a group with centralize=False"
    )


def _clipped_mean(ends: Extrema, folds: Folds, count: int, compute: ComputeDtype) -> Any:
    """Return the mean of each slice, rounded to C and kept within the slice's values (ROSE-4.2)."""
    low, high = ends
    xp = array_namespace(low)
    mean = xp.minimum(xp.maximum(to_compute(exact_mean(folds, count), compute), low), high)
    return mean + 0.0  # -0 becomes +0: libraries differ in the sign of max(+0, -0).
