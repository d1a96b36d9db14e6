"""Where tensors are: on a device, in memory they may share with others, or on many ranks."""

import sys
from collections.abc import Iterable

import torch

__all__ = [
    "any_dtensors",
    "extent",
    "is_dtensor",
    "is_elsewhere",
    "same_device",
]


def _dtensor_types() -> tuple[type[torch.Tensor], ...]:
    """Return the type of DTensors; none before its module is loaded, as there is none of them then."""
    dtensor = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    return () if dtensor is None else (dtensor,)


def is_dtensor(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is a DTensor."""
    return isinstance(tensor, _dtensor_types())


def any_dtensors(tensors: Iterable[torch.Tensor]) -> bool:
    """Tell whether there is a DTensor among tensors."""
    others = set(map(type, tensors)) - {torch.Tensor, torch.nn.Parameter}
    return any(issubclass(kind, _dtensor_types()) for kind in others)


def is_elsewhere(param: torch.Tensor) -> bool:
    """Tell whether a parameter is a DTensor of other ranks only, so that it is not this one's to update."""
    return is_dtensor(param) and param.device_mesh.get_coordinate() is None  # type: ignore[attr-defined]


def same_device(one: torch.device, other: torch.device) -> bool:
    """Tell whether two devices are one; without an index each is the current one of its type."""
    indices = {one.index, other.index} - {None}
    return one.type == other.type and len(indices) < 2


def extent(tensor: torch.Tensor) -> int:
    """Return how many bytes there are from the first element of a dense tensor to the end of its last one."""
    if tensor.numel() == 0:
        return 0
    steps = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (steps + 1) * tensor.itemsize
