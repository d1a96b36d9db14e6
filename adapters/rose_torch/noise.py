"""Rounding noise drawn from torch's random generators."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import torch

from rose_torch.memory import is_traced

__all__ = ["DrawnNoise", "drawn_words"]

# Below this number of words, the second operation costs more than the divisions that it saves.
_MASKED_FROM: Final = 2**10


@dataclass(frozen=True)
class DrawnNoise:
    """Noise drawn from a generator; None is torch's default generator."""

    generator: torch.Generator | None


def drawn_words(param: torch.Tensor, generator: torch.Generator | None) -> Callable[[int, int], torch.Tensor]:
    """Return a function that draws the noise words of one range of the flattened parameter after the other.

    The words equal ``random_(0, 2**16)``. On the CPU, drawing range by range gives the words of one draw. On other
    devices a word depends on its position in the draw, so the first call draws all words.
    """
    if param.device.type == "cpu":
        return lambda start, stop: _draw(stop - start, param.device, generator)
    whole = cache(lambda: _draw(param.numel(), param.device, generator))
    return lambda start, stop: whole()[start:stop]


def _draw(count: int, device: torch.device, generator: torch.Generator | None) -> torch.Tensor:
    words = torch.empty(count, dtype=torch.int32, device=device)
    if device.type != "cpu":
        return words.random_(0, 2**16, generator=generator)
    # Masked words are the same as those of a range, without divisions. torch.fx cannot write code for a range, since
    # that is an argument named "from".
    if is_traced():
        return words.random_(generator=generator).bitwise_and_(0xFFFF)
    if count < _MASKED_FROM:
        return words.random_(0, 2**16, generator=generator)
    array = words.random_(generator=generator).numpy()
    array &= 0xFFFF  # in this thread: a forked process lacks those of torch
    return words
