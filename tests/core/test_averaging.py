"""The average of a parameter: each operation is rounded once, on every library, and bfloat16 is rounded by noise."""

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rose_core import average, noise_words, round_to_bfloat16
from tests.adapters.refusals import FLOATING, raises
from tests.backends import Backend, backends
from tests.bits import DTYPES, assert_same_bits
from tests.strategies import COMPUTE_DTYPES, examples, fill

FINITE = st.floats(-1e100, 1e100)


@given(mean=FINITE, param=FINITE, decay=st.floats(0.0, 1.0))
@examples(300)
def test_each_operation_is_rounded_once(mean: float, param: float, decay: float) -> None:
    """Computed with fractions."""
    near, far, weight = (param, mean, decay) if decay < 0.5 else (mean, param, float(1 - Fraction(decay)))
    change = float(Fraction(weight) * Fraction(float(Fraction(far) - Fraction(near))))
    expected = float(Fraction(near) + Fraction(change))
    assert float(average(np.asarray(mean), np.asarray(param), decay=decay)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_average_that_equals_the_parameter_stays(dtype: str) -> None:
    x = fill("normal", np.random.default_rng(0), (50,), dtype)
    for decay in (0.0, 0.25, 0.5, 0.999, 1.0):
        assert_same_bits(average(x, x, decay=decay), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_decays_of_0_and_1_return_the_parameter_and_the_average(dtype: str) -> None:
    rng = np.random.default_rng(0)
    mean, param = fill("normal", rng, (3, 4), dtype), fill("normal", rng, (3, 4), dtype)
    assert_same_bits(average(mean, param, decay=0), param)
    assert_same_bits(average(mean, param, decay=1), mean)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compute", COMPUTE_DTYPES[:2])
def test_infinities_and_zeros_keep_these_promises(dtype: str, compute: str) -> None:
    values = np.asarray([np.inf, -np.inf, 0.0, -0.0, 1.0]).astype(DTYPES[dtype][0])
    mean, param = np.repeat(values, 5), np.tile(values, 5)
    assert_same_bits(average(mean, param, decay=0, compute_dtype=compute), param)
    assert_same_bits(average(mean, param, decay=1, compute_dtype=compute), mean)
    for decay in (0.25, 0.75):
        assert_same_bits(average(values, values, decay=decay, compute_dtype=compute), values)
    zeros = values[[2, 3]]
    assert_same_bits(average(zeros, -zeros, decay=0.75, compute_dtype=compute), zeros)
    assert_same_bits(average(zeros, -zeros, decay=0.25, compute_dtype=compute), -zeros)


@backends
@pytest.mark.parametrize("compute", COMPUTE_DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_library_has_the_same_bits(backend: Backend, dtype: str, compute: Any) -> None:
    if dtype not in backend.dtypes:
        pytest.skip(f"{backend.name} has no {dtype}")
    rng = np.random.default_rng(1)
    for shape in ((), (5,), (4, 6), (0, 2)):
        mean, param = fill("normal", rng, shape, dtype), fill("normal", rng, shape, dtype)
        expected = average(mean, param, decay=0.9, compute_dtype=compute)
        assert expected.dtype == DTYPES[dtype][0]
        result = average(backend.array(mean), backend.array(param), decay=0.9, compute_dtype=compute)
        assert_same_bits(result, expected, backend=backend.name)


def test_an_average_in_bfloat16_is_rounded_by_the_noise() -> None:
    rng = np.random.default_rng(2)
    mean, param = fill("normal", rng, (7, 5), "bfloat16"), fill("normal", rng, (7, 5), "float32")
    noise = noise_words((7, 5), seed=1, step=2, index=3, like=mean)
    exact = average(mean.astype(np.float64), param.astype(np.float64), decay=0.75)
    expected = round_to_bfloat16(exact.astype(np.float32), noise=noise)
    assert_same_bits(average(mean, param, decay=0.75, noise=noise), expected)


def test_with_noise_an_average_in_bfloat16_does_not_stop() -> None:
    """A change of 1 % of the difference is less than half the spacing of bfloat16."""
    averages = {"nearest": np.ones(1000, ml_dtypes.bfloat16), "noise": np.ones(1000, ml_dtypes.bfloat16)}
    target = np.full(1000, 1.25, np.float32)
    for step in range(300):
        noise = noise_words((1000,), seed=1, step=step, index=0, like=target)
        averages["nearest"] = average(averages["nearest"], target, decay=0.99)
        averages["noise"] = average(averages["noise"], target, decay=0.99, noise=noise)
    assert (averages["nearest"] == 1.0).all()
    assert abs(float(averages["noise"].astype(np.float64).mean()) - (1.25 - 0.25 * 0.99**300)) < 1e-3


def test_the_arguments_are_not_changed() -> None:
    mean, param = np.zeros(3), np.ones(3)
    average(mean, param, decay=0.5)
    assert (mean.tolist(), param.tolist()) == ([0.0] * 3, [1.0] * 3)


def test_invalid_arguments_are_named() -> None:
    x, low = np.ones(3), np.ones(3, ml_dtypes.bfloat16)
    with raises(ValueError, "decay must be a number in [0, 1], got 1.5"):
        average(x, x, decay=1.5)
    with raises(ValueError, "decay must be a number in [0, 1], got nan"):
        average(x, x, decay=float("nan"))
    with raises(TypeError, "decay must be a number in [0, 1], got True"):
        average(x, x, decay=True)
    with raises(ValueError, "param has shape (2,), mean has (3,); they must be equal"):
        average(x, np.ones(2), decay=0.5)
    with raises(TypeError, f"mean has dtype int64; {FLOATING}"):
        average(np.ones(3, np.int64), x, decay=0.5)
    with raises(ValueError, "noise must be None for a mean of dtype float64; it rounds bfloat16 only"):
        average(x, x, decay=0.5, noise=np.ones(3, np.int32))
    with raises(ValueError, "noise needs a compute_dtype wider than 16 bits, got 'bf16'"):
        average(low, low, decay=0.5, compute_dtype="bf16", noise=np.ones(3, np.int32))
