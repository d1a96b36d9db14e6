"""An update in place, in chunks of whole slices, has the bits of an update of whole arrays (ROSE-7.1)."""

from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import given
from hypothesis import strategies as st

import rose_core
from rose_core.chunks import chunks_of_slices, statistics_in_chunks, update_in_place
from rose_core.decay import decay_factor
from rose_core.hyperparameters import validate
from rose_core.rule import StepOptions, gradient, statistics
from rose_core.update import checked_compute_dtype
from tests.backends import Backend, backends
from tests.bits import assert_same_bits
from tests.strategies import LAYOUTS, UpdateCase, examples, fill, generators, shapes, update_cases


def options_of(case: UpdateCase) -> StepOptions:
    """Return the options of a step as `update` resolves them."""
    given = {"lr_reference": None, "centralize": True, "stabilize": True, "maximize": False, "max_step": None}
    given |= case.options
    compute = validate("compute_dtype", given["compute_dtype"])
    compute = checked_compute_dtype(case.param, case.grad, compute, stochastic=case.noise is not None)
    decay = decay_factor(given["lr"], weight_decay=given["weight_decay"], lr_reference=given["lr_reference"])
    limit = None if given["max_step"] == float("inf") else given["max_step"]
    return StepOptions(given["lr"], decay, given["centralize"], given["stabilize"], given["maximize"], compute, limit)


def assert_same_bits_in_chunks(backend: Backend, case: UpdateCase, max_elements: int | None) -> None:
    expected = rose_core.update(case.param, case.grad, noise=case.noise, **case.options)
    param, grad = (LAYOUTS[case.layout](backend.array, x) for x in (case.param, case.grad))
    noise = None
    if case.noise is not None:
        words = array_namespace(param).reshape(backend.array(case.noise), (-1,))

        def noise(start: int, stop: int) -> Any:
            return words[start:stop]

    update_in_place(param, grad, options_of(case), noise, max_elements=max_elements)
    assert_same_bits(param, expected, backend=backend.name, what=f"{case.param.shape} in chunks of {max_elements}")
    assert_same_bits(grad, case.grad, what="grad after the update")


@backends
@given(data=st.data(), count=st.integers(1, 40))
@examples(60)
def test_chunks_of_any_size_have_the_bits_of_the_whole_array(backend: Backend, data: st.DataObject, count: int) -> None:
    """In about `count` chunks of equal size."""
    if backend.name == "numpy-read-only":
        pytest.skip("read-only arrays are not updated in place")
    case = data.draw(update_cases(backend.dtypes, flushes=backend.flushes))
    assert_same_bits_in_chunks(backend, case, -(-case.param.size // count) or None)


@pytest.mark.parametrize("shape", [(300_000,), (3, 200_000), (200_000, 3), (70, 40, 9, 9)])
def test_large_arrays_have_the_same_bits_in_default_chunks(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    param, grad = fill("normal", rng, shape, "bfloat16"), fill("normal", rng, shape, "float32")
    noise = rng.integers(0, 2**16, shape, dtype=np.int32)
    options = {"lr": 0.1, "weight_decay": 0.01, "compute_dtype": "fp64"}
    expected = rose_core.update(param, grad, noise=noise, **options)
    update_in_place(
        param, grad, options_of(UpdateCase(param, grad, noise, options)), lambda a, b: noise.reshape(-1)[a:b]
    )
    assert_same_bits(param, expected)


@given(rng=generators(), shape=shapes(min_side=1), max_elements=st.integers(1, 40))
@examples(100)
def test_statistics_in_chunks_have_the_bits_of_the_whole_array(
    rng: np.random.Generator, shape: tuple[int, ...], max_elements: int
) -> None:
    grad = fill("normal", rng, shape, "float32")
    options = StepOptions(0.1, 1.0, centralize=True, stabilize=True, maximize=False, compute="fp64")
    expected = statistics(gradient(grad, options), options)
    for actual, whole in zip(statistics_in_chunks(grad, options, max_elements=max_elements), expected, strict=True):
        assert (actual is None) == (whole is None)
        if whole is not None:
            assert_same_bits(actual, whole)


@given(shape=shapes(min_side=1), max_elements=st.integers(1, 60))
@examples(100)
def test_chunks_are_whole_slices_in_order(shape: tuple[int, ...], max_elements: int) -> None:
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    chunks = list(chunks_of_slices(x, max_elements))
    assert [i for index, _, _ in chunks for i in x[index].ravel()] == list(range(x.size))
    for index, start, stop in chunks:
        assert x[index].ravel().tolist() == list(range(start, stop))
        assert stop - start <= max_elements or len(shape) < 2 or x[index].shape[0] == 1
