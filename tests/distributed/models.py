"""A model for the tests of sharded training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor

from tests.bits import assert_same_bits
from tests.distributed.layouts import mesh_of

__all__ = ["Block", "assert_same_model", "fsdp", "model"]


class Block(nn.Module):
    """A layer norm and two linear layers, with parameters of ranks 1 and 2."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus the output of the layers."""
        return x + self.down(torch.relu(self.up(self.norm(x))))


def model(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a model with the same weights on every rank."""
    torch.manual_seed(0)
    return nn.Sequential(*[Block() for _ in range(17)]).to(dtype)


def fsdp(mesh: tuple[int, ...]) -> Callable[[nn.Module], nn.Module]:
    """Return a function that shards each block of a model by FSDP2."""

    def apply(module: nn.Module) -> nn.Module:
        for block in module:
            fully_shard(block, mesh=mesh_of(mesh))
        return fully_shard(module, mesh=mesh_of(mesh))

    return apply


def assert_same_model(sharded: nn.Module, whole: nn.Module) -> None:
    """Compare the shards of this rank with the whole model."""
    for (name, param), other in zip(sharded.named_parameters(), whole.parameters(), strict=True):
        expected = distribute_tensor(other.detach(), param.device_mesh, param.placements, src_data_rank=None)
        assert_same_bits(param.to_local().detach(), expected.to_local(), what=name)
