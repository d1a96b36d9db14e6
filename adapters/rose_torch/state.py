"""States of the optimizer: generators as plain values, so that a resumed run draws the same noise; upstream's form."""

import math
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, Final

import numpy as np
import torch

from rose_core.hyperparameters import unsigned
from rose_torch.options import OPTIONS, generator_of, plain_options

__all__ = ["after_pre_hooks", "pack_generators", "restored_groups", "saved_groups", "set_states", "upstream_state_dict"]

_STATE_KEY: Final = "sr_generator"

_DTYPES: Final = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    None: None,
}
_OURS: Final = ("maximize", "sr_seed", "max_step", "step", _STATE_KEY)


# Keys of a group that upstream's state dicts lack, and those of older versions may lack. A group keeps its value then;
# these are the values of a group that has none.
_NOT_UPSTREAM: Final = {"maximize": False, "sr_seed": None, "max_step": None, "step": 0}

_NO_REFERENCE: Final = (
    "param group {number} of the state has wd_schedule=True and steps behind it, but no initial_lr, to which its decay "
    "refers: a flattened checkpoint has one only if the optimizer that it is loaded into has it, by a scheduler or as "
    "group['initial_lr'] = lr"
)


@contextmanager
def after_pre_hooks(optimizer: Any, state: Any) -> Iterator[dict[str, Any]]:
    """Run the hooks that may change a state before it is loaded, and yield the state that they leave, checked."""
    hooks = optimizer._optimizer_load_state_dict_pre_hooks
    optimizer._optimizer_load_state_dict_pre_hooks = OrderedDict()  # torch would run them a second time
    try:
        state = copy(state)  # hooks may change it
        for hook in hooks.values():
            changed = hook(optimizer, state)
            state = state if changed is None else changed
        if not isinstance(state, Mapping) or not {"state", "param_groups"} <= set(state):
            raise TypeError('state_dict must be a mapping with "state" and "param_groups", as state_dict returns it')
        yield dict(state)
    finally:
        optimizer._optimizer_load_state_dict_pre_hooks = hooks


def saved_groups(groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups of a state dict, in plain values.

    A distributed checkpoint loads only the keys that the state of a new optimizer has, so `initial_lr` is there.
    """
    return pack_generators(
        {**({"initial_lr": None} if group["wd_schedule"] is True else {}), **group} for group in groups
    )


def restored_groups(
    current: Sequence[Mapping[str, Any]] | None, saved: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any] | None
) -> tuple[list[dict[str, Any]], list[tuple[torch.Generator, torch.Tensor]]]:
    """Return the groups of a saved state, checked, and the states of their generators. Nothing is changed yet.

    `current` holds the groups now, None for an optimizer that is unpickled. `defaults`, if there are any, come last.
    """
    current = current or [{"bf16_sr": False}] * len(saved)
    groups: list[Mapping[str, Any]] = [
        {**_NOT_UPSTREAM, **{key: used[key] for key in _NOT_UPSTREAM if key in used}, **group}
        for used, group in zip(current, saved, strict=True)
    ]
    generators = [generator_of(used) for used in current]
    if defaults is not None:
        filled = {key: value for key, value in _NOT_UPSTREAM.items() if key != "step"}  # the defaults have no step
        groups, generators = [*groups, {**filled, **defaults}], [*generators, None]
    restored, generator_states = _unpack_generators(groups, generators)
    for number, group in enumerate(restored):
        if missing := [option for option in OPTIONS if option not in group]:
            raise ValueError(f"param group {number} of the state lacks {', '.join(missing)}")
        group.update(plain_options(group))
        if group.get("initial_lr", 0) is None:  # schedulers set it where it is missing
            del group["initial_lr"]
        if "step" in group:  # the defaults have none
            steps = unsigned("step", group["step"], bits=32)
            if steps and group["wd_schedule"] is True and not (group.get("max_lr") or group.get("initial_lr")):
                raise ValueError(_NO_REFERENCE.format(number=number))
    return restored, generator_states


def pack_generators(groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups with True in place of each generator, and its state beside it in plain values.

    Groups that share a generator get the same "id" in its state, so that they share one again when restored.
    """
    ids: dict[int, int] = {}
    packed = []
    for group in groups:
        plain = dict(group)
        if (generator := generator_of(group)) is not None:
            plain["bf16_sr"] = True
            plain[_STATE_KEY] = {
                "id": ids.setdefault(id(generator), len(ids)),
                "device": str(generator.device),
                "state": generator.get_state().numpy().tobytes().hex(),
            }
        packed.append(plain)
    return packed


def _unpack_generators(
    groups: Iterable[Mapping[str, Any]], current: list[torch.Generator | None]
) -> tuple[list[dict[str, Any]], list[tuple[torch.Generator, torch.Tensor]]]:
    """Return the groups with generators in place of their states, and these states, which are not set yet.

    The generators in use now (`current`) take the saved states. They stay where the state has none, as in
    upstream's state dicts.
    """
    generators: dict[int, torch.Generator] = {}
    unpacked, states = [], []
    for group, used in zip(groups, current, strict=True):
        restored = dict(group)
        if (saved := restored.pop(_STATE_KEY, None)) is not None:
            if saved["id"] not in generators:
                # Groups that share a generator now may have had two, which one cannot continue.
                free = None if used in generators.values() else used
                generators[saved["id"]] = free or torch.Generator(saved["device"])
            generator = generators[saved["id"]]
            if str(generator.device) != saved["device"]:
                raise ValueError(
                    f"the state's generator is on device {saved['device']}, the one given as bf16_sr on "
                    f"{generator.device}; they must be on one device"
                )
            states.append((generator, _checked_state(saved)))
            restored["bf16_sr"] = generator
        elif used is not None and restored.get("bf16_sr") is True and restored.get("sr_seed") is None:
            restored["bf16_sr"] = used
        unpacked.append(restored)
    return unpacked, states


def _checked_state(saved: Mapping[str, Any]) -> torch.Tensor:
    """Return a saved state. It is tried on a new generator, so that setting it later cannot fail."""
    try:
        state = torch.from_numpy(np.frombuffer(bytes.fromhex(saved["state"]), dtype=np.uint8).copy())
        torch.Generator(saved["device"]).set_state(state)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"the state of a generator on {saved['device']} cannot be restored: {error}") from error
    return state


def set_states(states: Iterable[tuple[torch.Generator, torch.Tensor]]) -> None:
    """Set each generator to its state."""
    for generator, state in states:
        generator.set_state(state)


def upstream_state_dict(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict that `rose_opt.Rose` 1.0.2 can load and step with.

    The other way needs no help: `Rose.load_state_dict` takes upstream's as it is.

    Parameters
    ----------
    state_dict : mapping
        What `Rose.state_dict` returned. It is not changed.

    Returns
    -------
    dict
        The same with `compute_dtype` as a `torch.dtype` and without the keys that upstream does not know.

    Raises
    ------
    ValueError
        If a group has ``maximize=True`` or a `max_step`, which upstream cannot do.

    Warns
    -----
    UserWarning
        If a group's rounding noise comes from `sr_seed` or a generator: upstream draws other words.

    Examples
    --------
    >>> import torch
    >>> from rose_torch import Rose
    >>> optimizer = Rose([torch.nn.Parameter(torch.ones(2))], lr=1e-3)
    >>> upstream_state_dict(optimizer.state_dict())["param_groups"][0]["compute_dtype"]
    torch.float64
    """
    groups = state_dict["param_groups"]
    if any(group["maximize"] for group in groups):
        raise ValueError("maximize must be False in every group for rose_opt.Rose, got True")
    if limits := [group["max_step"] for group in groups if group.get("max_step") not in (None, math.inf)]:
        raise ValueError(f"max_step must be None in every group for rose_opt.Rose, got {limits[0]}")
    if any(group["bf16_sr"] and (group["sr_seed"] is not None or _STATE_KEY in group) for group in groups):
        warnings.warn("rose_opt.Rose will not continue the rounding noise of this run", UserWarning, stacklevel=2)
    return {**state_dict, "param_groups": [_upstream_group(group) for group in groups]}


def _upstream_group(group: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in group.items() if key not in _OURS and (key, value) != ("initial_lr", None)}
    return kept | {"compute_dtype": _DTYPES[group["compute_dtype"]]}
