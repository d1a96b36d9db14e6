"""The statistics of shards: the stages of the rule, whose extrema and fold sums all ranks combine (ROSE-7.4)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rose_core import rule
from rose_core.chunks import chunks_of_slices
from rose_core.namespace import as_float64, quiet
from rose_core.summation import Extrema, Folds, extrema, fold_sigmas, fold_sums, mean_of_folds
from rose_plan import Update
from rose_torch.distributed.collectives import Stages, all_reduce_extrema, all_reduce_folds, run_batched
from rose_torch.distributed.shards import Shard
from rose_torch.memory import addresses_of
from rose_torch.validation import tensor_span

if TYPE_CHECKING:
    from rose_torch.plan import TorchPlan

__all__ = ["statistics_of_shards", "with_reduced_gradients"]


def with_reduced_gradients(plan: "TorchPlan", partial: Mapping[int, Shard]) -> "TorchPlan":
    """Return the plan after the all-reduce of these shards' gradients. Complete parameters are shards no longer."""
    grads, spans = list(plan.grads), plan.checked.grad_spans.copy()
    for position, shard in partial.items():
        assert shard.reduce is not None
        grads[position] = grad = shard.reduce()
        spans[position] = tensor_span(grad)
    addresses = None if plan.addresses is None else (plan.addresses[0], addresses_of(grads))
    shards = {position: shard for position, shard in plan.shards.items() if shard.within or shard.across}
    checked = replace(plan.checked, grad_spans=spans)
    return replace(plan, grads=grads, checked=checked, shards=shards, addresses=addresses)


@quiet
def statistics_of_shards(updates: Mapping[int, Update], shards: Mapping[int, Shard]) -> dict[int, tuple[Any, Any]]:
    """Return the mean (or None) and the denominator of each local slice, by the position of the update."""
    stages = [_statistics(update, shards[position]) for position, update in updates.items()]
    return dict(zip(updates, run_batched(stages), strict=True))


def _statistics(update: Update, shard: Shard) -> Stages[tuple[Any, Any]]:
    """Return the mean and the denominator of each local slice, as `rule.statistics` and the gate define them."""
    grad, options = update.grad, update.options
    count, folds = math.prod(shard.shape[1:]), None
    ends = yield from all_reduce_extrema(_extrema(grad, options), shard.within)
    if options.centralize and len(shard.shape) >= 2:
        folds = yield from all_reduce_folds(_fold_sums(grad, fold_sigmas(ends, count), options), shard.within)
    mean, range_ = rule.mean_and_range(ends, folds, count, options.compute)
    gate = None
    if options.stabilize and len(shard.shape) >= 2:
        gate = yield from _gate(range_, shard, options)
    return mean, rule.denominators(range_, gate, options)


def _gate(range_: Tensor, shard: Shard, options: rule.StepOptions) -> Stages[rule.Gate]:
    """Return the gate over the slices of all ranks (ROSE-5.2)."""
    ranges, count = as_float64(range_), shard.shape[0]
    ends = extrema(ranges, (0,)) if ranges.numel() else _no_extrema(ranges, (1,) * ranges.ndim)
    ends = yield from all_reduce_extrema(ends, shard.across)
    folds = yield from all_reduce_folds(fold_sums(ranges, fold_sigmas(ends, count), (0,)), shard.across)
    mean64 = mean_of_folds(folds, count)
    # Rounding is monotonic, so the smallest or the largest range has the largest squared deviation.
    low, high = (rule.squared_deviations(end, mean64) for end in ends)
    squares = rule.squared_deviations(ranges, mean64)
    folds = yield from all_reduce_folds(fold_sums(squares, fold_sigmas((low, high), count), (0,)), shard.across)
    return rule.gate_of_moments(mean64, mean_of_folds(folds, count), options.compute)


def _extrema(grad: Tensor, options: rule.StepOptions) -> Extrema:
    """Return the extrema of the local elements of each slice, and for no elements those that change nothing."""
    if grad.numel() == 0:
        like = rule.gradient(grad, options)
        return _no_extrema(like, (grad.shape[0] if grad.ndim > 1 else 1, *[1] * (grad.ndim - 1)))
    return _in_chunks(grad, options, lambda g, _: extrema(g, rule.slice_axes(g)))


def _fold_sums(grad: Tensor, sigmas: Folds, options: rule.StepOptions) -> Folds:
    """Return the fold sums of the local elements of each slice."""
    if grad.numel() == 0:
        return tuple(map(torch.zeros_like, sigmas))
    axes = rule.slice_axes(grad)
    return _in_chunks(
        grad, options, lambda g, index: fold_sums(as_float64(g), tuple(sigma[index] for sigma in sigmas), axes)
    )


def _in_chunks(
    grad: Tensor, options: rule.StepOptions, stage: Callable[[Tensor, Any], tuple[Any, ...]]
) -> tuple[Any, ...]:
    """Return the results of a stage for each slice, which runs on one chunk of slices after the other."""
    parts = [stage(rule.gradient(grad[index], options), index) for index, _, _ in chunks_of_slices(grad)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _no_extrema(like: Tensor, shape: tuple[int, ...]) -> Extrema:
    infinity = torch.full(shape, math.inf, dtype=like.dtype, device=like.device)
    return infinity, -infinity
