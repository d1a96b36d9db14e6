"""The layouts of sharded parameters, by name, and functions that shard a tensor."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import ml_dtypes
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

__all__ = ["COLUMNS", "LAYOUTS", "ROWS", "Layout", "as_tensor", "mesh_of", "plain_params", "shard", "shard_of_ones"]


@dataclass(frozen=True)
class Layout:
    """The shape of a mesh and the placement on each of its axes. Axes of a tensor are taken modulo its rank."""

    mesh: tuple[int, ...]
    placements: tuple[Placement, ...]

    def of(self, rank: int) -> tuple[Placement, ...]:
        """Return the placements of a tensor of this rank."""
        return tuple(_modulo(placement, rank) for placement in self.placements)


def _modulo(placement: Placement, rank: int) -> Placement:
    if isinstance(placement, Shard):
        return Shard(placement.dim % rank)
    if isinstance(placement, _StridedShard):
        return _StridedShard(placement.dim % rank, split_factor=placement.split_factor)
    return placement


LAYOUTS: Final = {
    2: {
        "2: replicated": Layout((2,), (Replicate(),)),
        "2: rows": Layout((2,), (Shard(0),)),
        "2: columns": Layout((2,), (Shard(1),)),
        "2: last axis": Layout((2,), (Shard(-1),)),
    },
    4: {
        "4: rows": Layout((4,), (Shard(0),)),
        "4: columns": Layout((4,), (Shard(1),)),
        "4: last axis": Layout((4,), (Shard(-1),)),
        "2x2: replicas of rows": Layout((2, 2), (Replicate(), Shard(0))),
        "2x2: replicas of columns": Layout((2, 2), (Shard(1), Replicate())),
        "2x2: rows, columns": Layout((2, 2), (Shard(0), Shard(1))),
        "2x2: columns, rows": Layout((2, 2), (Shard(1), Shard(0))),
        "2x2: rows, rows": Layout((2, 2), (Shard(0), Shard(0))),
        "2x2: columns, columns": Layout((2, 2), (Shard(1), Shard(1))),
        "2x2: strided rows, rows": Layout((2, 2), (_StridedShard(0, split_factor=2), Shard(0))),
        "2x2: strided columns, columns": Layout((2, 2), (_StridedShard(1, split_factor=2), Shard(1))),
        "4x1: columns, rows": Layout((4, 1), (Shard(1), Shard(0))),
    },
}
ROWS: Final = LAYOUTS[4]["4: rows"]
COLUMNS: Final = LAYOUTS[4]["4: columns"]


@cache
def mesh_of(shape: tuple[int, ...]) -> DeviceMesh:
    """Return the mesh of all ranks that has this shape."""
    return init_device_mesh("cpu", shape, mesh_dim_names=("outer", "inner")[-len(shape) :])


def as_tensor(x: np.ndarray) -> Tensor:
    """Return a NumPy array, with the bfloat16 of ml_dtypes, as a tensor."""
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x.copy())


def shard(whole: Tensor, layout: Layout) -> DTensor:
    """Return the shards of a tensor that all ranks have. The ranks do not communicate."""
    return distribute_tensor(whole, mesh_of(layout.mesh), layout.of(whole.ndim), src_data_rank=None)


def shard_of_ones(layout: Layout = ROWS, shape: tuple[int, ...] = (8, 4), dtype: torch.dtype = torch.float32) -> Any:
    """Return a sharded parameter of ones, with a gradient."""
    param = nn.Parameter(shard(torch.ones(shape, dtype=dtype), layout))
    param.grad = shard(torch.arange(math.prod(shape)).reshape(shape).to(dtype), layout)
    return param


def plain_params(rank: int) -> list[nn.Parameter]:
    """Return 1 + rank parameters that are not sharded."""
    params = [nn.Parameter(torch.ones(2, 3)) for _ in range(1 + rank)]
    for param in params:
        param.grad = torch.arange(6.0).reshape(2, 3)
    return params
