"""The main property: every function has the same bits on every array library as on NumPy (ROSE-1.1, ROSE-1.5).

These tests fail for a library that fuses or reorders operations, divides by multiplication or flushes subnormals.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import array_api_compat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rose_core
from tests.backends import Backend, backends
from tests.bits import assert_same_bits, from_words, raw_words
from tests.strategies import (
    COMPUTE_DTYPES,
    KINDS,
    LAYOUTS,
    TINY_KINDS,
    UpdateCase,
    axes,
    examples,
    fill,
    floats_of,
    generators,
    shapes,
    update_cases,
)

OPTIONS = {"lr": 1e-3, "weight_decay": 0.01}


def run_update(array: Callable[[np.ndarray], Any], case: UpdateCase) -> Any:
    """Return an update on a library, and assert that no argument is changed."""
    given_arrays = {"param": case.param, "grad": case.grad}
    if case.noise is not None:
        given_arrays["noise"] = case.noise
    held = {name: LAYOUTS[case.layout](array, x) for name, x in given_arrays.items()}
    result = rose_core.update(held["param"], held["grad"], noise=held.get("noise"), **case.options)
    for name, x in given_arrays.items():
        assert_same_bits(held[name], x, what=f"{name} after the update")
    return result


def assert_update_has_the_bits_of_numpy(backend: Backend, case: UpdateCase) -> None:
    expected = rose_core.update(case.param, case.grad, noise=case.noise, **case.options)
    what = f"{case.param.dtype} {case.param.shape} grad {case.grad.dtype} {case.options} {case.layout}"
    assert_same_bits(run_update(backend.array, case), expected, backend=backend.name, what=what)


@backends
@given(data=st.data())
@examples(300)
def test_update(backend: Backend, data: st.DataObject) -> None:
    case = data.draw(update_cases(backend.dtypes, flushes=backend.flushes))
    assert_update_has_the_bits_of_numpy(backend, case)


def kinds_for(backend: Backend, compute: str | None) -> list[str]:
    """Return the kinds of data for which a backend has NumPy's bits at a compute dtype (ROSE-12.3)."""
    return [kind for kind in KINDS if not (backend.flushes and compute != "fp64" and kind in TINY_KINDS)]


@backends
@pytest.mark.parametrize("compute", COMPUTE_DTYPES)
def test_update_at_every_choice_of_dtypes_and_flags(backend: Backend, compute: str | None) -> None:
    rng = np.random.default_rng(1)
    flags = list(product([True, False], repeat=3))
    for param_dtype, grad_dtype, kind in product(backend.dtypes, backend.dtypes, kinds_for(backend, compute)):
        centralize, stabilize, maximize = flags[rng.integers(len(flags))]
        stochastic = param_dtype == "bfloat16" and compute not in ("fp16", "bf16")
        case = UpdateCase(
            param=fill(kind, rng, (6, 41), param_dtype),
            grad=fill(kind, rng, (6, 41), grad_dtype),
            noise=rng.integers(0, 2**16, (6, 41), dtype=np.int32) if stochastic else None,
            options=OPTIONS
            | {"centralize": centralize, "stabilize": stabilize, "maximize": maximize, "compute_dtype": compute},
        )
        assert_update_has_the_bits_of_numpy(backend, case)


# torch uses several threads above 32768 elements. NumPy sums in blocks of 128.
LARGE = {
    "many slices": ((100_003, 3), "normal", "float32", "fp64"),
    "long slices": ((3, 100_003), "normal", "float32", "fp32"),
    "a long vector": ((300_000,), "below-two", "float32", "fp64"),
    "a convolution": ((128, 64, 5, 5), "normal", "bfloat16", "fp64"),
    "cancelling": ((7, 65_537), "eighths", "float32", "fp32"),
    "float64": ((5, 70_001), "below-two", "float64", "fp64"),
    "float16": ((300, 1000), "below-two", "float16", "fp32"),
    "16-bit compute": ((300, 300), "normal", "float32", "bf16"),
    "three folds in a slice": ((1, 2**20 + 5), "normal", "float32", "fp64"),
    "three folds over the slices": ((2**20 + 5, 1), "normal", "float32", "fp64"),
}


@backends
@pytest.mark.parametrize("name", LARGE)
def test_update_of_large_arrays(backend: Backend, name: str) -> None:
    shape, kind, dtype, compute = LARGE[name]
    if dtype not in backend.dtypes:
        pytest.skip(f"{backend.name} has no {dtype}")
    if kind not in kinds_for(backend, compute):
        kind = "normal"
    rng = np.random.default_rng(2)
    case = UpdateCase(
        param=fill(kind, rng, shape, dtype),
        grad=fill(kind, rng, shape, dtype),
        noise=rng.integers(0, 2**16, shape, dtype=np.int32) if dtype == "bfloat16" else None,
        options=OPTIONS | {"centralize": name != "three folds over the slices", "compute_dtype": compute},
    )
    assert_update_has_the_bits_of_numpy(backend, case)


# Gradients that decide a branch of the rule: shape and words of float32.
BY_HAND = {
    "zeros of both signs": ((2, 2), [0x00000000, 0x80000000, 0x80000000, 0x00000000]),
    "negative zeros": ((2, 2), [0x80000000] * 4),
    "a slice of one element": ((2, 1), [0x3F800000, 0xBF800000]),
    "one slice of one element": ((1, 1), [0x3F800000]),
    "a vector of one element": ((1,), [0xBF800000]),
    "a vector of one negative zero": ((1,), [0x80000000]),
    "equal ranges": ((2, 2), [0x3F800000, 0xBF800000, 0x40400000, 0x3F800000]),
    "constant slices": ((2, 3), [0x3DCCCCCD] * 3 + [0xBE99999A] * 3),
    "all negative": ((2, 2), [0xBF800000, 0xBF800001, 0xC0000000, 0xBFFFFFFF]),
    "ranges that underflow": ((2, 2), [0x00000001, 0x00000002, 0x00000000, 0x80000001]),
    "1e-42 beside 1": ((2, 2), [0x000002CA, 0x3F800000, 0x000002CA, 0x00000000]),
    "1e38 of both signs": ((2, 2), [0x7E967699, 0xFE967699, 0x7E967699, 0x7E967699]),
    "a range that overflows": ((2, 2), [0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000, 0x40000000]),
    "an infinity": ((2, 2), [0x7F800000, 0x3F800000, 0x3F800000, 0x40000000]),
    "infinities of both signs": ((1, 2), [0x7F800000, 0xFF800000]),
    "NaN of CUDA": ((2, 2), [0x7FFFFFFF, 0x3F800000, 0x3F800000, 0x40000000]),
    "a scalar of NaN": ((), 0x7FC00000),
    "a scalar of -0": ((), 0x80000000),
    "a scalar below 0": ((), 0x80000001),
    "no slices": ((0, 3), []),
    "empty slices": ((3, 0), []),
    "an empty vector": ((0,), []),
}


@backends
@pytest.mark.parametrize("name", BY_HAND)
def test_update_of_edges_picked_by_hand(backend: Backend, name: str) -> None:
    shape, bits = BY_HAND[name]
    grad = from_words(bits, "float32").reshape(shape)
    moderate = bool(np.all((grad == 0.0) | (np.abs(grad) > 2.0**-24)))
    params = [np.full(shape, value, np.float32) for value in (1.0, -0.0)] + [grad]
    for param, compute, centralize, stabilize in product(params, COMPUTE_DTYPES, [True, False], [True, False]):
        if backend.flushes and compute != "fp64" and not moderate:
            continue  # ROSE-12.3
        options = OPTIONS | {"compute_dtype": compute, "centralize": centralize, "stabilize": stabilize}
        assert_update_has_the_bits_of_numpy(backend, UpdateCase(param, grad, None, options))


@backends
@given(data=st.data())
@examples(100)
def test_slice_statistics(backend: Backend, data: st.DataObject) -> None:
    compute = data.draw(st.sampled_from(COMPUTE_DTYPES))
    dtype, shape = data.draw(st.sampled_from(backend.dtypes)), data.draw(shapes(min_side=1))
    grad = data.draw(floats_of(dtype, shape, tiny=not backend.flushes or compute == "fp64"))
    layout = LAYOUTS[data.draw(st.sampled_from(list(LAYOUTS)))]
    options = {name: data.draw(st.booleans(), label=name) for name in ("centralize", "stabilize")}
    expected = rose_core.slice_statistics(grad, compute_dtype=compute, **options)
    actual = rose_core.slice_statistics(layout(backend.array, grad), compute_dtype=compute, **options)
    for name, got, want in zip(expected._fields, actual, expected, strict=True):
        assert (got is None) == (want is None), name
        if want is not None:
            assert_same_bits(got, want, backend=backend.name, what=name)


@backends
@given(data=st.data())
@examples(100)
def test_reproducible_sum(backend: Backend, data: st.DataObject) -> None:
    dtype, shape = data.draw(st.sampled_from(backend.dtypes)), data.draw(shapes())
    x, axis = data.draw(floats_of(dtype, shape)), data.draw(axes(len(shape)))
    held = LAYOUTS[data.draw(st.sampled_from(list(LAYOUTS)))](backend.array, x)
    assert_same_bits(
        rose_core.reproducible_sum(held, axis=axis), rose_core.reproducible_sum(x, axis=axis), backend=backend.name
    )


@backends
@given(data=st.data())
@examples(100)
def test_round_to_bfloat16(backend: Backend, data: st.DataObject) -> None:
    shape = data.draw(shapes())
    x, rng = data.draw(floats_of("float32", shape)), data.draw(generators())
    noise = np.asarray(rng.integers(0, 2**16, shape, dtype=np.int64)) if data.draw(st.booleans()) else None
    layout = LAYOUTS[data.draw(st.sampled_from(list(LAYOUTS)))]
    held_noise = None if noise is None else layout(backend.array, noise)
    actual = rose_core.round_to_bfloat16(layout(backend.array, x), noise=held_noise)
    expected = rose_core.round_to_bfloat16(x, noise=noise)
    if "bfloat16" not in backend.dtypes:
        expected = expected.astype(np.float32)
    assert_same_bits(actual, expected, backend=backend.name)


@backends
@given(
    shape=shapes(),
    seed=st.integers(0, 2**64 - 1),
    step=st.integers(0, 2**32 - 1),
    index=st.integers(0, 2**32 - 1),
)
@examples(100)
def test_noise_words(backend: Backend, shape: tuple[int, ...], seed: int, step: int, index: int) -> None:
    like = np.zeros(1, np.float32)
    expected = rose_core.noise_words(shape, seed=seed, step=step, index=index, like=like)
    actual = rose_core.noise_words(shape, seed=seed, step=step, index=index, like=backend.array(like))
    assert_same_bits(actual, expected, backend=backend.name)


@backends
def test_nan_has_the_same_bfloat16_word_on_every_library(backend: Backend) -> None:
    x = from_words([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00000], "float32")
    result = rose_core.round_to_bfloat16(backend.array(x), noise=backend.array(np.full(5, 0xFFFF, np.int32)))
    expected = [0x7FC0] * 5 if "bfloat16" in backend.dtypes else [0x7FC00000] * 5
    assert raw_words(result).tolist() == expected


@backends
def test_the_result_has_the_library_and_the_device_of_the_parameter(backend: Backend) -> None:
    param = backend.array(np.ones((2, 2), np.float32))
    for result in (rose_core.update(param, param, lr=0.1), rose_core.reproducible_sum(param, axis=0)):
        assert array_api_compat.array_namespace(result) is array_api_compat.array_namespace(param)
        assert array_api_compat.device(result) == array_api_compat.device(param)
