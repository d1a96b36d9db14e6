"""A step in blocks gives the bits of the step in one piece, whatever the blocks are (ROSE-7.1)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import given
from hypothesis import strategies as st

import rose_core
from rose_core.blocks import updated_blocks
from rose_core.decay import decay_factor
from rose_core.hyperparameters import Hyperparameters
from rose_core.noise import noise_source
from rose_core.partition import number_of_slices, partition
from rose_core.update import checked_compute_dtype
from tests.backends import Backend, backends
from tests.bits import assert_same_bits
from tests.strategies import LAYOUTS, UpdateCase, examples, fill, generators, shapes, update_cases

OPTIONS = {"lr": 0.1, "weight_decay": 0.01, "lr_reference": None, "compute_dtype": "fp64"}


def updates(case: UpdateCase, alike: Sequence[dict[str, Any]], size: int | None) -> Iterator[Any]:
    """Begin an update in blocks, by the options of a case, of arrays that a library holds and that are alike."""
    params, grads = [arrays["param"] for arrays in alike], [arrays["grad"] for arrays in alike]
    rates = {name: case.options[name] for name in ("weight_decay", "lr_reference")}
    options = {name: value for name, value in case.options.items() if name not in rates}
    rule = Hyperparameters(**options, bf16_sr=False)
    factor = decay_factor(rule.lr, **rates)
    compute = checked_compute_dtype(params[0], grads[0], rule.compute_dtype, stochastic=case.noise is not None)
    noise = None if case.noise is None else noise_of([arrays["noise"] for arrays in alike])
    return updated_blocks(params, grads, rule, factor=factor, compute=compute, noise=noise, size=size)


def noise_of(words: Sequence[Any]) -> Callable[[slice, int, int], Any]:
    """Return what gives a range of some of these arrays, one row for each."""
    xp = array_namespace(words[0])
    return lambda own, start, stop: xp.stack([xp.reshape(one, (-1,))[start:stop] for one in words[own]])


def held(backend: Backend, case: UpdateCase) -> dict[str, Any]:
    return {name: LAYOUTS[case.layout](backend.array, x) for name, x in arrays_of(case).items()}


def alike(case: UpdateCase, count: int) -> list[UpdateCase]:
    """Return so many cases that differ in their values only: each has those of the one before at other places."""
    turned = [{name: np.roll(x, number) for name, x in arrays_of(case).items()} for number in range(count)]
    return [replace(case, **arrays) for arrays in turned]


def arrays_of(case: UpdateCase) -> dict[str, np.ndarray]:
    arrays = {"param": case.param, "grad": case.grad, "noise": case.noise}
    return {name: x for name, x in arrays.items() if x is not None}


def zeros_like(x: Any) -> Any:
    """Return zeros of the library of an array."""
    return array_namespace(x).zeros_like(x)


def assert_blocks_are_the_whole(backend: Backend, case: UpdateCase, size: int | None) -> None:
    expected = rose_core.update(case.param, case.grad, noise=case.noise, **case.options)
    arrays = held(backend, case)
    result = zeros_like(arrays["param"])
    for _, index, values in updates(case, [arrays], size):
        result[index] = values  # which the library rounds if they are not rounded
    assert_same_bits(result, expected, backend=backend.name, what=f"blocks of {size} of {case.param.shape}")
    assert_same_bits(arrays["param"], case.param, what="param after the update")
    assert_same_bits(arrays["grad"], case.grad, what="grad after the update")


@backends
@given(data=st.data(), size=st.integers(1, 40) | st.sampled_from([64, 257, 1030, 1031]))
@examples(60)
def test_blocks_of_any_size_are_the_whole(backend: Backend, data: st.DataObject, size: int) -> None:
    """Where there are more slices than the size, no statistics are kept, and they are computed again."""
    case = data.draw(update_cases(backend.dtypes, flushes=backend.flushes))
    assert_blocks_are_the_whole(backend, case, size)


@backends
@given(data=st.data(), size=st.integers(1, 40) | st.sampled_from([64, 257, 1030, 1031, 5000]), count=st.integers(2, 9))
@examples(60)
def test_arrays_that_are_alike_are_updated_as_each_alone(
    backend: Backend, data: st.DataObject, size: int, count: int
) -> None:
    """Blocks of several arrays and of parts of one, all of one run or in runs of some."""
    case = data.draw(update_cases(backend.dtypes, flushes=backend.flushes))
    cases = alike(case, count)
    arrays = [held(backend, own) for own in cases]
    results = {id(own["param"]): zeros_like(own["param"]) for own in arrays}
    for param, index, values in updates(case, arrays, size):
        results[id(param)][index] = values
    for own, result, given_arrays in zip(cases, results.values(), arrays, strict=True):
        expected = rose_core.update(own.param, own.grad, noise=own.noise, **own.options)
        assert_same_bits(result, expected, backend=backend.name, what=f"one of {count} in blocks of {size}")
        assert_same_bits(given_arrays["param"], own.param, what="param after the update")


@backends
def test_runs_of_few_groups_are_the_whole(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rose_core.blocks._MOST_GROUPS", 3)
    rng = np.random.default_rng(1)
    param, grad = fill("normal", rng, (25, 30), "float32"), fill("normal", rng, (25, 30), "float32")
    for size in (30, 100, 20):  # blocks of one slice, of some, and of parts of one
        assert_blocks_are_the_whole(backend, UpdateCase(param, grad, None, OPTIONS), size)


@backends
def test_blocks_whose_values_overflow_in_the_parameter(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    param, grad = fill("normal", rng, (1031, 1), "float32"), fill("extremes", rng, (1031, 1), "float64")
    options = OPTIONS | {"lr": 1.0, "centralize": False, "stabilize": False}
    assert_blocks_are_the_whole(backend, UpdateCase(param, grad, None, options), 40)


# Arrays of more than one block of the size that a step chooses.
LARGE = {
    "many slices": (300_003, 3),
    "slices in several runs": (70_001, 5),
    "more slices than are kept": (530_001, 2),
    "slices of one element": (600_001, 1),
    "slices of more than a block": (2, 300_007),
    "one slice": (1, 600_011),
    "a vector": (600_011,),
    "a convolution": (300, 64, 5, 7),
    "blocks within axis 2": (2, 3, 300_001, 1),
}


@backends
@pytest.mark.parametrize("shape", LARGE.values(), ids=LARGE)
def test_blocks_of_the_size_that_is_chosen_are_the_whole(backend: Backend, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    param, grad = fill("normal", rng, shape, "float32"), fill("normal", rng, shape, "float32")
    case = UpdateCase(param, grad, None, OPTIONS | {"centralize": shape[1:] != (1,)})
    arrays, expected = {"param": param, "grad": grad}, np.zeros_like(param)
    ((*_, expected[...]),) = updates(case, [arrays], param.size)
    arrays = {name: backend.array(x) for name, x in arrays.items()}
    result, indices = zeros_like(arrays["param"]), []
    for _, index, values in updates(case, [arrays], None):
        indices.append(index)
        result[index] = values
    assert_same_bits(result, expected, backend=backend.name)
    assert len(indices) > 1 or backend.marks


@given(data=st.data(), size=st.integers(1, 40))
@examples(100)
def test_a_block_may_be_written_before_the_next_is_asked_for(data: st.DataObject, size: int) -> None:
    case = data.draw(update_cases(("float64", "float32", "float16", "bfloat16")))
    expected = rose_core.update(case.param, case.grad, noise=case.noise, **case.options)
    arrays = {"param": case.param.copy(), "grad": case.grad, "noise": case.noise}
    for param, index, values in updates(case, [arrays], size):
        param[index] = values
    assert_same_bits(arrays["param"], expected)


@given(rng=generators(), cuts=st.lists(st.integers(0, 3000), max_size=8), start=st.integers(0, 2**50))
@examples(50)
def test_noise_of_ranges_is_that_of_the_whole(rng: np.random.Generator, cuts: list[int], start: int) -> None:
    seed, step = int(rng.integers(2**63)), int(rng.integers(2**32))
    source = noise_source(seed=seed, step=step, index=5, like=np.empty(0))
    whole = source(start, start + 3000)
    bounds = [0, *sorted(cuts), 3000]
    ranges = [source(start + first, start + last) for first, last in pairwise(bounds)]
    assert_same_bits(np.concatenate(ranges), whole)


@given(shape=shapes(min_side=1), size=st.integers(1, 1100))
@examples(300)
def test_blocks_are_the_ranges_of_the_flattened_array_in_order(shape: tuple[int, ...], size: int) -> None:
    positions, end = np.arange(np.prod(shape, dtype=int)).reshape(shape), 0
    for group in partition(shape, size):
        for block in group:
            assert block.start == end < block.stop <= block.start + size
            assert_same_bits(positions[block.index].ravel(), np.arange(block.start, block.stop))
            assert positions[block.index].ndim == len(shape)
            end = block.stop
    assert end == positions.size


@given(shape=shapes(2, min_side=1), size=st.integers(1, 1100))
@examples(100)
def test_a_group_is_one_block_of_whole_slices_or_the_blocks_of_one(shape: tuple[int, ...], size: int) -> None:
    elements = int(np.prod(shape[1:]))
    for group in partition(shape, size):
        slices = (group[-1].stop - group[0].start) / elements
        assert slices == 1 or (slices.is_integer() and len(group) == 1)
    assert size < elements or all(len(group) == 1 for group in partition(shape, size))


@given(shape=shapes(min_side=1), size=st.integers(1, 1100), count=st.integers(1, 40))
@examples(300)
def test_blocks_of_arrays_are_of_as_many_as_fit_or_those_of_each(shape: tuple[int, ...], size: int, count: int) -> None:
    alone, slices, fit = partition(shape, size), number_of_slices(shape), size // int(np.prod(shape, dtype=int))
    groups = partition(shape, size, count)
    if fit > 1:
        assert len(groups) == -(-count // fit)
        assert [number for (block,) in groups for number in range(count)[block.arrays]] == list(range(count))
        for (block,) in groups:
            assert block.slices == slice(block.arrays.start * slices, block.arrays.stop * slices)
            assert block == replace(alone[0][0], slices=block.slices, arrays=block.arrays)
    else:
        assert len(groups) == count * len(alone)
        for place, group in enumerate(groups):
            number = place // len(alone)
            for block, own in zip(group, alone[place % len(alone)], strict=True):
                moved = slice(own.slices.start + number * slices, own.slices.stop + number * slices)
                assert block == replace(own, slices=moved, arrays=slice(number, number + 1))


def test_a_vector_is_one_group() -> None:
    assert [len(group) for group in partition((10,), 4)] == [3]


def test_blocks_are_of_about_one_length() -> None:
    assert [block.stop - block.start for (block,) in partition((101, 10), 500)] == [340, 340, 330]
