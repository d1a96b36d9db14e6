"""A step in a graph of torch.compile: one operation that the compiler does not look into.

The operation runs an eager step when the graph runs. A compiler may contract arithmetic, and would make constants of
`lr` and of the step count. The parameters and the gradients are arguments of the operation, so the graph knows which
tensors it overwrites.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

import torch
from torch import Tensor

__all__ = ["Gradients", "evaluated", "not_traced", "number_of", "step_in_graph"]

Gradients = Mapping[int, tuple[Tensor, Tensor]]
"""Parameters and their gradients, by the index of the parameter."""

_numbers: Final = itertools.count()
_optimizers: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()


def number_of(optimizer: torch.optim.Optimizer) -> int:
    """Return a number by which a graph finds the optimizer during its lifetime."""
    number = next(_numbers)
    _optimizers[number] = optimizer
    return number


def step_in_graph(number: int, groups: Sequence[Sequence[Tensor]]) -> None:
    """Add a step of an optimizer to the graph that is being compiled. `groups` holds its parameters."""
    params = [param for group in groups for param in group]
    indices = [index for index, param in enumerate(params) if param.grad is not None]
    _step(params, [params[index].grad for index in indices], indices, number)


def evaluated(closure: Callable[[], Any] | None) -> Any:
    """Return the loss that a closure computes, with gradients, None without a closure."""
    if closure is None:
        return None
    if not callable(closure):
        raise TypeError(f"closure must be None or callable, got {type(closure).__name__}")
    with torch.enable_grad():
        return closure()


def not_traced(function: Callable[..., None]) -> Callable[..., None]:
    """Return the function as one that torch.compile does not trace, not even in a hook."""
    untraced: Callable[..., None] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return untraced


@torch.library.custom_op("rose_torch::step", mutates_args=("params",))
def _step(params: list[Tensor], grads: list[Tensor], indices: list[int], number: int) -> None:
    optimizer = _optimizers.get(number)
    if optimizer is None:
        raise RuntimeError("the optimizer whose step this graph takes is gone; keep it as long as the graph")
    optimizer._apply({index: (params[index], grad) for index, grad in zip(indices, grads, strict=True)})
