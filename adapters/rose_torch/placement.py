"""Where tensors are: their device, and the memory they may share with others."""

import torch

__all__ = ["same_device", "storage_address"]


def same_device(one: torch.device, other: torch.device) -> bool:
    """Tell whether two devices are one; without an index each is the current one of its type."""
    indices = {one.index, other.index} - {None}
    return one.type == other.type and len(indices) < 2


def storage_address(tensor: torch.Tensor) -> int:
    """Return the address of the memory that a dense tensor is a view of, 0 where there is none."""
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        return 0
    return tensor.untyped_storage().data_ptr()
