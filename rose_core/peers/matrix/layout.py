"""Parameters as stacks of matrices: which axes are rows, columns and layers."""

import math
from dataclasses import dataclass
from typing import Any

from rose_core.namespace import Array, array_namespace, has_float64
from rose_core.peers.base import Rule
from rose_core.peers.options import axes, integer, optional

__all__ = ["MatrixRule", "require_rank", "stacked", "unstacked"]


@dataclass(frozen=True, kw_only=True)
class MatrixRule(Rule):
    """A rule for matrices, for stacks of matrices, and for arrays of higher rank that are read as matrices.

    Parameters
    ----------
    batch_axes : tuple of int
        Axes that count matrices, such as the layers of a stack. Each matrix is updated as if it were alone.
    output_axis : int or None
        The axis of the outputs: the rows of each matrix. None is the first axis that is not in `batch_axes`, as in the
        weights of PyTorch. Weights of shape (in, out) take 1.
    reduction_axes : tuple of int or None
        The axes of the inputs, in the order in which they are flattened: the columns. None is all other axes.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.
    """

    batch_axes: tuple[int, ...] = axes(())
    output_axis: int | None = optional(integer(0, least=-64))
    reduction_axes: tuple[int, ...] | None = axes(None)

    @property
    def is_elementwise(self) -> bool:
        return False

    def check_param(self, param: Array, name: str) -> None:
        require_rank(self, param, name, 2 + len(self.batch_axes))
        self._order(param.ndim, name)

    def shape_of(self, param: Array) -> tuple[int, int, int]:
        """Return the numbers of matrices, rows and columns."""
        order, (batch, rows, _) = self._order(param.ndim), self._groups(param.ndim)
        lengths = [param.shape[axis] for axis in order]
        first, second = len(batch), len(batch) + len(rows)
        return math.prod(lengths[:first]), math.prod(lengths[first:second]), math.prod(lengths[second:])

    def matrices(self, x: Any) -> Any:
        """Return an array of the parameter's shape as a stack of matrices, of rank 3."""
        return stacked(x, self._order(x.ndim), self.shape_of(x))

    def restored(self, matrices: Any, like: Array) -> Any:
        """Return a stack of matrices in the shape of the parameter: the inverse of `matrices`."""
        return unstacked(matrices, self._order(like.ndim), tuple(like.shape))

    def _order(self, rank: int, name: str = "param") -> tuple[int, ...]:
        """Return the axes in the order layers, rows, columns, or raise if one is missing or named twice."""
        batch, rows, columns = self._groups(rank)
        order = batch + rows + columns
        if sorted(order) != list(range(rank)):
            raise ValueError(
                f"{name} has rank {rank}; batch_axes={self.batch_axes!r}, output_axis={self.output_axis!r} and "
                f"reduction_axes={self.reduction_axes!r} must name each axis once"
            )
        return order

    def _groups(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Return the axes of layers, rows and columns, counted from 0 if they are in range."""

        def from_start(axis: int) -> int:
            return axis % rank if -rank <= axis < rank else axis

        batch = tuple(map(from_start, self.batch_axes))
        others = [axis for axis in range(rank) if axis not in batch]
        output = from_start((others or [0])[0] if self.output_axis is None else self.output_axis)
        columns = [axis for axis in others if axis != output] if self.reduction_axes is None else self.reduction_axes
        return batch, (output,), tuple(map(from_start, columns))


def stacked(x: Any, order: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Return an array with its axes in this order, in another shape."""
    xp = array_namespace(x)
    return xp.reshape(xp.permute_dims(x, order), shape)


def unstacked(x: Any, order: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Return the array of this shape that `stacked` made `x` of."""
    xp, inverse = array_namespace(x), tuple(order.index(axis) for axis in range(len(shape)))
    return xp.permute_dims(xp.reshape(x, tuple(shape[axis] for axis in order)), inverse)


def require_rank(rule: Rule, param: Array, name: str, least: int) -> None:
    """Raise unless a parameter has at least `least` axes, and its device float64."""
    if param.ndim < least:
        raise ValueError(
            f"{name} has shape {tuple(param.shape)}; {type(rule).__name__} updates matrices and needs rank >= {least}. "
            "Give vectors and scalars to another rule with rose_core.peers.Partition"
        )
    if not has_float64(param):
        raise ValueError(f"{name} is on device {param.device}, which has no float64; {type(rule).__name__} needs it")
