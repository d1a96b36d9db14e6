"""The kernel that updates a parameter: the dtypes it is compiled for, and the layout it walks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Kernel", "Kind", "Layout", "layout_of"]


class Kind(NamedTuple):
    """The dtypes that a kernel is compiled for: parameter and gradient by name, and the compute dtype."""

    param: str
    grad: str
    compute: str

    @property
    def has_kernels(self) -> bool:
        """Whether there are kernels: the gradient must have the dtype of the parameter or float32."""
        return self.grad in (self.param, "float32") and self.compute in ("fp64", "fp32")


class Layout(NamedTuple):
    """A parameter and its gradient as rows of contiguous elements, one row for each slice.

    Attributes
    ----------
    rank : the number of axes.
    rows, length : the number of rows, and of elements in each.
    param_stride_bytes, grad_stride_bytes : bytes from one row to the next.
    centered, gated : whether `centralize` and `stabilize` act on it.
    """

    rank: int
    rows: int
    length: int
    param_stride_bytes: int
    grad_stride_bytes: int
    centered: bool
    gated: bool

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.rows * self.length


class Kernel(NamedTuple):
    """The kernel that updates a parameter: its kind, and the layout that it walks."""

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
    """Return the layout of a parameter and its gradient, or None if no kernel can walk it.

    Parameters
    ----------
    shape : sequence of int
        The shape of both.
    param_strides, grad_strides : sequence of int
        The strides of each, in elements.
    itemsizes : tuple of int
        The size of an element of each, in bytes.
    centralize, stabilize : bool
        As in `rose_core.Hyperparameters`; they act at rank 2 and above (ROSE-4.2, ROSE-5.1).
    in_c_order : bool
        Whether the elements of a row must be in C order, in which portable noise counts them (ROSE-9.3). Otherwise any
        contiguous order will do that both have, for example channels_last.

    Examples
    --------
    >>> layout = layout_of((3, 4), (8, 1), (4, 1), (4, 4), centralize=True, stabilize=True, in_c_order=True)
    >>> layout.rows, layout.length, layout.param_stride_bytes, layout.grad_stride_bytes
    (3, 4, 32, 16)
    >>> layout_of((3, 4), (1, 3), (1, 3), (4, 4), centralize=True, stabilize=True, in_c_order=True) is None
    True
    """
    if 0 in shape:  # an empty parameter is left alone (ROSE-1.4)
        return None
    split = 1 if len(shape) >= 2 else 0
    inner = [axis for axis in range(split, len(shape)) if shape[axis] > 1]
    if any(param_strides[axis] != grad_strides[axis] for axis in inner):
        return None
    if not _is_contiguous([(param_strides[axis], shape[axis]) for axis in inner], in_c_order=in_c_order):
        return None
    rows, length = math.prod(shape[:split]), math.prod(shape[split:])
    # The stride of a single row means nothing; it counts as contiguous.
    strides = (param_strides[0], grad_strides[0]) if rows > 1 else (length, length)
    return Layout(
        rank=len(shape),
        rows=rows,
        length=length,
        param_stride_bytes=strides[0] * itemsizes[0],
        grad_stride_bytes=strides[1] * itemsizes[1],
        centered=centralize and split == 1,
        gated=stabilize and split == 1,
    )


def _is_contiguous(axes: list[tuple[int, int]], *, in_c_order: bool) -> bool:
    """Tell whether the elements of axes, given as pairs of stride and length, are contiguous."""
    extent = 1
    for stride, length in reversed(axes if in_c_order else sorted(axes, reverse=True)):
        if stride != extent:
            return False
        extent *= length
    return True
