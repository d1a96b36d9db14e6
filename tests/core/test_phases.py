"""The three phases give the same bits when a parameter lies in parts, by rows or by columns (ROSE-7.4)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rose_core
from rose_core.advance import advance
from rose_core.alike import Alike
from rose_core.gate import (
    Gate,
    by_gradient,
    denominators,
    deviation_folds,
    gate,
    gate_of_moments,
    largest_deviation,
    range_extrema,
    range_folds,
)
from rose_core.gradient import Gradient
from rose_core.namespace import as_array_beside
from rose_core.partition import Block, partition
from rose_core.rounding import ComputeDtype, to_compute, to_storage
from rose_core.statistics import center, mean_and_range, measure
from rose_core.summation import exact_mean, fold_sigmas, joined_extrema, joined_folds, magnitude
from tests.backends import Backend, backends
from tests.bits import assert_same_bits, host
from tests.core.combining import shuffled_parts
from tests.strategies import KINDS, TINY_KINDS, examples, fill, generators

COMPUTES: Sequence[ComputeDtype] = ("fp64", "fp32", "fp16", "bf16")
LR = 0.01
ROWS, COLUMNS = SHAPE = (12, 35)


def _data(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    return fill("normal", rng, SHAPE, "float32"), fill(kind, rng, SHAPE, "float32")


def _whole(param: np.ndarray, grad: np.ndarray, compute: ComputeDtype) -> np.ndarray:
    return rose_core.update(param, grad, lr=LR, weight_decay=0.0, compute_dtype=compute)


def _kinds(backend: Backend, compute: ComputeDtype) -> list[str]:
    return sorted(set(KINDS) - (TINY_KINDS if backend.flushes and compute != "fp64" else set()))


def _parts(array: Callable[[np.ndarray], Any], x: np.ndarray, cuts: Sequence[int], axis: int) -> list[Any]:
    return [array(part) for part in np.split(x, sorted(set(cuts)), axis=axis)]


def _gradient(grad: Any, compute: ComputeDtype) -> Gradient:
    return Gradient(Alike([grad]), compute)


def _run(x: Any) -> Sequence[Sequence[Block]]:
    """Return an array as one block."""
    return partition(x.shape, math.prod(x.shape))


def _advanced(
    param: Any, grad: Any, statistics: tuple[Any, Any], through: Gate | None, compute: ComputeDtype
) -> np.ndarray:
    mean, range_ = statistics
    mean, denominator = (as_array_beside(x, grad) for x in (mean, denominators(range_, through, compute)))
    x, g = (to_compute(values, compute, copy=True) for values in (param, grad))
    stepped = advance(x, center(g, mean, compute), denominator, lr=LR, compute=compute)
    return host(to_storage(stepped, "float32", None))


def _step_of_rows(params: list[Any], grads: list[Any], compute: ComputeDtype) -> list[np.ndarray]:
    """Step with parts that have whole slices: they join what the gate is made of."""
    statistics = [measure(_gradient(grad, compute), _run(grad), centralize=True) for grad in grads]
    ranges = [by_gradient(range_, 1) for _, range_ in statistics]
    ends = joined_extrema([range_extrema(range_) for range_ in ranges])
    sigmas = fold_sigmas(ends[1], ROWS)
    mean64 = exact_mean(joined_folds([range_folds(range_, sigmas) for range_ in ranges]), ROWS)
    sigmas = fold_sigmas(largest_deviation(ends, mean64), ROWS)
    folds = joined_folds([deviation_folds(range_, mean64, sigmas) for range_ in ranges])
    through = gate_of_moments(mean64, exact_mean(folds, ROWS), compute)
    return [_advanced(*part, through, compute) for part in zip(params, grads, statistics, strict=True)]


def _step_of_columns(params: list[Any], grads: list[Any], compute: ComputeDtype) -> list[np.ndarray]:
    """Step with parts that have part of each slice: they join what its statistics are made of."""
    statistics = _measured_in_columns(grads, compute)
    through = gate([statistics[1]], SHAPE, stabilize=True, compute=compute)
    return [_advanced(*part, statistics, through, compute) for part in zip(params, grads, strict=True)]


def _measured_in_columns(grads: list[Any], compute: ComputeDtype) -> tuple[Any, Any]:
    parts = [_gradient(grad, compute) for grad in grads]
    ends = joined_extrema([part.extrema(_run(part.stored.one)) for part in parts])
    sigmas = fold_sigmas(magnitude(ends), COLUMNS)
    folds = joined_folds([part.folds(_run(part.stored.one), sigmas) for part in parts])
    return mean_and_range(ends, folds, SHAPE, compute)


SPLITS = {"rows": (0, _step_of_rows), "columns": (1, _step_of_columns)}


@backends
@pytest.mark.parametrize("compute", COMPUTES)
@pytest.mark.parametrize("split", SPLITS)
@given(data=st.data(), rng=generators())
@examples(30)
def test_parts_join_counts_extrema_and_folds_only(
    backend: Backend, compute: ComputeDtype, split: str, data: st.DataObject, rng: np.random.Generator
) -> None:
    axis, step = SPLITS[split]
    cuts = data.draw(st.lists(st.integers(1, SHAPE[axis] - 1), max_size=4))
    param, grad = _data(rng, data.draw(st.sampled_from(_kinds(backend, compute))))
    params, grads = (_parts(backend.array, x, cuts, axis) for x in (param, grad))
    with np.errstate(all="ignore"):
        results = step(params, grads, compute)
    joined = np.concatenate(results, axis=axis)
    assert_same_bits(joined, _whole(param, grad, compute), backend=backend.name)


@given(rng=generators(), kind=st.sampled_from(sorted(KINDS)), compute=st.sampled_from(COMPUTES))
@examples(200)
def test_shuffled_parts_change_no_bit(rng: np.random.Generator, kind: str, compute: ComputeDtype) -> None:
    param, grad = _data(rng, kind)
    with np.errstate(all="ignore"):
        statistics = _measured_in_columns(shuffled_parts(rng, grad, 1), compute)
        through = gate(shuffled_parts(rng, statistics[1], 0), SHAPE, stabilize=True, compute=compute)
        result = _advanced(param, grad, statistics, through, compute)
    assert_same_bits(result, _whole(param, grad, compute))


def test_parts_that_join_nothing_differ_from_the_whole() -> None:
    """So that the tests above can fail."""
    param, grad = _data(np.random.default_rng(0), "normal")
    halves = [_whole(param[:, part], grad[:, part], "fp64") for part in (slice(20), slice(20, None))]
    assert (np.concatenate(halves, axis=1) != _whole(param, grad, "fp64")).mean() > 0.5
