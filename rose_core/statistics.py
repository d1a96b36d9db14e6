"""The statistics of each slice: the first of the rule's three phases (ROSE-4)."""

from typing import Any, NamedTuple

from rose_core.gate import denominators
from rose_core.hyperparameters import Hyperparameters, resolve_compute_dtype
from rose_core.namespace import Array, array_namespace, floating_dtype, quiet
from rose_core.rounding import ComputeDtype, round_to_compute, to_compute
from rose_core.summation import LOCAL, Reductions, exact_mean, to_summand

__all__ = ["SliceStatistics", "center", "measure", "slice_statistics", "stays_in_place", "warning_of_slices"]


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
    mean, range_ = measure(to_compute(grad, compute), centralize=options.centralize, compute=compute)
    trust, denominator = denominators(range_, stabilize=options.stabilize, compute=compute)
    xp = array_namespace(grad)
    return SliceStatistics(
        mean=None if mean is None else xp.reshape(mean, (-1,)),
        range=xp.reshape(range_, (-1,)),
        trust=None if trust is None else xp.reshape(trust, ()),
        denominator=xp.reshape(denominator, (-1,)),
    )


def measure(g: Array, *, centralize: bool, compute: ComputeDtype, reductions: Reductions = LOCAL) -> tuple[Any, Any]:
    """Return the mean (or None) and the range of each slice, the reduced axes kept with size 1.

    `g` is held in the operation dtype and has rank 1 or more; `reductions` run over one slice (ROSE-1.2).
    """
    xp = array_namespace(g)
    axis = (0,) if g.ndim == 1 else tuple(range(1, g.ndim))
    low, high = reductions.min(g, axis), reductions.max(g, axis)
    mean = None
    if centralize and g.ndim >= 2:
        mean = _clipped_mean(g, axis, low, high, compute, reductions)
        low, high = center(low, mean, compute), center(high, mean, compute)
    return mean, round_to_compute(xp.abs(high) - low, compute)


def center(g: Array, mean: Array | None, compute: ComputeDtype) -> Any:
    """Subtract the mean of each slice, if there is one (ROSE-4.2)."""
    return g if mean is None else round_to_compute(g - mean, compute)


def stays_in_place(shape: tuple[int, ...], *, centralize: bool) -> bool:
    """Tell whether centering leaves nothing of any gradient: slices of one element are their own mean."""
    return centralize and len(shape) >= 2 and shape[0] > 0 and set(shape[1:]) == {1}


def warning_of_slices(places: str) -> str:
    """Return what to tell of parameters that stay in place, which `places` names."""
    return (
        f"{places}: slices of one element are their own mean, so centralize=True leaves nothing of their "
        "gradient; put them in a group with centralize=False"
    )


def _clipped_mean(
    g: Array, axis: tuple[int, ...], low: Array, high: Array, compute: ComputeDtype, reductions: Reductions
) -> Any:
    """Return the mean of each slice, rounded to C and kept within the slice's values (ROSE-4.2)."""
    xp = array_namespace(g)
    magnitude = to_summand(xp.maximum(xp.abs(low), xp.abs(high)))
    mean64 = exact_mean(to_summand(g), axis, magnitude=magnitude, reductions=reductions)
    mean = xp.minimum(xp.maximum(to_compute(mean64, compute), low), high)
    return mean + 0.0  # -0 becomes +0: libraries differ in the sign of max(+0, -0).
