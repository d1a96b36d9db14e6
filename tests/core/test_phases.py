"""The three phases give the same bits when a parameter lies in blocks of rows or is split over shards (ROSE-7.4)."""

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rose_core
from rose_core.gate import denominators
from rose_core.rounding import ComputeDtype, to_compute, to_storage
from rose_core.statistics import center, measure
from rose_core.summation import LOCAL, Reductions
from rose_core.update import advance
from tests.backends import Backend, backends
from tests.bits import assert_same_bits, host
from tests.core.combining import ShuffledBlocks, in_lock_step
from tests.strategies import KINDS, TINY_KINDS, examples, fill, generators

COMPUTES: Sequence[ComputeDtype] = ("fp64", "fp32", "fp16", "bf16")
LR = 0.01
ROWS, COLUMNS = 12, 35


def _data(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    return fill("normal", rng, (ROWS, COLUMNS), "float32"), fill(kind, rng, (ROWS, COLUMNS), "float32")


def _whole(param: np.ndarray, grad: np.ndarray, compute: ComputeDtype) -> np.ndarray:
    return rose_core.update(param, grad, lr=LR, weight_decay=0.0, compute_dtype=compute)


def _kinds(backend: Backend, compute: ComputeDtype) -> list[str]:
    return sorted(set(KINDS) - (TINY_KINDS if backend.flushes and compute != "fp64" else set()))


def _parts(array: Callable[[np.ndarray], Any], x: np.ndarray, cuts: Sequence[int], axis: int) -> list[Any]:
    return [array(part) for part in np.split(x, sorted(set(cuts)), axis=axis)]


def _advanced(param: Any, g: Any, mean: Any, denominator: Any, compute: ComputeDtype) -> Any:
    x = advance(to_compute(param, compute), center(g, mean, compute), denominator, lr=LR, compute=compute)
    return to_storage(x, "float32", None)


@backends
@pytest.mark.parametrize("compute", COMPUTES)
@given(data=st.data(), rng=generators(), cuts=st.lists(st.integers(1, ROWS - 1), max_size=4))
@examples(30)
def test_blocks_of_rows_are_measured_and_advanced_one_by_one(
    backend: Backend, compute: ComputeDtype, data: st.DataObject, rng: np.random.Generator, cuts: list[int]
) -> None:
    param, grad = _data(rng, data.draw(st.sampled_from(_kinds(backend, compute))))
    params, grads = (_parts(backend.array, x, cuts, 0) for x in (param, grad))
    xp = array_api_compat.array_namespace(params[0])
    with np.errstate(all="ignore"):
        blocks = [to_compute(block, compute) for block in grads]
        measured = [measure(block, centralize=True, compute=compute) for block in blocks]
        ranges = xp.concat([range_ for _, range_ in measured], axis=0)
        _, denominator = denominators(ranges, stabilize=True, compute=compute)
        results, start = [], 0
        for old, block, (mean, _) in zip(params, blocks, measured, strict=True):
            rows = denominator[start : start + block.shape[0], ...]
            results.append(host(_advanced(old, block, mean, rows, compute)))
            start += block.shape[0]
    assert_same_bits(np.concatenate(results), _whole(param, grad, compute), backend=backend.name)


def _sharded_step(
    shard: tuple[Any, Any], reductions_of_a_slice: Reductions, reductions_of_all: Reductions, compute: ComputeDtype
) -> Any:
    param, grad = shard
    g = to_compute(grad, compute)
    mean, range_ = measure(g, centralize=True, compute=compute, reductions=reductions_of_a_slice)
    _, denominator = denominators(range_, stabilize=True, compute=compute, reductions=reductions_of_all)
    return _advanced(param, g, mean, denominator, compute)


SPLITS: dict[str, tuple[int, Callable[[Any, Reductions, ComputeDtype], Any]]] = {
    # A shard has all slices, and part of each.
    "columns": (1, lambda shard, reductions, compute: _sharded_step(shard, reductions, LOCAL, compute)),
    # A shard has whole slices, but not all of them.
    "rows": (0, lambda shard, reductions, compute: _sharded_step(shard, LOCAL, reductions, compute)),
}


@backends
@pytest.mark.parametrize("compute", COMPUTES)
@pytest.mark.parametrize("split", SPLITS)
@given(data=st.data(), rng=generators())
@examples(20)
def test_shards_combine_counts_extremes_and_folds_only(
    backend: Backend, compute: ComputeDtype, split: str, data: st.DataObject, rng: np.random.Generator
) -> None:
    axis, step = SPLITS[split]
    cuts = data.draw(st.lists(st.integers(1, (ROWS, COLUMNS)[axis] - 1), max_size=3))
    param, grad = _data(rng, data.draw(st.sampled_from(_kinds(backend, compute))))
    shards = list(zip(*(_parts(backend.array, x, cuts, axis) for x in (param, grad)), strict=True))
    with np.errstate(all="ignore"):
        results = in_lock_step(lambda shard, reductions: step(shard, reductions, compute), shards)
    joined = np.concatenate([host(result) for result in results], axis=axis)
    assert_same_bits(joined, _whole(param, grad, compute), backend=backend.name)


@given(rng=generators(), kind=st.sampled_from(sorted(KINDS)), compute=st.sampled_from(COMPUTES))
@examples(200)
def test_shuffled_blocks_change_no_bit(rng: np.random.Generator, kind: str, compute: ComputeDtype) -> None:
    param, grad = _data(rng, kind)
    shuffled = ShuffledBlocks(rng)
    with np.errstate(all="ignore"):
        result = _sharded_step((param, grad), shuffled, shuffled, compute)
    assert_same_bits(result, _whole(param, grad, compute))


def test_shards_that_share_nothing_differ_from_the_whole() -> None:
    """So that the tests above can fail."""
    param, grad = _data(np.random.default_rng(0), "normal")
    halves = [
        _sharded_step((param[:, part], grad[:, part]), LOCAL, LOCAL, "fp64") for part in (slice(20), slice(20, None))
    ]
    assert (np.concatenate(halves, axis=1) != _whole(param, grad, "fp64")).mean() > 0.5
