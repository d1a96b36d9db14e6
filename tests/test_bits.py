"""The comparison that all tests rely on: it raises at every difference, and ignores only the bits of NaN."""

from typing import Any

import numpy as np
import pytest

from tests.bits import assert_same_bits, from_words, host, raw_words, words
from tests.strategies import EDGES, EXTREMES, fill
from tests.tally import TALLY

ONE = np.ones(2, np.float32)
ZEROS = np.zeros(2, np.float32)
AFTER_ONE = from_words(0x3F800001, "float32")
DIFFERENT = {
    "a dtype": (ONE, ONE.astype(np.float64), "result: dtype float32, not float64"),
    "a shape": (ONE, ONE[:1], r"result: shape \(2,\), not \(1,\)"),
    "a rank": (ONE[0], ONE[:1], r"result: shape \(\), not \(1,\)"),
    "the sign of a zero": (-ZEROS, ZEROS, r"2 of 2 .*\n  at \(0,\): 80000000 \(-0.0\), not 00000000"),
    "a last bit": (AFTER_ONE, ONE[0], r"1 of 1 .*\n  at \(\): 3f800001 .*, not 3f800000 \(1.0\)"),
    "a NaN": (from_words([0x7FC0], "bfloat16"), from_words([0x7F80], "bfloat16"), r"7fc0 \(nan\), not 7f80 \(inf\)"),
    "an integer": (np.int32([-1]), np.int32([1]), r"ffffffff \(-1\), not 00000001 \(1\)"),
}


@pytest.mark.parametrize(("actual", "expected", "text"), DIFFERENT.values(), ids=DIFFERENT)
def test_a_single_difference_raises_and_shows_words(actual: Any, expected: Any, text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        assert_same_bits(actual, expected)


def test_nans_are_equal_whatever_their_sign_and_payload() -> None:
    nans = from_words([0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF], "float32")
    assert_same_bits(nans, np.full(4, np.nan, np.float32))
    assert raw_words(nans).tolist() == [0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF]


def test_differences_are_counted_by_backend() -> None:
    name = "a backend of this test"
    with pytest.raises(AssertionError):
        assert_same_bits(np.float32([1, 2, 3]), np.float32([1, 0, 0]), backend=name)
    assert [TALLY[column].pop(name) for column in ("cases", "elements", "mismatches")] == [1, 3, 2]


@pytest.mark.parametrize("dtype", EDGES)
def test_edge_values_have_the_words_they_are_made_from(dtype: str) -> None:
    expected = [*EDGES[dtype], *EXTREMES[dtype]]
    array = from_words(expected, dtype)
    assert raw_words(array).tolist() == expected
    assert str(host(array).dtype) == dtype
    assert words(array)[: len(EDGES[dtype])].tolist() == list(EDGES[dtype])


@pytest.mark.parametrize("dtype", EDGES)
def test_edge_values_are_finite_and_subnormals_are_subnormal(dtype: str) -> None:
    rng = np.random.default_rng(0)
    assert np.isfinite(from_words(EDGES[dtype], dtype).astype(np.float64)).all()
    smallest_normal = {"float64": 2.0**-1022, "float16": 2.0**-14}.get(dtype, 2.0**-126)
    assert (np.abs(fill("subnormal", rng, (100,), dtype).astype(np.float64)) < smallest_normal).all()
    assert (np.abs(fill("below-two", rng, (100,), dtype).astype(np.float64)) < 2.0).all()
