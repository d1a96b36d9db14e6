"""The parts of sharded parameters: what of a DTensor lies on this rank, where in the whole, and who has the rest.

Loading this module loads that of DTensor, so only who has one does.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

__all__ = ["Part", "groups_of", "local_part"]

Places = range | Tensor
"""Where the elements of a shard lie along one axis of the whole."""


class Part(NamedTuple):
    """What a rank knows of a sharded parameter besides its local tensors.

    Attributes
    ----------
    shape : that of the whole parameter.
    places : where the local elements lie, along each axis.
    within : the groups of ranks that together have the elements of this rank's slices, one after another.
    across : the groups of ranks that together have all slices.
    reduced : returns the local gradient where its sum over ranks is still to be made, else None.
    """

    shape: tuple[int, ...]
    places: tuple[Places, ...]
    within: tuple[ProcessGroup, ...]
    across: tuple[ProcessGroup, ...]
    reduced: Callable[[], Tensor] | None

    @property
    def offset(self) -> int | None:
        """Where the local elements begin in the flattened parameter, None unless they are one range of it."""
        rows, *others = self.places
        if not isinstance(rows, range) or tuple(map(len, others)) != self.shape[1:]:
            return None
        return rows.start * math.prod(self.shape[1:])

    def flat_places(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Return where a range of the flattened local elements lies in the flattened parameter, in int64."""
        rest = torch.arange(start, stop, dtype=torch.int64, device=device)
        flat, stride = torch.zeros_like(rest), 1
        for places, length in zip(reversed(self.places), reversed(self.shape), strict=True):
            local = rest % len(places)
            along = local + places.start if isinstance(places, range) else places.to(device)[local]
            flat, rest, stride = flat + along * stride, rest // len(places), stride * length
        return flat


def local_part(param: Tensor, grad: Tensor, name: str) -> tuple[Tensor, Tensor, Part | None]:
    """Return the local tensors of a DTensor and its gradient, and the part they are, None if it is all and ready.

    Where the gradient is a sum still to be made, a tensor without memory of its own stands for it.
    """
    if not isinstance(param, DTensor) or not isinstance(grad, DTensor):
        raise TypeError(
            f"{name} is a {type(param).__name__} and its gradient a {type(grad).__name__}; "
            "allowed are two DTensors or two plain tensors"
        )
    mesh, placements = param.device_mesh, param.placements
    for placement in placements:
        if type(placement) not in (Replicate, Shard, _StridedShard):
            raise ValueError(f"{name} has the placement {placement!r}; allowed are Replicate and Shard")
    if grad.device_mesh != mesh or grad.shape != param.shape or not _agree(placements, grad.placements):
        raise ValueError(
            f"the gradient of {name} has shape {tuple(grad.shape)} and placements {grad.placements} on "
            f"{grad.device_mesh}, {name} has shape {tuple(param.shape)} and placements {placements} on {mesh}; "
            "they must be equal, except that a gradient may be Partial"
        )
    local, local_grad, shape = _local(param), _local(grad), tuple(param.shape)
    coordinate = mesh.get_coordinate()
    assert coordinate is not None, "see is_elsewhere"
    ways = [
        _places(shape, tuple(mesh.shape), tuple(coordinate), placements, strided_last=last) for last in (False, True)
    ]
    places = next((way for way in ways if tuple(map(len, way)) == tuple(local.shape)), None)
    if places is None:
        raise ValueError(
            f"{name} has a local shard of shape {tuple(local.shape)}, where its placements {placements} say "
            f"{tuple(map(len, ways[0]))}; a DTensor must be sharded as distribute_tensor or fully_shard does"
        )
    reduced = None
    if any(placement.is_partial() for placement in grad.placements):
        local_grad = local_grad.new_empty(()).expand(local.shape)
        reduced = functools.partial(_reduced, grad, placements)
    within, across = _groups(mesh, placements, shape)
    if not within and not across and reduced is None:
        return local, local_grad, None
    return local, local_grad, Part(shape, places, within, across, reduced)


def groups_of(param: Tensor) -> list[ProcessGroup]:
    """Return the groups of ranks that have parts or replicas of a DTensor, as far as this rank is in them."""
    if not isinstance(param, DTensor) or param.device_mesh.get_coordinate() is None:
        return []
    mesh = param.device_mesh
    return [mesh.get_group(axis) for axis in range(mesh.ndim) if mesh.size(axis) > 1]


def _agree(param: Sequence[Placement], grad: Sequence[Placement]) -> bool:
    return all(mine == its or isinstance(its, Partial) for mine, its in zip(param, grad, strict=True))


def _local(tensor: DTensor) -> Tensor:
    """Return the local tensor itself, the same object at every step (`to_local` gives a new view of a parameter)."""
    local = tensor._local_tensor
    return local.wait() if isinstance(local, AsyncCollectiveTensor) else local


def _reduced(grad: DTensor, placements: tuple[Placement, ...]) -> Tensor:
    return _local(grad.redistribute(placements=placements))


@functools.lru_cache(maxsize=4096)
def _places(
    shape: tuple[int, ...],
    mesh_shape: tuple[int, ...],
    coordinate: tuple[int, ...],
    placements: tuple[Placement, ...],
    *,
    strided_last: bool,
) -> tuple[Places, ...]:
    """Cut the axes as the placements do, one after another.

    A strided shard is cut so that the others cut it into ranges: by `distribute_tensor` before them, in pieces, and
    by `fully_shard` after them, whole (`strided_last`). Where rows come out even both are the same.
    """
    places: list[Places] = [range(length) for length in shape]
    cuts = list(zip(mesh_shape, coordinate, placements, strict=True))
    if strided_last:
        cuts.sort(key=lambda cut: isinstance(cut[2], _StridedShard))
    for count, number, placement in cuts:
        # Where a strided shard is a kind of Shard, it is the first that tells.
        if isinstance(placement, _StridedShard) and not strided_last:
            whole = _as_tensor(places[placement.dim])
            pieces = [piece.chunk(count) for piece in whole.chunk(int(placement.split_factor))]
            own = [piece[number] for piece in pieces if number < len(piece)]
            places[placement.dim] = torch.cat(own or [whole[:0]])
        elif isinstance(placement, Shard | _StridedShard):
            axis = places[placement.dim]
            length = -(-len(axis) // count)  # as torch.chunk does
            places[placement.dim] = axis[number * length : (number + 1) * length]
    return tuple(map(_as_range, places))


def _as_tensor(axis: Places) -> Tensor:
    return torch.arange(axis.start, axis.stop) if isinstance(axis, range) else axis


def _as_range(axis: Places) -> Places:
    """Return places that follow each other as a range."""
    if isinstance(axis, range):
        return axis
    if len(axis) == 0:
        return range(0)
    first, last = int(axis[0]), int(axis[-1])
    return range(first, last + 1) if last - first + 1 == len(axis) else axis


def _groups(
    mesh: DeviceMesh, placements: Sequence[Placement], shape: Sequence[int]
) -> tuple[tuple[ProcessGroup, ...], tuple[ProcessGroup, ...]]:
    """Return the groups along the axes of the mesh that cut slices, and along those that part slices."""
    within: list[ProcessGroup] = []
    across: list[ProcessGroup] = []
    for axis, placement in enumerate(placements):
        if not placement.is_replicate() and mesh.size(axis) > 1:
            cuts = len(shape) == 1 or placement.dim > 0  # type: ignore[attr-defined]
            (within if cuts else across).append(mesh.get_group(axis))
    return tuple(within), tuple(across)
