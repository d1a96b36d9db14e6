"""Shards of DTensors: which elements of the whole lie on this rank, and which ranks hold the others.

Importing this module loads torch's module of DTensors, which is slow. It is imported at the first step with a DTensor.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate
from torch.distributed.tensor import Shard as ShardPlacement
from torch.distributed.tensor.placement_types import _StridedShard

from rose_core.chunks import NoiseSource
from rose_core.noise import NoiseKey, noise_at, noise_in_range
from rose_torch.noise import DrawnNoise
from rose_torch.step import noise_source

__all__ = ["Shard", "groups_of", "local_shards"]

Positions = range | Tensor
"""The positions of the elements of a shard along one axis of the whole."""


class Shard(NamedTuple):
    """The local elements of a sharded parameter, and the ranks that hold the others.

    Attributes
    ----------
    shape : the shape of the whole parameter.
    positions : the positions of the local elements, along each axis.
    within : the groups of ranks, one after the other, that hold the other elements of this rank's slices.
    across : the groups of ranks that hold the other slices.
    reduce : all-reduces the gradient and returns its local tensor; None where the gradient is complete.
    """

    shape: tuple[int, ...]
    positions: tuple[Positions, ...]
    within: tuple[ProcessGroup, ...]
    across: tuple[ProcessGroup, ...]
    reduce: Callable[[], Tensor] | None

    def noise_source(self, noise: Any, local: Tensor) -> NoiseSource | None:
        """Return the source of the local elements' noise words. A word depends on the position in the whole."""
        if noise is None or isinstance(noise, DrawnNoise):
            return noise_source(noise, local)
        return functools.partial(self.noise_words, noise, local, 0)

    def noise_words(self, key: NoiseKey, local: Tensor, first: int, start: int, stop: int) -> Any:
        """Return the noise words of a range of the flattened local elements, in which the whole begins at `first`."""
        offset = self._offset
        if offset is not None:
            return noise_in_range(key, first + offset + start, first + offset + stop, like=local)
        return noise_at(key, first + self._flat_positions(start, stop, local.device))

    @property
    def _offset(self) -> int | None:
        """The position of the first local element in the flattened whole; None unless the elements are one range."""
        rows, *others = self.positions
        if not isinstance(rows, range) or tuple(map(len, others)) != self.shape[1:]:
            return None
        return rows.start * math.prod(self.shape[1:])

    def _flat_positions(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Return the positions in the flattened whole of a range of the flattened local elements, in int64."""
        rest = torch.arange(start, stop, dtype=torch.int64, device=device)
        flat, stride = torch.zeros_like(rest), 1
        for positions, length in zip(reversed(self.positions), reversed(self.shape), strict=True):
            local = rest % len(positions)
            along = local + positions.start if isinstance(positions, range) else positions.to(device)[local]
            flat, rest, stride = flat + along * stride, rest // len(positions), stride * length
        return flat


def local_shards(
    params: Sequence[Tensor], grads: Sequence[Tensor], name: Callable[[int], str], kind: str = "gradient"
) -> tuple[list[Tensor], list[Tensor], dict[int, Shard]]:
    """Return the local tensors of parameters and their gradients, and the shards of DTensors by their position.

    `name` returns the name of the parameter at a position. `kind` tells errors what `grads` are.
    """
    local_params, local_grads, shards = list(params), list(grads), {}
    for position, (param, grad) in enumerate(zip(params, grads, strict=True)):
        if isinstance(param, DTensor) or isinstance(grad, DTensor):
            local_params[position], local_grads[position], shard = _local_shard(param, grad, name(position), kind)
            if shard is not None:
                shards[position] = shard
    return local_params, local_grads, shards


def _local_shard(param: Tensor, grad: Tensor, name: str, kind: str) -> tuple[Tensor, Tensor, Shard | None]:
    """Return the local tensors of a DTensor and its gradient, and their shard.

    The shard is None if the local tensors are complete. For a Partial gradient, which is reduced later, the local
    tensor is a placeholder without memory.
    """
    if not isinstance(param, DTensor) or not isinstance(grad, DTensor):
        raise TypeError(
            f"{name} is a {type(param).__name__} and its {kind} a {type(grad).__name__}; "
            "allowed are two DTensors or two plain tensors"
        )
    mesh, placements = param.device_mesh, param.placements
    for placement in placements:
        if type(placement) not in (Replicate, ShardPlacement, _StridedShard):
            raise ValueError(f"{name} has the placement {placement!r}; allowed are Replicate and Shard")
    if grad.device_mesh != mesh or grad.shape != param.shape or not _agree(placements, grad.placements):
        raise ValueError(
            f"the {kind} of {name} has shape {tuple(grad.shape)} and placements {grad.placements} on "
            f"{grad.device_mesh}, {name} has shape {tuple(param.shape)} and placements {placements} on {mesh}; "
            f"they must be equal, except that a {kind} may be Partial"
        )
    local, local_grad, shape = _local(param), _local(grad), tuple(param.shape)
    coordinate = mesh.get_coordinate()
    assert coordinate is not None, "see is_on_other_ranks"
    ways = [
        _positions(shape, tuple(mesh.shape), tuple(coordinate), placements, strided_last=last) for last in (False, True)
    ]
    positions = next((way for way in ways if tuple(map(len, way)) == tuple(local.shape)), None)
    if positions is None:
        raise ValueError(
            f"{name} has a local shard of shape {tuple(local.shape)}, where its placements {placements} say "
            f"{tuple(map(len, ways[0]))}; a DTensor must be sharded as distribute_tensor or fully_shard does"
        )
    reduce = None
    if any(placement.is_partial() for placement in grad.placements):
        local_grad = local_grad.new_empty(()).expand(local.shape)
        reduce = functools.partial(_reduce, grad, placements)
    within, across = _groups(mesh, placements, shape)
    if not within and not across and reduce is None:
        return local, local_grad, None
    return local, local_grad, Shard(shape, positions, within, across, reduce)


def groups_of(param: Tensor) -> list[ProcessGroup]:
    """Return the process groups, with this rank in them, whose ranks hold shards or replicas of a DTensor."""
    if not isinstance(param, DTensor) or param.device_mesh.get_coordinate() is None:
        return []
    mesh = param.device_mesh
    return [mesh.get_group(axis) for axis in range(mesh.ndim) if mesh.size(axis) > 1]


def _agree(param: Sequence[Placement], grad: Sequence[Placement]) -> bool:
    return all(mine == its or isinstance(its, Partial) for mine, its in zip(param, grad, strict=True))


def _local(tensor: DTensor) -> Tensor:
    """Return the local tensor, the same object at every step. `to_local` returns a new view of a parameter."""
    local = tensor._local_tensor
    return local.wait() if isinstance(local, AsyncCollectiveTensor) else local


def _reduce(grad: DTensor, placements: tuple[Placement, ...]) -> Tensor:
    return _local(grad.redistribute(placements=placements))


@functools.lru_cache(maxsize=4096)
def _positions(
    shape: tuple[int, ...],
    mesh_shape: tuple[int, ...],
    coordinate: tuple[int, ...],
    placements: tuple[Placement, ...],
    *,
    strided_last: bool,
) -> tuple[Positions, ...]:
    """Split the axes as the placements do, one placement after the other.

    A strided shard is split so that the others split it into ranges. `distribute_tensor` splits it first, in pieces;
    `fully_shard` splits it last, whole (`strided_last`). Both give the same positions where the rows come out even.
    """
    positions: list[Positions] = [range(length) for length in shape]
    splits = list(zip(mesh_shape, coordinate, placements, strict=True))
    if strided_last:
        splits.sort(key=lambda split: isinstance(split[2], _StridedShard))
    for count, number, placement in splits:
        # In some versions of torch a strided shard is a kind of Shard, so it is tested first.
        if isinstance(placement, _StridedShard) and not strided_last:
            whole = _as_tensor(positions[placement.dim])
            pieces = [piece.chunk(count) for piece in whole.chunk(int(placement.split_factor))]
            local = [piece[number] for piece in pieces if number < len(piece)]
            positions[placement.dim] = torch.cat(local or [whole[:0]])
        elif isinstance(placement, ShardPlacement | _StridedShard):
            axis = positions[placement.dim]
            length = -(-len(axis) // count)  # as torch.chunk does
            positions[placement.dim] = axis[number * length : (number + 1) * length]
    return tuple(map(_as_range, positions))


def _as_tensor(axis: Positions) -> Tensor:
    return torch.arange(axis.start, axis.stop) if isinstance(axis, range) else axis


def _as_range(axis: Positions) -> Positions:
    """Return consecutive positions as a range."""
    if isinstance(axis, range):
        return axis
    if len(axis) == 0:
        return range(0)
    first, last = int(axis[0]), int(axis[-1])
    return range(first, last + 1) if last - first + 1 == len(axis) else axis


def _groups(
    mesh: DeviceMesh, placements: Sequence[Placement], shape: Sequence[int]
) -> tuple[tuple[ProcessGroup, ...], tuple[ProcessGroup, ...]]:
    """Return the groups along the axes of the mesh that split slices, and along those that distribute slices."""
    within: list[ProcessGroup] = []
    across: list[ProcessGroup] = []
    for axis, placement in enumerate(placements):
        if not placement.is_replicate() and mesh.size(axis) > 1:
            splits_slices = len(shape) == 1 or placement.dim > 0  # type: ignore[attr-defined]
            (within if splits_slices else across).append(mesh.get_group(axis))
    return tuple(within), tuple(across)
