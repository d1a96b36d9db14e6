"""A model for the tests of `attach`, its training loop, and comparisons of two models."""

from typing import Any

import torch
from torch import Tensor, nn

from rose_torch import Rose
from tests.bits import assert_same_bits

__all__ = ["STEPS", "Model", "assert_no_hooks", "assert_same_models", "backward", "by_rank", "groups_of", "train"]

STEPS = 4


class Model(nn.Module):
    """A model with tied weights, a reused layer, a frozen layer, a layer that is not always used, and a scalar."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.reused = nn.Linear(6, 6)
        self.optional = nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.head = nn.Linear(6, 11)
        self.head.weight = self.embedding.weight
        self.to(dtype)

    def forward(self, tokens: Tensor, *, with_all: bool = True) -> Tensor:
        x = self.frozen(self.embedding(tokens))
        for _ in range(3):
            x = torch.tanh(self.reused(x))
        if with_all:
            x = x + self.optional(x)
        loss: Tensor = nn.functional.cross_entropy(self.head(x * self.scale).float(), tokens.roll(1))
        return loss


def backward(model: Model, step: int) -> None:
    tokens = torch.randint(11, (9,), generator=torch.Generator().manual_seed(step))
    model(tokens, with_all=step % 2 == 0).backward()


def by_rank(name: str, param: nn.Parameter) -> dict[str, Any]:
    if name.startswith("reused"):
        return {"lr": 0.05, "centralize": False}
    return {"weight_decay": 0.0} if param.ndim < 2 else {}


def groups_of(model: Model) -> list[dict[str, Any]]:
    """Return the groups of `by_rank`, in the order of attach."""
    named = dict(model.named_parameters())
    names = [
        ["embedding.weight", "frozen.weight", "optional.weight"],
        ["scale", "frozen.bias", "optional.bias", "head.bias"],
        ["reused.weight", "reused.bias"],
    ]
    order = sorted(names, key=lambda group: min(list(named).index(name) for name in group))
    return [
        {"params": [(n, named[n]) for n in named if n in group], **by_rank(group[0], named[group[0]])}
        for group in order
    ]


def train(model: Model, optimizer: Rose, scheduler: Any = None, steps: range = range(STEPS)) -> None:
    for step in steps:
        optimizer.zero_grad()
        backward(model, step)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def assert_same_models(actual: nn.Module, expected: nn.Module) -> None:
    for (name, param), want in zip(actual.named_parameters(), expected.parameters(), strict=True):
        assert_same_bits(param, want, backend="rose_torch attached", what=name)


def assert_no_hooks(model: nn.Module) -> None:
    before = [param.detach().clone() for param in model.parameters()]
    for param in model.parameters():
        if param.requires_grad:
            (param * param).sum().backward()
            assert type(param.grad) is Tensor
    for param, was in zip(model.parameters(), before, strict=True):
        assert_same_bits(param, was)
        param.grad = None
