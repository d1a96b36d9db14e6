"""Small tensors as NumPy arrays of the same memory: where a call costs more than its work, NumPy's cost less."""

from collections.abc import Sequence
from typing import Any, Final

import ml_dtypes
import torch
from torch import Tensor

from rose_torch.checks import is_plain

__all__ = ["are_small", "as_numpy"]

# Above so many elements torch divides an operation among threads.
_SMALL: Final = 2**15


def are_small(tensors: Sequence[Tensor]) -> bool:
    """Tell whether tensors that are worked on together are better off as NumPy arrays, and can be."""
    return sum(map(Tensor.numel, tensors)) <= _SMALL and all(map(is_plain, tensors))


def as_numpy(tensor: Tensor) -> Any:
    """Return the array that has a tensor's memory."""
    values = tensor.detach()
    if values.dtype is torch.bfloat16:
        return values.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return values.numpy()
