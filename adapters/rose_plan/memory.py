"""Memory of arrays: the bytes they span, and which of them overlap."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Overlap", "Spans", "has_repeated_elements", "shared_memory", "span_of", "spans_of"]

Spans = np.ndarray
"""Spans of arrays in memory, of shape (arrays, 2): the offset of the lowest byte, and the number of bytes."""


class Overlap(NamedTuple):
    """The indices of arrays whose spans overlap others.

    Attributes
    ----------
    params : the parameters that overlap another parameter. Their updates must run in order.
    grads : the gradients that overlap a parameter. An update of this parameter would change them.
    """

    params: tuple[int, ...]
    grads: tuple[int, ...]


def span_of(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> tuple[int, int]:
    """Return the span of an array, given its strides in bytes. The offset is relative to its first element."""
    if 0 in shape:
        return 0, 0
    reaches = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    return sum(reach for reach in reaches if reach < 0), sum(map(abs, reaches)) + itemsize


def spans_of(spans: Iterable[tuple[int, int]]) -> Spans:
    """Return the spans of several arrays, given that of each."""
    return np.reshape(np.asarray(list(spans), np.int64), (-1, 2))


def has_repeated_elements(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Tell whether two elements share memory, as in an expanded array. An update in place is not possible there."""
    extent = 1
    for stride, length in sorted((abs(stride), n) for n, stride in zip(shape, strides, strict=True) if n > 1):
        if stride < extent:
            return 0 not in shape
        extent += stride * (length - 1)
    return False


def shared_memory(
    param_addresses: np.ndarray, param_spans: Spans, grad_addresses: np.ndarray, grad_spans: Spans
) -> Overlap:
    """Return which parameters and gradients overlap a parameter, given the addresses of their first elements.

    Arrays whose elements interleave without sharing a byte count as overlapping. So does a gradient that surrounds
    an empty parameter.
    """
    starts, lengths = param_addresses + param_spans[:, 0], param_spans[:, 1]
    firsts, counts = grad_addresses + grad_spans[:, 0], grad_spans[:, 1]
    if _are_apart(np.concatenate((starts, firsts)), np.concatenate((lengths, counts))):  # mostly, and fast to tell
        return Overlap((), ())
    order = np.argsort(starts)
    # The end of all parameters that start no later than this one.
    ends = np.maximum.accumulate((starts + lengths)[order])
    before = np.searchsorted(starts[order], firsts + counts)  # parameters that start before the gradient ends
    grads = (before > 0) & (ends[np.maximum(before, 1) - 1] > firsts) & (counts > 0)
    filled = order[lengths[order] > 0]
    touching = starts[filled[1:]] < np.maximum.accumulate((starts + lengths)[filled[:-1]])
    params = np.unique(np.concatenate([filled[1:][touching], filled[:-1][touching]]))
    return Overlap(tuple(params.tolist()), tuple(np.flatnonzero(grads).tolist()))


def _are_apart(starts: np.ndarray, lengths: np.ndarray) -> bool:
    """Tell whether none of these spans overlaps another one."""
    order = starts.argsort()
    return bool(((starts + lengths)[order[:-1]] <= starts[order[1:]]).all())
