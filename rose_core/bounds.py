"""A bound on the change of a step, from the extrema of the slices alone."""

from rose_core import rule
from rose_core.namespace import Array, array_namespace, quiet
from rose_core.rounding import to_compute
from rose_core.summation import extrema

__all__ = ["largest_change"]


@quiet
def largest_change(grad: Array, options: rule.StepOptions) -> float:
    """Return a bound on the change of an element at a step, as a multiple of `lr`; 0 for a gradient without elements.

    It is the largest change up to rounding, but up to twice as large where slices are centered, since their mean is not
    computed. The temporaries have one value for each slice. NaN counts as 0.
    """
    if 0 in grad.shape or grad.ndim == 0:
        return float(grad.ndim == 0)
    xp = array_namespace(grad)
    low, high = (to_compute(end, options.compute) for end in extrema(grad, rule.slice_axes(grad)))
    if options.maximize:
        low, high = -high, -low
    if options.centralize and grad.ndim >= 2:
        low, high = low - low, high - low  # as if the mean were at the lower end
    _, range_ = rule.mean_and_range((low, high), None, 1, options.compute)
    denominator = rule.denominators(range_, rule.gate_of_ranges(range_, options), options)
    change = xp.maximum(xp.abs(low), xp.abs(high)) / denominator
    return float(xp.max(xp.where(change > 0.0, change, xp.zeros_like(change))))
