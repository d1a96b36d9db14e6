"""The collectives of a step: all-reduces of extrema and fold sums, batched over all parameters."""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from rose_core.summation import Extrema, Folds

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["AllReduce", "Stages", "all_reduce_extrema", "all_reduce_folds", "all_reduce_in_place", "run_batched"]

T = TypeVar("T")

_LARGEST: Final = 2**63 - 1


class AllReduce(NamedTuple):
    """A request for an all-reduce of values, int64 for "max" and float64 for "sum", over the ranks of a group."""

    operation: Literal["max", "sum"]
    group: "ProcessGroup"
    values: Tensor


Stages = Generator[AllReduce, Tensor, T]
"""A computation in stages: it yields each all-reduce that it needs, and is sent the result."""


def all_reduce_extrema(ends: Extrema, groups: Sequence["ProcessGroup"]) -> Stages[Extrema]:
    """Return the extrema over the ranks of all groups. They are NaN if one rank has a NaN."""
    if not groups:
        return ends
    low, high = ends
    keys = _to_ordered(torch.stack([-low, high]).double())
    for group in groups:
        keys = yield AllReduce("max", group, keys)
    least, largest = _from_ordered(keys).to(low.dtype)
    return -least, largest


def all_reduce_folds(folds: Folds, groups: Sequence["ProcessGroup"]) -> Stages[Folds]:
    """Return the fold sums over the ranks of all groups. They are exact."""
    if not groups:
        return folds
    sums = torch.stack(folds)
    for group in groups:
        sums = yield AllReduce("sum", group, sums)
    return tuple(sums)


def run_batched(computations: Sequence[Stages[T]]) -> list[T]:
    """Run computations to their ends, all at the same stage, and batch the all-reduces of a stage.

    Every rank of a group must run the same computations, so that all ranks request the same all-reduces.
    """
    results: dict[int, T] = {}
    replies: dict[int, Any] = dict.fromkeys(range(len(computations)))
    while replies:
        requests: dict[int, AllReduce] = {}
        for number, reply in replies.items():
            try:
                requests[number] = computations[number].send(reply)
            except StopIteration as end:  # noqa: PERF203  (it is how a generator returns)
                results[number] = end.value
        replies = _all_reduce(requests)
    return [results[number] for number in range(len(computations))]


def all_reduce_in_place(operation: Literal["max", "sum"], values: Tensor, group: "ProcessGroup") -> None:
    """Replace the values by their maximum, or their sum, over the ranks of a group."""
    reduction = torch.distributed.ReduceOp.MAX if operation == "max" else torch.distributed.ReduceOp.SUM
    torch.distributed.all_reduce(values, reduction, group)


def _all_reduce(requests: dict[int, AllReduce]) -> dict[int, Tensor]:
    """Return the result of each request, after one all-reduce for each operation and group."""
    batches: dict[Any, list[int]] = {}
    for number, request in requests.items():
        batches.setdefault((request.operation, request.group, request.values.device), []).append(number)
    results: dict[int, Tensor] = {}
    # All ranks sort the batches alike, whatever the order of their parameters.
    ordered = sorted(batches.items(), key=lambda batch: (batch[0][0], batch[0][1].group_name))
    for (operation, group, _), numbers in ordered:
        values = torch.cat([requests[number].values.reshape(-1) for number in numbers])
        if values.numel():  # the same on all ranks of the group
            all_reduce_in_place(operation, values, group)
        parts = torch.split(values, [requests[number].values.numel() for number in numbers])
        results |= {n: part.reshape(requests[n].values.shape) for n, part in zip(numbers, parts, strict=True)}
    return dict(sorted(results.items()))


def _to_ordered(x: Tensor) -> Tensor:
    """Return integers in the order of float64 values, NaN above all. The maximum of a collective may lose a NaN."""
    bits = torch.where(torch.isnan(x), torch.nan, x).view(torch.int64)
    return bits ^ ((bits >> 63) & _LARGEST)


def _from_ordered(keys: Tensor) -> Tensor:
    return (keys ^ ((keys >> 63) & _LARGEST)).view(torch.float64)
