"""Steps on DTensors: their shards, the collectives between ranks, and the consensus on a step.

This module detects DTensors without loading torch's module of them, which is slow to load. The modules of this package
load it. They are imported at the first step with a DTensor.
"""

import sys
from collections.abc import Iterable

import torch

__all__ = ["any_dtensors", "is_dtensor", "is_on_other_ranks"]


def _dtensor_types() -> tuple[type[torch.Tensor], ...]:
    """Return the type of DTensors. Before torch's module is loaded there is none, and so are there no DTensors."""
    dtensor = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    return () if dtensor is None else (dtensor,)


def is_dtensor(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is a DTensor."""
    return isinstance(tensor, _dtensor_types())


def any_dtensors(tensors: Iterable[torch.Tensor]) -> bool:
    """Tell whether one of the tensors is a DTensor."""
    others = set(map(type, tensors)) - {torch.Tensor, torch.nn.Parameter}
    return any(issubclass(kind, _dtensor_types()) for kind in others)


def is_on_other_ranks(param: torch.Tensor) -> bool:
    """Tell whether a parameter is a DTensor on a mesh without this rank, which does not update it then."""
    return is_dtensor(param) and param.device_mesh.get_coordinate() is None  # type: ignore[attr-defined]
