"""The states of rules in the optimizer of torch: tensors by name, in dicts, and named tuples for the rule."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rose_core.hyperparameters import unsigned
from rose_core.namespace import dtype_name
from rose_core.peers import Rule
from rose_core.peers.states import leaf_names, leaves, rebuilt
from rose_plan import differences
from rose_torch.distributed import is_dtensor

__all__ = ["as_dtensor", "loaded_state", "local_arrays", "local_tensor", "new_state", "state_of"]


@lru_cache(maxsize=4096)
def _structure_of(rule: Rule, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    """Return a state of the rule without memory, for the names, shapes and dtypes of its tensors."""
    return rule.init_state(torch.empty(shape, dtype=dtype, device="meta"))


def _names_of(rule: Rule, param: Tensor) -> list[str]:
    return leaf_names(_structure_of(rule, tuple(param.shape), param.dtype))


def local_arrays(rule: Rule, param: Tensor, state: Mapping[str, Any]) -> Any:
    """Return the tensors of a state by name as the named tuple of the rule, with the local tensors of DTensors."""
    structure = _structure_of(rule, tuple(param.shape), param.dtype)
    local = {name: local_tensor(leaf) for name, leaf in state.items() if name != "step"}
    return rebuilt(structure, iter([local.get(name) for name in leaf_names(structure)]))


def new_state(rule: Rule, param: Tensor) -> dict[str, Any]:
    """Return the state of a parameter before its first step."""
    return state_of(rule, param, 0, rule.init_state(local_tensor(param).detach()))


def state_of(rule: Rule, param: Tensor, step: int, arrays: Any) -> dict[str, Any]:
    """Return the state with these local tensors. A DTensor has a state of DTensors."""
    structure = leaves(_structure_of(rule, tuple(param.shape), param.dtype))
    state: dict[str, Any] = {"step": step}
    for name, leaf, like in zip(_names_of(rule, param), leaves(arrays), structure, strict=True):
        if leaf is not None:
            state[name] = as_dtensor(leaf, param) if is_dtensor(param) and like.shape == param.shape else leaf
    return state


def loaded_state(rule: Rule, param: Tensor, saved: Any, name: str) -> dict[str, Any]:
    """Return the state of a parameter, with copies of the saved tensors on its device."""
    rule = rule.for_shape(tuple(param.shape))
    structure = leaves(_structure_of(rule, tuple(param.shape), param.dtype))
    expected = {key: leaf for key, leaf in zip(_names_of(rule, param), structure, strict=True) if leaf is not None}
    if not isinstance(saved, Mapping):
        raise TypeError(f"{name} must be a mapping, got {type(saved).__name__}")
    missing, unknown = sorted({"step", *expected} - set(saved)), sorted(set(saved) - {"step", *expected})
    if text := differences({"lacks the keys": missing, "has the unknown keys": unknown}):
        raise ValueError(f"{name} {text}")
    state: dict[str, Any] = {"step": unsigned("step", saved["step"], bits=32)}
    for key, leaf in expected.items():
        tensor = saved[key]
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{key!r} of {name} must be a tensor, got {type(tensor).__name__}")
        if (tensor.shape, tensor.dtype) != (leaf.shape, leaf.dtype):
            raise ValueError(
                f"{key!r} of {name} has shape {tuple(tensor.shape)} and dtype {dtype_name(tensor)}; "
                f"allowed are {tuple(leaf.shape)} and {dtype_name(leaf)}"
            )
        if is_dtensor(param) and leaf.shape == param.shape and not is_dtensor(tensor):
            tensor = _sharded(tensor, param)
        state[key] = tensor.detach().to(param.device, copy=True)
    return state


def local_tensor(tensor: Tensor) -> Tensor:
    """Return the tensor itself, or the local tensor of a DTensor."""
    local: Tensor = tensor._local_tensor if is_dtensor(tensor) else tensor  # type: ignore[attr-defined]
    return local


def as_dtensor(local: Tensor, param: Any) -> Tensor:
    """Return a DTensor with this local tensor, sharded like the parameter."""
    return type(param.data).from_local(  # type: ignore[no-any-return]
        local, param.device_mesh, param.placements, run_check=False, shape=param.shape, stride=param.stride()
    )


def _sharded(tensor: Tensor, param: Any) -> Tensor:
    """Return a whole tensor as a DTensor that is sharded like the parameter."""
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415  (it is slow to load)

    return distribute_tensor(tensor.to(param.device), param.device_mesh, param.placements)
