"""Random generators: the words they draw, and their states as plain values, so that a resumed run draws the same."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

import numpy as np
import torch

from rose_torch.options import generator_of

__all__ = ["STATE_KEY", "drawn_words", "pack_generators", "set_states", "unpack_generators"]

STATE_KEY: Final = "sr_generator"

# Of so many words a division each costs more than another call.
_MANY: Final = 2**10


def drawn_words(param: torch.Tensor, generator: torch.Generator | None) -> Callable[[int, int], torch.Tensor]:
    """Return what gives the rounding words of one range of the flattened parameter after another.

    They are those of ``random_(0, 2**16)``. Drawing them range by range is drawing them at once on the CPU alone:
    elsewhere a word depends on its place in the draw, so they are all drawn at the first.
    """
    if param.device.type == "cpu":
        return lambda start, stop: _drawn(stop - start, param.device, generator)
    whole = cache(lambda: _drawn(param.numel(), param.device, generator))
    return lambda start, stop: whole()[start:stop]


def _drawn(count: int, device: torch.device, generator: torch.Generator | None) -> torch.Tensor:
    words = torch.empty(count, dtype=torch.int32, device=device)
    if device.type == "cpu" and count >= _MANY:
        return words.random_(generator=generator).bitwise_and_(0xFFFF)  # the same, without a division for each
    return words.random_(0, 2**16, generator=generator)


def pack_generators(groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups with each generator replaced by True and its state, in plain values, beside it.

    Groups that share a generator have the same "id" in its state, so that they share it again.
    """
    ids: dict[int, int] = {}
    packed = []
    for group in groups:
        plain = dict(group)
        if (generator := generator_of(group)) is not None:
            plain["bf16_sr"] = True
            plain[STATE_KEY] = {
                "id": ids.setdefault(id(generator), len(ids)),
                "device": str(generator.device),
                "state": generator.get_state().numpy().tobytes().hex(),
            }
        packed.append(plain)
    return packed


def unpack_generators(
    groups: Iterable[Mapping[str, Any]], current: list[torch.Generator | None]
) -> tuple[list[dict[str, Any]], list[tuple[torch.Generator, torch.Tensor]]]:
    """Return the groups with their generators back in place, and the states these are to be set to.

    `current` are the generators in use now: they take a saved state over, and stay where one is wanted
    but none was saved, as in the state dict of upstream.
    """
    generators: dict[int, torch.Generator] = {}
    unpacked, states = [], []
    for group, own in zip(groups, current, strict=True):
        restored = dict(group)
        if (saved := restored.pop(STATE_KEY, None)) is not None:
            if saved["id"] not in generators:
                # One generator cannot continue two: groups that shared it now drew from two then.
                free = None if own in generators.values() else own
                generators[saved["id"]] = free or torch.Generator(saved["device"])
            generator = generators[saved["id"]]
            if str(generator.device) != saved["device"]:
                raise ValueError(
                    f"the state's generator is on device {saved['device']}, the one given as bf16_sr on "
                    f"{generator.device}; they must be on one device"
                )
            states.append((generator, _checked_state(saved)))
            restored["bf16_sr"] = generator
        elif own is not None and restored.get("bf16_sr") is True and restored.get("sr_seed") is None:
            restored["bf16_sr"] = own
        unpacked.append(restored)
    return unpacked, states


def _checked_state(saved: Mapping[str, Any]) -> torch.Tensor:
    """Return a saved state, tried on a generator of its own, so that setting it cannot fail later."""
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
