"""A step over shards, which combine only extrema and fold sums, has the bits of the whole parameter (ROSE-7.4)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rose_core
from rose_core import rule
from rose_core.rounding import ComputeDtype
from rose_core.summation import extrema, fold_sigmas, fold_sums, mean_of_folds
from tests.backends import Backend, backends
from tests.bits import assert_same_bits, host
from tests.core.combining import combined_extrema, combined_folds, shuffled_parts
from tests.strategies import KINDS, TINY_KINDS, examples, fill, generators

COMPUTES: Sequence[ComputeDtype] = ("fp64", "fp32", "fp16", "bf16")
ROWS, COLUMNS = SHAPE = (12, 35)


def options_of(compute: ComputeDtype) -> rule.StepOptions:
    return rule.StepOptions(0.01, 1.0, centralize=True, stabilize=True, maximize=False, compute=compute)


def whole(param: np.ndarray, grad: np.ndarray, compute: ComputeDtype) -> np.ndarray:
    return rose_core.update(param, grad, lr=0.01, weight_decay=0.0, compute_dtype=compute)


def gate_of_shards(ranges: Sequence[Any], options: rule.StepOptions) -> rule.Gate:
    """Return the gate, given the ranges of the slices in each shard (ROSE-5.2)."""
    count, ranges = sum(part.shape[0] for part in ranges), [rule.as_float64(part) for part in ranges]
    ends = combined_extrema([extrema(part, (0,)) for part in ranges])
    sigmas = fold_sigmas(ends, count)
    mean64 = mean_of_folds(combined_folds([fold_sums(part, sigmas, (0,)) for part in ranges]), count)
    squares = [rule.squared_deviations(part, mean64) for part in ranges]
    sigmas = fold_sigmas(combined_extrema([extrema(part, (0,)) for part in squares]), count)
    var64 = mean_of_folds(combined_folds([fold_sums(part, sigmas, (0,)) for part in squares]), count)
    return rule.gate_of_moments(mean64, var64, options.compute)


def step_of_rows(params: Sequence[Any], grads: Sequence[Any], options: rule.StepOptions) -> list[Any]:
    """Return the step of shards of whole slices. They combine the moments of the ranges."""
    gradients = [rule.gradient(grad, options) for grad in grads]
    statistics = [rule.statistics(g, options) for g in gradients]
    gate = gate_of_shards([range_ for _, range_ in statistics], options)
    return [
        rule.advance(param, g, mean, rule.denominators(range_, gate, options), options)
        for param, g, (mean, range_) in zip(params, gradients, statistics, strict=True)
    ]


def step_of_columns(params: Sequence[Any], grads: Sequence[Any], options: rule.StepOptions) -> list[Any]:
    """Return the step of shards with a part of each slice. They combine the statistics of the slices."""
    gradients = [rule.gradient(grad, options) for grad in grads]
    mean, range_ = statistics_of_columns(gradients, options)
    denominator = rule.denominators(range_, rule.gate_of_ranges(range_, options), options)
    return [rule.advance(param, g, mean, denominator, options) for param, g in zip(params, gradients, strict=True)]


def statistics_of_columns(gradients: Sequence[Any], options: rule.StepOptions) -> tuple[Any, Any]:
    count = sum(math.prod(g.shape[1:]) for g in gradients)
    ends = combined_extrema([extrema(g, (1,)) for g in gradients])
    sigmas = fold_sigmas(ends, count)
    folds = combined_folds([fold_sums(rule.as_float64(g), sigmas, (1,)) for g in gradients])
    return rule.mean_and_range(ends, folds, count, options.compute)


SPLITS = {"rows": (0, step_of_rows), "columns": (1, step_of_columns)}


@backends
@pytest.mark.parametrize("compute", COMPUTES)
@pytest.mark.parametrize("split", SPLITS)
@given(data=st.data(), rng=generators())
@examples(30)
def test_shards_have_the_bits_of_the_whole(
    backend: Backend, compute: ComputeDtype, split: str, data: st.DataObject, rng: np.random.Generator
) -> None:
    axis, step = SPLITS[split]
    cuts = sorted(set(data.draw(st.lists(st.integers(1, SHAPE[axis] - 1), max_size=4))))
    tiny = TINY_KINDS if backend.flushes and compute != "fp64" else set()
    kind = data.draw(st.sampled_from(sorted(set(KINDS) - tiny)))
    param, grad = fill("normal", rng, SHAPE, "float32"), fill(kind, rng, SHAPE, "float32")
    params, grads = ([backend.array(part) for part in np.split(x, cuts, axis=axis)] for x in (param, grad))
    with np.errstate(all="ignore"):
        results = [host(part) for part in step(params, grads, options_of(compute))]
    assert_same_bits(np.concatenate(results, axis=axis), whole(param, grad, compute), backend=backend.name)


@given(rng=generators(), kind=st.sampled_from(sorted(KINDS)), compute=st.sampled_from(COMPUTES))
@examples(200)
def test_the_order_of_the_shards_changes_no_bit(rng: np.random.Generator, kind: str, compute: ComputeDtype) -> None:
    param, grad = fill("normal", rng, SHAPE, "float32"), fill(kind, rng, SHAPE, "float32")
    options = options_of(compute)
    with np.errstate(all="ignore"):
        g = rule.gradient(grad, options)
        mean, range_ = statistics_of_columns(shuffled_parts(rng, g, 1), options)
        gate = gate_of_shards(shuffled_parts(rng, range_, 0), options)
        result = rule.advance(param, g, mean, rule.denominators(range_, gate, options), options)
    assert_same_bits(result, whole(param, grad, compute))


def test_shards_that_combine_nothing_differ_from_the_whole() -> None:
    """Proof that the tests above can fail."""
    rng = np.random.default_rng(0)
    param, grad = fill("normal", rng, SHAPE, "float32"), fill("normal", rng, SHAPE, "float32")
    halves = [whole(param[:, part], grad[:, part], "fp64") for part in (slice(20), slice(20, None))]
    assert (np.concatenate(halves, axis=1) != whole(param, grad, "fp64")).mean() > 0.5
