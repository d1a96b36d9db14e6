"""The memory of tensors: where their elements are, and tensors that have none, such as those of a tracer."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rose_plan import Overlap, Plan, Spans, shared_memory
from rose_torch.validation import PLAIN_TYPES

__all__ = ["Addresses", "addresses_of", "find_overlap", "is_traced", "materialized_gradients", "require_traced_params"]

Addresses = tuple[np.ndarray, np.ndarray]
"""The addresses of the first elements of the parameters and of the gradients, in int64."""


def is_traced() -> bool:
    """Tell whether torch traces or transforms the operations of this thread, so that tensors may have no memory.

    That is the case under dispatch modes, such as `FakeTensorMode`, and under the transforms of `torch.func`.
    """
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._functorch.peek_interpreter_stack() is not None


def require_traced_params(params: Sequence[Tensor], name: Callable[[int], str]) -> None:
    """Raise if a transform does not know a parameter. An update of it would be lost when the result runs again."""
    interpreter = torch._C._functorch.peek_interpreter_stack()
    functionalized = torch._C._functorch.TransformType.Functionalize
    proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")
    mode = None if proxies is None else proxies.get_proxy_mode()
    for position, param in enumerate(params):
        if interpreter is not None and interpreter.key() == functionalized and not torch._is_functional_tensor(param):
            transform = "torch.func.functionalize"
        elif mode is not None and not proxies.has_proxy_slot(param, mode.tracer):  # type: ignore[union-attr]
            transform = "make_fx"
        else:
            continue
        raise RuntimeError(
            f"{name(position)} was made outside the function that {transform} transforms, so its update would be "
            "lost; pass it to this function as an argument"
        )


def addresses_of(tensors: Sequence[Tensor]) -> np.ndarray:
    """Return the address of the first element of each tensor, 0 for a tensor without memory of its own."""
    is_plain = PLAIN_TYPES.issuperset(map(type, tensors))
    return np.asarray(list(map(Tensor.data_ptr if is_plain else _address_of, tensors)), np.int64)


def materialized_gradients(plan: Plan, addresses: Addresses) -> dict[int, Tensor]:
    """Return copies of the gradients that autograd left without memory, its zero tensors, by their position.

    Raise if a tensor has no memory for another reason, such as a storage that was freed.
    """
    for position in _without_memory(addresses[0], plan.checked.param_spans):
        param = plan.params[position]
        if type(param) in PLAIN_TYPES:
            meta, freed = "is on the meta device, which has no values", "has no memory: its storage was freed"
            raise RuntimeError(f"{plan.name(position)} {meta if param.is_meta else freed}")
    copies = {}
    for position in _without_memory(addresses[1], plan.checked.grad_spans):
        grad = plan.grads[position]
        if grad._is_zerotensor():
            copies[position] = grad.clone()
        elif type(grad) in PLAIN_TYPES:
            raise RuntimeError(f"the gradient of {plan.name(position)} has no memory: its storage was freed")
    return copies


def find_overlap(plan: Plan, addresses: Addresses | None) -> Overlap:
    """Return which tensors overlap a parameter. Without addresses, tensors of one storage count as overlapping."""
    if addresses is not None:
        return shared_memory(addresses[0], plan.checked.param_spans, addresses[1], plan.checked.grad_spans)
    storages = {_storage_of(param) for param in plan.params} - {None}
    return Overlap((), tuple(position for position, grad in enumerate(plan.grads) if _storage_of(grad) in storages))


def _without_memory(addresses: np.ndarray, spans: Spans) -> list[int]:
    """Return the positions of tensors that have elements but no address."""
    if np.count_nonzero(addresses) == len(addresses):  # mostly, and fast to tell
        return []
    return np.flatnonzero((addresses == 0) & (spans[:, 1] > 0)).tolist()


def _address_of(tensor: Tensor) -> int:
    fakes = sys.modules.get("torch._subclasses.fake_tensor")
    if fakes is not None and isinstance(tensor, fakes.FakeTensor):  # which warns of every use of its address
        return 0
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return 0


def _storage_of(tensor: Tensor) -> Any:
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError, TypeError):  # a wrapper subclass may have no storage
        return None
