"""The agreement of all ranks on a step, before the first of them writes: it happens whole, or nowhere (ROSE-11.3).

Loading this module loads that of DTensor, so only who has one does.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import torch

from rose_torch.collectives import reduce_in_place
from rose_torch.parts import groups_of
from rose_torch.placement import is_dtensor, is_elsewhere
from rose_torch.updates import PortableNoise, Update, Updates

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["on_every_rank"]

T = TypeVar("T")

_NO_GRADIENT: Final = 0


class _Known(NamedTuple):
    """What a rank knows of a DTensor, in words: which it is, and what the step is to do with it."""

    name: str
    identity: int
    step: int


def on_every_rank(
    prepare: Callable[[], tuple[Sequence[Updates], T]],
    groups: Iterable[Mapping[str, Any]],
    name: Callable[[Mapping[str, Any], int, int], str],
) -> tuple[Sequence[Updates], T]:
    """Return a step's updates, one for each group, if they can be prepared on every rank; otherwise raise on all.

    Ranks are asked by the process groups that the meshes of DTensors consist of, once each: whether the step has
    failed on one, and whether all have the same DTensors in the same order and do the same with them. What else is
    among the parameters is no other rank's concern.
    """
    places = [
        (param, group, name(group, number, position))
        for number, group in enumerate(groups)
        for position, param in enumerate(group["params"])
    ]
    # The DTensors on each mesh, by its process groups; in an order that is the same on all ranks.
    on_meshes: dict[tuple[ProcessGroup, ...], list[int]] = {}
    for place, (param, *_) in enumerate(places):
        if is_dtensor(param):
            on_meshes.setdefault(tuple(groups_of(param)), []).append(place)
    on_meshes.pop((), None)
    meshes = sorted(on_meshes, key=lambda mesh: [group.group_name for group in mesh])
    error: Exception | None = None
    known: dict[int, _Known] = {}
    try:
        updates, others = prepare()
        remaining = itertools.chain.from_iterable(own.each() for own in updates)
        found = [None if param.grad is None or is_elsewhere(param) else next(remaining) for param, *_ in places]
        known = {
            place: _Known(places[place][2], _identity(*places[place]), _word_of(found[place]))
            for place in itertools.chain(*on_meshes.values())
        }
    except Exception as raised:
        error = raised
    failed = error is not None
    differing = []
    # The second time tells those of one mesh that another one has failed.
    for _ in range(1 if len(meshes) < 2 else 2):
        for mesh in meshes:
            device = places[on_meshes[mesh][0]][0].device
            word = _word([known[place][1:] for place in on_meshes[mesh]]) if known else 0
            failures, high, low = _largest_of_all([int(failed), word, -word], mesh, device)
            differs = not failures and high != -low
            if differs and mesh not in differing:
                differing.append(mesh)
            failed = failed or failures > 0 or differs
    if error is not None:
        raise error
    for mesh in differing:
        _refuse([known[place] for place in on_meshes[mesh]], mesh, places[on_meshes[mesh][0]][0].device)
    if failed:
        raise RuntimeError("another rank has refused this step, so no rank takes it; the error there says why")
    return updates, others


def _refuse(known: Sequence[_Known], mesh: Sequence["ProcessGroup"], device: torch.device) -> None:
    """Say in what ranks differ, which all of a mesh do that have found it."""
    count = len(known)
    most, least = _largest_of_all([count, -count], mesh, device)
    if most != -least:
        raise RuntimeError(
            f"this rank has {count} DTensors of a mesh whose other ranks have from {-least} to {most}; a step needs "
            "the same on every rank"
        )
    words = list(itertools.chain(*((own.identity, own.step) for own in known)))
    high, low = (_largest_of_all([sign * word for word in words], mesh, device) for sign in (1, -1))
    for place, own in enumerate(known):
        identities, steps = ((high[at], -low[at]) for at in (2 * place, 2 * place + 1))
        if identities[0] != identities[1]:
            raise RuntimeError(
                f"{own.name} has another name, shape, dtype or placement on other ranks; a step needs the same "
                "DTensors in the same order on every rank"
            )
        if steps[0] != steps[1]:
            what = "a gradient on some ranks only" if _NO_GRADIENT in steps else "other options on other ranks"
            raise RuntimeError(f"{own.name} has {what}; a step needs the same on every rank")


def _identity(param: Any, group: Mapping[str, Any], name: str) -> int:
    named = name if "param_names" in group else ""
    return _word((named, tuple(param.shape), param.dtype, param.placements))


def _word_of(update: Update | None) -> int:
    """Return a positive word of all that ranks must have in common for an update, 0 if there is none."""
    if update is None:
        return _NO_GRADIENT
    noise = update.noise if isinstance(update.noise, PortableNoise) else None
    return _word((update.options, update.factor, update.compute, noise))


def _word(*values: Any) -> int:
    """Return a positive number that hardly anything else has, of values whose `repr` says it all."""
    return 1 + int.from_bytes(blake2b(repr(values).encode(), digest_size=7).digest(), "little")


def _largest_of_all(values: list[int], mesh: Iterable["ProcessGroup"], device: torch.device) -> list[int]:
    """Return the elementwise largest values of all ranks of a mesh."""
    largest = torch.tensor(values, dtype=torch.int64, device=device)
    for group in mesh:
        reduce_in_place("largest", largest, group)
    return [int(value) for value in largest.tolist()]
