"""What ranks tell each other in a step: extrema and sums of folds, those of all parameters at once."""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from rose_core.summation import Extrema, Folds

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Join", "Joining", "extrema_of_all", "folds_of_all", "in_lockstep", "reduce_in_place"]

T = TypeVar("T")

_LARGEST: Final = 2**63 - 1


class Join(NamedTuple):
    """A question to a group of ranks: the elementwise largest of everyone's values, int64, or their float64 sum."""

    kind: Literal["largest", "sum"]
    group: "ProcessGroup"
    values: Tensor


Joining = Generator[Join, Tensor, T]
"""A computation that asks other ranks on its way."""


def extrema_of_all(ends: Extrema, groups: Sequence["ProcessGroup"]) -> Joining[Extrema]:
    """Return the extrema of everyone's, NaN if anyone has one."""
    if not groups:
        return ends
    low, high = ends
    keys = _ordered(torch.stack([-low, high]).double())
    for group in groups:
        keys = yield Join("largest", group, keys)
    least, largest = _from_ordered(keys).to(low.dtype)
    return -least, largest


def folds_of_all(folds: Folds, groups: Sequence["ProcessGroup"]) -> Joining[Folds]:
    """Return the sums of each fold of everyone's, which are exact."""
    if not groups:
        return folds
    sums = torch.stack(folds)
    for group in groups:
        sums = yield Join("sum", group, sums)
    return tuple(sums)


def in_lockstep(computations: Sequence[Joining[T]]) -> list[T]:
    """Run computations to their ends, and ask at once what they ask at the same stage.

    Every rank of a group runs the same ones, so that all come to the same questions.
    """
    results: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(computations)))
    while answers:
        joins: dict[int, Join] = {}
        for number, answer in answers.items():
            try:
                joins[number] = computations[number].send(answer)
            except StopIteration as end:  # noqa: PERF203  (it is how a generator returns)
                results[number] = end.value
        answers = _answers(joins)
    return [results[number] for number in range(len(computations))]


def reduce_in_place(kind: Literal["largest", "sum"], values: Tensor, group: "ProcessGroup") -> None:
    """Replace the values by their sum, or the largest, over the ranks of a group."""
    reduction = torch.distributed.ReduceOp.MAX if kind == "largest" else torch.distributed.ReduceOp.SUM
    torch.distributed.all_reduce(values, reduction, group)


def _answers(joins: dict[int, Join]) -> dict[int, Tensor]:
    """Ask each group once for everything of a kind."""
    batches: dict[Any, list[int]] = {}
    for number, join in joins.items():
        batches.setdefault((join.kind, join.group, join.values.device), []).append(number)
    answers: dict[int, Tensor] = {}
    # In the order of all ranks, whatever that of their parameters.
    for (kind, group, _), numbers in sorted(batches.items(), key=lambda batch: (batch[0][0], batch[0][1].group_name)):
        values = torch.cat([joins[number].values.reshape(-1) for number in numbers])
        if values.numel():  # the same for all ranks of the group
            reduce_in_place(kind, values, group)
        parts = torch.split(values, [joins[number].values.numel() for number in numbers])
        answers |= {n: part.reshape(joins[n].values.shape) for n, part in zip(numbers, parts, strict=True)}
    return dict(sorted(answers.items()))


def _ordered(x: Tensor) -> Tensor:
    """Return integers in the order of float64 values, NaN above all: a collective's largest may lose NaN."""
    bits = torch.where(torch.isnan(x), torch.nan, x).view(torch.int64)
    return bits ^ ((bits >> 63) & _LARGEST)


def _from_ordered(keys: Tensor) -> Tensor:
    return (keys ^ ((keys >> 63) & _LARGEST)).view(torch.float64)
