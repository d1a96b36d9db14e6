"""`reproducible_sum` does not depend on the order of its summands, and is nearly the exact sum (ROSE-7)."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rose_core import reproducible_sum
from rose_core.summation import extrema, fold_sigmas, fold_sums
from tests.backends import Backend, backends
from tests.bits import assert_same_bits, from_words, raw_words, words
from tests.core.combining import shuffled_parts, sum_of_parts
from tests.strategies import EDGES, KINDS, examples, fill, floats_of, generators, shapes

FINITE_KINDS = [kind for kind in KINDS if kind not in ("words", "extremes")]


def total(x: Any) -> Any:
    return reproducible_sum(x, axis=None)


@given(
    rng=generators(), kind=st.sampled_from(sorted(KINDS)), dtype=st.sampled_from(sorted(EDGES)), n=st.integers(1, 3000)
)
@examples(200)
def test_the_order_of_the_summands_changes_no_bit(rng: np.random.Generator, kind: str, dtype: str, n: int) -> None:
    """ROSE-7.1."""
    x = fill(kind, rng, (n,), dtype)
    for order in (x[::-1], np.sort(x), x[np.argsort(np.abs(x))], rng.permutation(x)):
        assert_same_bits(total(order), total(x))


@given(
    rng=generators(), kind=st.sampled_from(sorted(KINDS)), columns=st.integers(1, 5), n=st.sampled_from([1, 7, 60, 400])
)
@examples(200)
def test_a_sum_in_parts_has_the_same_bits(rng: np.random.Generator, kind: str, columns: int, n: int) -> None:
    x = fill(kind, rng, (n, columns), "float64")
    with np.errstate(all="ignore"):
        expected = sum_of_parts([x], 0)
        for _ in range(3):
            assert_same_bits(sum_of_parts(shuffled_parts(rng, x, 0), 0), expected)


@backends
@given(
    rng=generators(),
    kind=st.sampled_from(sorted(KINDS)),
    cuts=st.lists(st.integers(1, 199), max_size=5),
)
@examples(50)
def test_a_sum_over_shards_has_the_same_bits(
    backend: Backend, rng: np.random.Generator, kind: str, cuts: Sequence[int]
) -> None:
    x = fill(kind, rng, (200, 3), "float64")
    shards = [backend.array(part) for part in np.split(x, sorted(set(cuts)))]
    with np.errstate(all="ignore"):
        result = sum_of_parts(shards, 0)
    assert_same_bits(result, reproducible_sum(x, axis=0).reshape(1, 3), backend=backend.name)


@given(rng=generators(), kind=st.sampled_from(FINITE_KINDS), n=st.integers(1, 400))
@examples(100)
def test_the_sum_of_a_fold_is_exact_in_every_order(rng: np.random.Generator, kind: str, n: int) -> None:
    """A library may sum a fold in pairs, in vector lanes, or one by one from either end."""
    x = fill(kind, rng, (n,), "float64")
    with np.errstate(all="ignore"):
        sigmas = fold_sigmas(extrema(x, (0,)), n)
        sums = fold_sums(x, sigmas, (0,))
        folds = [(x + sigmas[0]) - sigmas[0]]
        folds.append(((x - folds[0]) + sigmas[1]) - sigmas[1])
        for fold, expected in zip(folds, sums, strict=True):
            for order in (fold, fold[::-1], rng.permutation(fold)):
                assert_same_bits(np.add.accumulate(order)[-1:] + 0.0, expected + 0.0)


def test_a_plain_sum_depends_on_the_order() -> None:
    """Proof that the tests above can fail."""
    x = np.random.default_rng(0).standard_normal(1000)
    assert len({float(np.sum(np.roll(x, k))) for k in range(50)}) > 1


def exact_sum(x: np.ndarray) -> Fraction:
    return sum(map(Fraction, x.astype(np.float64).tolist()), Fraction(0))


@given(
    rng=generators(), kind=st.sampled_from(FINITE_KINDS), dtype=st.sampled_from(sorted(EDGES)), n=st.integers(1, 2000)
)
@examples(200)
def test_the_error_of_a_mean_is_below_2_to_the_minus_60_times_the_largest_summand(
    rng: np.random.Generator, kind: str, dtype: str, n: int
) -> None:
    x = fill(kind, rng, (n,), dtype)
    exact, result = exact_sum(x), Fraction(float(total(x)))
    rounding = Fraction(math.ulp(float(result))) / 2
    assert abs(result - exact) / n <= Fraction(1, 2**60) * Fraction(float(np.abs(x).max())) + rounding / n


@given(rng=generators(), kind=st.sampled_from(["normal", "eighths", "negative", "constant"]), n=st.integers(1, 2000))
@examples(200)
def test_the_sum_of_float32_data_is_the_exact_sum_rounded_once(rng: np.random.Generator, kind: str, n: int) -> None:
    """The folds are exact for summands whose magnitudes differ by less than 2**60."""
    x = fill(kind, rng, (n,), "float32")
    assert float(total(x)) == math.fsum(x.tolist()) == float(exact_sum(x))


@given(x=shapes().flatmap(lambda shape: floats_of("float64", shape)))
@examples(200)
def test_the_sum_of_negated_values_is_the_negated_sum(x: np.ndarray) -> None:
    assert_same_bits(total(-x), -total(x) + 0.0)


ZEROS = {
    "no summands": [],
    "a zero": [0.0],
    "a negative zero": [-0.0],
    "negative zeros": [-0.0] * 5,
    "mixed": [0.0, -0.0],
}
CANCELLING = {
    "two": [1.5, -1.5],
    "large": [1e16, 1.0, -1e16, -1.0],
    "least": [5e-324, -5e-324],
    "many": [0.1, -0.1] * 100,
}


@backends
@pytest.mark.parametrize("x", (ZEROS | CANCELLING).values(), ids=ZEROS | CANCELLING)
def test_a_sum_of_zero_is_positive_zero(backend: Backend, x: list[float]) -> None:
    """ROSE-7.3."""
    assert_same_bits(total(backend.array(np.asarray(x, np.float64))), np.zeros(()), backend=backend.name)


@backends
@pytest.mark.parametrize("dtype", EDGES)
def test_the_sum_of_one_value_is_the_value(backend: Backend, dtype: str) -> None:
    if dtype not in backend.dtypes:
        pytest.skip(f"{backend.name} has no {dtype}")
    x = from_words(EDGES[dtype], dtype)
    for axis in ((), 0):
        result = reproducible_sum(backend.array(x.reshape(1, -1)), axis=axis)
        assert_same_bits(result, x.astype(np.float64).reshape(result.shape), backend=backend.name)


NOT_FINITE = {
    "infinity": [1.0, np.inf],
    "infinities of both signs": [np.inf, -np.inf],
    "NaN": [np.nan, 1.0],
    "infinity alone": [-np.inf],
    "NaN alone": [np.nan],
    "float64 of 2**1022": [2.0**1022, 1.0, 1.0],
}


@backends
@pytest.mark.parametrize("x", NOT_FINITE.values(), ids=NOT_FINITE)
def test_a_sum_that_is_not_finite_is_nan(backend: Backend, x: list[float]) -> None:
    """ROSE-7.3. With three summands, 2**1022 is above the limit of 2**(1022 - L)."""
    assert np.isnan(float(total(backend.array(np.asarray(x, np.float64)))))


@given(rng=generators(), n=st.integers(1, 500))
@example(rng=np.random.default_rng(0), n=1)
@examples(100)
def test_sums_of_float64_subnormals_are_exact(rng: np.random.Generator, n: int) -> None:
    x = fill("subnormal", rng, (n,), "float64")
    assert_same_bits(total(x), np.asarray(math.fsum(x.tolist()) + 0.0))


# L is 20 for up to 2**20 summands. More summands have a third fold. It shows if the other summands are 2**-66 of the
# largest: two folds with L = 21 would lose them.
FOLDS = {
    "two folds": (2**20, 2.0**-60),
    "three folds": (2**20 + 1, 2.0**-66),
    "three folds, more": (3 * 2**20, 2.0**-80),
}


@backends
@pytest.mark.parametrize(("n", "small"), FOLDS.values(), ids=FOLDS)
def test_small_summands_count_beside_a_large_one(backend: Backend, n: int, small: float) -> None:
    x = np.full(n, small)
    x[n // 3] = 1.0
    x[n // 2] = -1.0
    assert_same_bits(total(backend.array(x)), np.asarray((n - 2) * small), backend=backend.name)


def test_two_folds_lose_summands_of_2_to_the_minus_68_of_the_largest() -> None:
    """The formula of ROSE-7.2 decides the bits, even if another sum is more exact."""
    x = np.full(2**20, 2.0**-68)
    x[0] = 1.0
    assert float(total(x)) == 1.0 < math.fsum(x.tolist())


# Axis, and the same axes as a tuple.
AXES = {
    "None": (None, (0, 1, 2)),
    "an integer": (1, (1,)),
    "a negative integer": (-1, (2,)),
    "a NumPy integer": (np.int64(0), (0,)),
    "a tuple": ((0, 2), (0, 2)),
    "a tuple out of order": ((2, 0), (0, 2)),
    "a list from both ends": ([0, -1], (0, 2)),
    "no axes": ((), ()),
    "all axes": ((0, 1, 2), (0, 1, 2)),
}


@pytest.mark.parametrize(("axis", "axes"), AXES.values(), ids=AXES)
def test_axes_have_the_meaning_of_numpy(axis: Any, axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(-8, 8, (3, 4, 5)).astype(np.float32)
    assert_same_bits(reproducible_sum(x, axis=axis), np.sum(x, axis=axes, dtype=np.float64) + 0.0)


EMPTY = {
    "no summands": ((0, 3), 0, (3,)),
    "no sums": ((0, 3), 1, (0,)),
    "neither summands nor sums": ((0, 0), 0, (0,)),
    "all axes": ((2, 0), None, ()),
}


@backends
@pytest.mark.parametrize(("shape", "axis", "expected"), EMPTY.values(), ids=EMPTY)
def test_sums_of_empty_arrays_are_zeros(backend: Backend, shape: Any, axis: Any, expected: Any) -> None:
    result = reproducible_sum(backend.array(np.zeros(shape, np.float32)), axis=axis)
    assert_same_bits(result, np.zeros(expected), backend=backend.name)


def test_the_folds_of_each_row_depend_on_its_largest_summand_only() -> None:
    x = np.asarray([[1e300, 1.0, -1e300], [1.0, 2.0**-60, -1.0], [5e-324, 5e-324, 0.0]])
    assert words(reproducible_sum(x, axis=1)).tolist() == raw_words(np.asarray([0.0, 2.0**-60, 1e-323])).tolist()
