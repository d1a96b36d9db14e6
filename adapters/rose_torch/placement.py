"""Where tensors are: their device, and the memory they may share with others."""

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["memory_of", "overlapping", "same_device"]


def same_device(one: torch.device, other: torch.device) -> bool:
    """Tell whether two devices are one; without an index each is the current one of its type."""
    indices = {one.index, other.index} - {None}
    return one.type == other.type and len(indices) < 2


def memory_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the addresses of the memory that a dense tensor lies in, its first and the one after its last."""
    if tensor.is_contiguous():
        start = tensor.data_ptr()  # 0 without memory
        return start, start + tensor.nbytes if start else 0
    start = tensor.data_ptr()
    steps = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (steps + 1) * tensor.itemsize


def overlapping(params: Sequence[tuple[int, int]], grads: Sequence[tuple[int, int]]) -> list[int]:
    """Return which of the gradients' memory meets that of a parameter."""
    starts, stops = np.asarray(params, np.int64)[np.argsort([start for start, _ in params])].T
    reached = np.maximum.accumulate(stops)  # by the parameters that start no later
    first, last = np.asarray(grads, np.int64).T
    before = np.searchsorted(starts, last)  # so many start before a gradient ends
    meets = (before > 0) & (reached[np.maximum(before, 1) - 1] > first) & (last > first)
    return [int(place) for place in np.flatnonzero(meets)]
