"""What a parameter and its gradient are made of, and how they lie in memory, seen as rows: one row a slice."""

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Kernel", "Kind", "Layout", "layout_of"]


class Kind(NamedTuple):
    """What the tensors of a batch have in common: names of dtypes, and the compute dtype."""

    param: str
    grad: str
    compute: str

    @property
    def has_kernels(self) -> bool:
        """Whether there are kernels: for a gradient of the parameter's dtype or float32, at fp64 and fp32."""
        return self.grad in (self.param, "float32") and self.compute in ("fp64", "fp32")


class Layout(NamedTuple):
    """Rows whose elements lie side by side, and what is done with them."""

    rank: int
    rows: int
    length: int  # elements of a row
    param_stride_bytes: int  # bytes from one row to the next
    grad_stride_bytes: int
    centered: bool
    gated: bool
    param_extent: int  # bytes from the lowest element to the end of the highest
    grad_extent: int

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.rows * self.length


class Kernel(NamedTuple):
    """What a parameter is updated by, and how it lies in memory."""

    kind: Kind
    layout: Layout


def layout_of(
    shape: Sequence[int],
    param_strides: Sequence[int],
    grad_strides: Sequence[int],
    itemsizes: tuple[int, int],
    *,
    centralize: bool,
    stabilize: bool,
    in_c_order: bool,
) -> Layout | None:
    """Return the layout of a parameter and its gradient, None if their rows are not what a kernel can walk.

    Parameters
    ----------
    shape : sequence of int
        The shape of both.
    param_strides, grad_strides : sequence of int
        Their strides, in elements.
    itemsizes : tuple of int
        The size of an element of each, in bytes.
    centralize, stabilize : bool
        As in `rose_core.Hyperparameters`; they act at rank 2 and above (ROSE-4.2, ROSE-5.1).
    in_c_order : bool
        Whether the elements of a row must lie in C order, as portable noise counts them (ROSE-9.3). Otherwise any
        order will do that is the same in both, channels_last for one.

    Examples
    --------
    >>> layout = layout_of((3, 4), (8, 1), (4, 1), (4, 4), centralize=True, stabilize=True, in_c_order=True)
    >>> layout.rows, layout.length, layout.param_stride_bytes, layout.grad_stride_bytes
    (3, 4, 32, 16)
    >>> layout_of((3, 4), (1, 3), (1, 3), (4, 4), centralize=True, stabilize=True, in_c_order=True) is None
    True
    """
    if 0 in shape:  # there is nothing to do (ROSE-1.4)
        return None
    split = 1 if len(shape) >= 2 else 0
    inner = [axis for axis in range(split, len(shape)) if shape[axis] > 1]
    if any(param_strides[axis] != grad_strides[axis] for axis in inner):
        return None
    if not _side_by_side([(param_strides[axis], shape[axis]) for axis in inner], in_c_order=in_c_order):
        return None
    rows, length = math.prod(shape[:split]), math.prod(shape[split:])
    sliced = split == 1

    first = param_strides[0] if shape else 0, grad_strides[0] if shape else 0
    # A single row has no stride_bytes, and gets that of rows side by side.
    pitches = [(stride if rows > 1 else length) * size for stride, size in zip(first, itemsizes, strict=True)]
    extents = [
        (rows - 1) * abs(stride_bytes) + length * size for stride_bytes, size in zip(pitches, itemsizes, strict=True)
    ]
    return Layout(
        rank=len(shape),
        rows=rows,
        length=length,
        param_stride_bytes=pitches[0],
        grad_stride_bytes=pitches[1],
        centered=centralize and sliced,
        gated=stabilize and sliced,
        param_extent=extents[0],
        grad_extent=extents[1],
    )


def _side_by_side(axes: list[tuple[int, int]], *, in_c_order: bool) -> bool:
    """Tell whether axes of some strides and lengths have their elements one after another, without gaps."""
    extent = 1
    for stride, length in reversed(axes if in_c_order else sorted(axes, reverse=True)):
        if stride != extent:
            return False
        extent *= length
    return True
