"""The consensus of all ranks on a step, before the first of them writes: all take the step or none (ROSE-11.3).

Importing this module loads torch's module of DTensors, which is slow. It is imported at the first step with a DTensor.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import torch

from rose_core.noise import NoiseKey
from rose_plan import Update
from rose_torch.distributed import is_dtensor, is_on_other_ranks
from rose_torch.distributed.collectives import all_reduce_in_place
from rose_torch.distributed.shards import groups_of
from rose_torch.plan import SkippedStep, TorchPlan

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["plan_on_all_ranks"]

T = TypeVar("T")

_NO_GRADIENT: Final = 0
# What became of the plan on a rank; the largest of all ranks counts.
_PLANNED, _SKIPPED, _FAILED = range(3)


class _Param(NamedTuple):
    """A parameter of the optimizer, its group, and its name."""

    tensor: Any
    group: Mapping[str, Any]
    name: str


class _Summary(NamedTuple):
    """The name of a DTensor, and hashes of its properties and of its update, to compare between ranks."""

    name: str
    identity: int
    update: int


def plan_on_all_ranks(
    prepare: Callable[[], tuple[TorchPlan, T]],
    groups: Iterable[Mapping[str, Any]],
    name: Callable[[Mapping[str, Any], int, int], str],
) -> tuple[TorchPlan, T]:
    """Return what `prepare` returns, if it succeeds on every rank with the same DTensors; otherwise raise on all.

    Two integers are compared over the process groups of each mesh of DTensors: whether `prepare` failed on a rank or
    skipped the step, and a hash of the DTensors and of their updates. Other parameters do not matter to other ranks.
    """
    params = [
        _Param(tensor, group, name(group, number, position))
        for number, group in enumerate(groups)
        for position, tensor in enumerate(group["params"])
    ]
    meshes = _dtensors_by_mesh(params)
    error: Exception | None = None
    summaries: dict[int, _Summary] = {}
    try:
        prepared = prepare()
        summaries = _summarize(params, prepared[0], itertools.chain(*meshes.values()))
    except Exception as raised:
        error = raised
    failed = _level_of(error)
    differing = []
    # With several meshes, the second round tells the ranks of one mesh that another mesh has failed.
    for _ in range(1 if len(meshes) < 2 else 2):
        for mesh, indices in meshes.items():
            device = params[indices[0]].tensor.device
            digest = _hash([summaries[index][1:] for index in indices]) if summaries else 0
            level, high, low = _max_over_ranks([failed, digest, -digest], mesh, device)
            differs = not level and high != -low
            if differs and mesh not in differing:
                differing.append(mesh)
            failed = max(failed, level, _FAILED * differs)
    if error is not None and _level_of(error) == failed:
        raise error
    if failed == _SKIPPED:
        raise SkippedStep
    for mesh in differing:
        indices = meshes[mesh]
        _raise_difference([summaries[index] for index in indices], mesh, params[indices[0]].tensor.device)
    if failed:
        raise RuntimeError("another rank has refused this step, so no rank takes it; the error there says why")
    return prepared


def _level_of(error: Exception | None) -> int:
    if error is None:
        return _PLANNED
    return _SKIPPED if isinstance(error, SkippedStep) else _FAILED


def _dtensors_by_mesh(params: Sequence[_Param]) -> dict[tuple["ProcessGroup", ...], list[int]]:
    """Return the indices of the DTensors on each mesh, by its process groups, in the same order on all ranks."""
    meshes: dict[tuple[ProcessGroup, ...], list[int]] = {}
    for index, param in enumerate(params):
        if is_dtensor(param.tensor):
            meshes.setdefault(tuple(groups_of(param.tensor)), []).append(index)
    meshes.pop((), None)
    return dict(sorted(meshes.items(), key=lambda item: [group.group_name for group in item[0]]))


def _summarize(params: Sequence[_Param], plan: TorchPlan, indices: Iterable[int]) -> dict[int, _Summary]:
    """Return the summary of each DTensor, by its index."""
    positions = itertools.count()
    updates = [
        None if param.tensor.grad is None or is_on_other_ranks(param.tensor) else plan.update(next(positions))
        for param in params
    ]
    return {
        index: _Summary(params[index].name, _hash_of_param(params[index]), _hash_of_update(updates[index]))
        for index in indices
    }


def _raise_difference(summaries: Sequence[_Summary], mesh: Sequence["ProcessGroup"], device: torch.device) -> None:
    """Raise an error that names the first difference between ranks. All ranks of the mesh call this together."""
    count = len(summaries)
    most, least = _max_over_ranks([count, -count], mesh, device)
    if most != -least:
        raise RuntimeError(
            f"this rank has {count} DTensors of a mesh whose other ranks have from {-least} to {most}; a step needs "
            "the same on every rank"
        )
    hashes = list(itertools.chain(*((summary.identity, summary.update) for summary in summaries)))
    high, low = (_max_over_ranks([sign * value for value in hashes], mesh, device) for sign in (1, -1))
    for number, summary in enumerate(summaries):
        identities, updates = ((high[i], -low[i]) for i in (2 * number, 2 * number + 1))
        if identities[0] != identities[1]:
            raise RuntimeError(
                f"{summary.name} has another name, shape, dtype or placement on other ranks; a step needs the same "
                "DTensors in the same order on every rank"
            )
        if updates[0] != updates[1]:
            what = "a gradient on some ranks only" if _NO_GRADIENT in updates else "other options on other ranks"
            raise RuntimeError(f"{summary.name} has {what}; a step needs the same on every rank")


def _hash_of_param(param: _Param) -> int:
    named = param.name if "param_names" in param.group else ""
    return _hash((named, tuple(param.tensor.shape), param.tensor.dtype, param.tensor.placements))


def _hash_of_update(update: Update | None) -> int:
    """Return a positive hash of everything that must be the same on all ranks, 0 without a gradient."""
    if update is None:
        return _NO_GRADIENT
    noise = update.noise if isinstance(update.noise, NoiseKey) else type(update.noise).__name__
    return _hash((update.options, noise))


def _hash(*values: Any) -> int:
    """Return a positive 56-bit hash of values, by their `repr`."""
    return 1 + int.from_bytes(blake2b(repr(values).encode(), digest_size=7).digest(), "little")


def _max_over_ranks(values: list[int], mesh: Iterable["ProcessGroup"], device: torch.device) -> list[int]:
    """Return the elementwise maximum of the values over all ranks of a mesh."""
    maximum = torch.tensor(values, dtype=torch.int64, device=device)
    for group in mesh:
        all_reduce_in_place("max", maximum, group)
    return [int(value) for value in maximum.tolist()]
