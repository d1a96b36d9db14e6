"""The agreement of all ranks on a step, before the first of them writes: it happens whole, or nowhere (ROSE-11.3)."""

import functools
import itertools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from torch import Tensor

from rose_torch.collectives import reduce_in_place
from rose_torch.placement import is_dtensor
from rose_torch.steps import PortableNoise, Update

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["on_every_rank"]

T = TypeVar("T")

_NO_GRADIENT: Final = 0
# Below every word and every word's negative.
_NO_WORD: Final = -(2**63)


def on_every_rank(
    prepare: Callable[[], tuple[Sequence[Update], T]],
    groups: Iterable[Mapping[str, Any]],
    name: Callable[[Mapping[str, Any], int, int], str],
) -> tuple[Sequence[Update], T]:
    """Return a step's updates, one for each gradient, if they can be prepared on every rank; otherwise raise on all.

    Ranks are asked only where a parameter is a DTensor: once each of the groups that its mesh consists of.
    """
    places = [
        (group, number, position)
        for number, group in enumerate(groups)
        for position, param in enumerate(group["params"])
    ]
    params = [group["params"][position] for group, _, position in places]
    if not any(map(is_dtensor, params)):
        return prepare()
    from rose_torch.parts import groups_of  # noqa: PLC0415  (it is slow to load)

    ranks = [groups_of(param) for param in params]  # none for a plain parameter, none outside of a mesh
    ask = functools.partial(_largest_of_all, ranks=list(dict.fromkeys(itertools.chain(*ranks))), device=_device(params))
    try:
        updates, others = prepare()
    except Exception:
        ask([1] + [_NO_WORD] * (2 * len(params)))
        raise
    remaining = iter(updates)
    words = [_NO_GRADIENT if param.grad is None else _word(next(remaining)) for param in params]
    mine = [(word, -word) if asked else (_NO_WORD, _NO_WORD) for word, asked in zip(words, ranks, strict=True)]
    failed, *heard = ask([0, *itertools.chain(*mine)])
    if failed:
        raise RuntimeError("another rank has refused this step, so no rank takes it; the error there says why")
    for place, asked, high, low in zip(places, ranks, heard[::2], heard[1::2], strict=True):
        if asked and high != -low:
            what = "a gradient on some ranks only" if low == -_NO_GRADIENT else "other options on other ranks"
            raise RuntimeError(f"{name(*place)} has {what}; a step needs the same on every rank")
    return updates, others


def _device(params: Iterable[Tensor]) -> torch.device:
    return next(param.device for param in params if is_dtensor(param))


def _word(update: Update) -> int:
    """Return a positive word of all that ranks must have in common for a step."""
    noise = update.noise if isinstance(update.noise, PortableNoise) else None
    return 1 + zlib.crc32(repr((update.options, update.factor, update.compute, noise)).encode())


def _largest_of_all(values: list[int], ranks: Iterable["ProcessGroup"], device: torch.device) -> list[int]:
    """Return the elementwise largest values of all ranks that the groups connect."""
    largest = torch.tensor(values, dtype=torch.int64, device=device)
    for group in ranks:
        reduce_in_place("largest", largest, group)
    return [int(value) for value in largest.tolist()]
