"""`reproducible_matmul` does not depend on the order of the inner index, and is nearly the exact product."""

import functools
import itertools
import math
import operator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rose_core.peers.matmul import (
    exact_products,
    reproducible_matmul,
    scaled_sum,
    scales,
    slice_bits,
    slices,
    transposed,
)
from tests.backends import Backend, backends
from tests.bits import assert_same_bits
from tests.strategies import EDGES, KINDS, examples, fill, generators

FINITE_KINDS = [kind for kind in KINDS if kind not in ("words", "extremes")]
SIDES = st.integers(1, 12)
COUNTS = st.sampled_from([1, 2, 3, 7, 33, 130, 400])


def two(kind: str, rng: np.random.Generator, m: int, n: int, k: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return two factors of the same kind."""
    return fill(kind, rng, (m, n), dtype), fill(kind, rng, (n, k), dtype)


@backends
@given(
    rng=generators(),
    kind=st.sampled_from(sorted(KINDS)),
    dtype=st.sampled_from(sorted(EDGES)),
    m=SIDES,
    n=COUNTS,
    k=SIDES,
)
@examples(60)
def test_products_have_the_same_bits_in_every_library_and_order(
    backend: Backend, rng: np.random.Generator, kind: str, dtype: str, m: int, n: int, k: int
) -> None:
    if dtype not in backend.dtypes:
        dtype = "float32"
    a, b = two(kind, rng, m, n, k, dtype)
    expected = reproducible_matmul(a, b)
    for order in (np.arange(n), np.arange(n)[::-1], rng.permutation(n)):
        result = reproducible_matmul(backend.array(a[:, order]), backend.array(b[order]))
        assert_same_bits(result, expected, backend=backend.name)


@backends
@pytest.mark.parametrize("n", [256, 700])
def test_large_products_have_the_same_bits(backend: Backend, n: int) -> None:
    """Libraries use several threads, blocks and vector instructions here."""
    rng = np.random.default_rng(n)
    a, b = (rng.standard_normal((n, n)) * 2.0 ** rng.integers(-20, 20, (n, n)) for _ in range(2))
    order = rng.permutation(n)
    result = reproducible_matmul(backend.array(a[:, order]), backend.array(b[order]))
    assert_same_bits(result, reproducible_matmul(a, b), backend=backend.name)


def test_a_plain_product_depends_on_the_order() -> None:
    """Proof that the tests above can fail."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((256, 256)), rng.standard_normal((256, 256))
    order = rng.permutation(256)
    assert np.count_nonzero(a @ b != a[:, order] @ b[order]) > 1000


@given(rng=generators(), kind=st.sampled_from(FINITE_KINDS), n=COUNTS, number=st.integers(1, 5))
@examples(100)
def test_products_of_parts_of_the_inner_axis_are_added_up_exactly(
    rng: np.random.Generator, kind: str, n: int, number: int
) -> None:
    a, b = two(kind, rng, 5, n, 4, "float64")
    row_scales, column_scales = scales(a, -1), scales(b, -2)
    parts = [part for part in np.array_split(rng.permutation(n), number) if part.size]
    products = [exact_products(slices(a[:, part], row_scales, n), slices(b[part], column_scales, n)) for part in parts]
    sums = tuple(functools.reduce(operator.add, same) for same in zip(*products, strict=True))
    with np.errstate(all="ignore"):
        assert_same_bits(scaled_sum(sums, row_scales, column_scales), reproducible_matmul(a, b))


@given(rng=generators(), kind=st.sampled_from(FINITE_KINDS), n=COUNTS)
@examples(60)
def test_products_of_slices_are_exact(rng: np.random.Generator, kind: str, n: int) -> None:
    a, b = two(kind, rng, 2, n, 2, "float64")
    left, right = slices(a, scales(a, -1), n), slices(b, scales(b, -2), n)
    for d, product in enumerate(exact_products(left, right)):
        for i, j in itertools.product(range(2), repeat=2):
            exact = sum(
                Fraction(float(x)) * Fraction(float(y))
                for k in range(d + 1)
                for x, y in zip(left[k][i], right[d - k][:, j], strict=True)
            )
            assert Fraction(float(product[i, j])) == exact


def error_bound(a: np.ndarray, b: np.ndarray, result: float) -> Fraction:
    """Return the bound in the docstring, for a row and a column."""
    bits, number = slice_bits(a.size)
    largest = Fraction(float(np.abs(a).max())) * Fraction(float(np.abs(b).max()))
    return (
        Fraction(math.ulp(result)) / 2
        + a.size * (number + 4) * largest / 2 ** (bits * number)
        + (Fraction(1, 2**1074) if abs(result) < 2.0**-1022 else 0)
    )


@given(
    rng=generators(),
    kind=st.sampled_from(FINITE_KINDS),
    dtype=st.sampled_from(sorted(EDGES)),
    n=st.sampled_from([1, 2, 5, 64, 300]),
    cancels=st.booleans(),
)
@examples(150)
def test_the_error_is_within_its_bound(rng: np.random.Generator, kind: str, dtype: str, n: int, cancels: bool) -> None:
    a, b = two(kind, rng, 2, n, 2, dtype)
    if cancels:
        a, b = np.concatenate([a, -a], axis=1), np.concatenate([b, b + np.spacing(b)], axis=0)
    result = reproducible_matmul(a, b)
    for i, j in itertools.product(range(2), repeat=2):
        row, column = a[i].astype(np.float64), b[:, j].astype(np.float64)
        exact = sum(
            (Fraction(x) * Fraction(y) for x, y in zip(row.tolist(), column.tolist(), strict=True)), Fraction(0)
        )
        assert abs(Fraction(float(result[i, j])) - exact) <= error_bound(row, column, float(result[i, j]))


def test_the_bound_is_below_2_to_the_minus_60_for_inner_lengths_up_to_1024() -> None:
    for n in range(1, 1025):
        bits, number = slice_bits(n)
        assert number == 3
        assert (number + 4) * 2.0 ** (-number * bits) < 2.0**-60


@pytest.mark.parametrize("n", [1, 2, 1024, 2**12, 2**16, 2**16 + 1, 2**20, 2**30])
def test_partial_sums_stay_below_2_to_the_53_quanta(n: int) -> None:
    bits, number = slice_bits(n)
    largest = [2**bits] + [2 ** (bits - 1)] * (number - 1)
    assert max(n * sum(largest[i] * largest[d - i] for i in range(d + 1)) for d in range(number)) <= 2**53
    assert number * bits >= 54


@pytest.mark.parametrize("n", [2**16 + 1, 2**17 + 3])
def test_long_inner_axes_take_four_slices(n: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((1, n)), rng.standard_normal((n, 1))
    order = rng.permutation(n)
    result = reproducible_matmul(a, b)
    assert slice_bits(n)[1] == 4
    assert_same_bits(reproducible_matmul(a[:, order], b[order]), result)
    assert abs(float(result[0, 0]) - math.fsum((a[0] * b[:, 0]).tolist())) <= 1e-11


@given(rng=generators(), kind=st.sampled_from(sorted(KINDS)), m=SIDES, n=COUNTS, k=SIDES)
@examples(100)
def test_the_transposed_product_is_the_product_of_the_transposed_factors(
    rng: np.random.Generator, kind: str, m: int, n: int, k: int
) -> None:
    a, b = two(kind, rng, m, n, k, "float64")
    assert_same_bits(reproducible_matmul(b.T, a.T), reproducible_matmul(a, b).T)
    gram = reproducible_matmul(a, a.T)
    assert_same_bits(gram.T, gram)


@backends
@given(
    rng=generators(), stacks=st.sampled_from([((2,), (2,)), ((3, 2), (2,)), ((), (4,)), ((1, 2), (3, 1)), ((0,), ())])
)
@examples(20)
def test_stacks_broadcast_as_in_numpy(backend: Backend, rng: np.random.Generator, stacks: Any) -> None:
    a, b = rng.standard_normal((*stacks[0], 3, 5)), rng.standard_normal((*stacks[1], 5, 2))
    result = reproducible_matmul(backend.array(a), backend.array(b))
    wide_a, wide_b = (np.broadcast_to(x, np.broadcast_shapes(*stacks) + x.shape[-2:]) for x in (a, b))
    expected = np.empty((*np.broadcast_shapes(*stacks), 3, 2))
    for index in np.ndindex(expected.shape[:-2]):
        expected[index] = reproducible_matmul(wide_a[index], wide_b[index])
    assert_same_bits(result, expected, backend=backend.name)


EMPTY = [((3, 0), (0, 2)), ((0, 4), (4, 2)), ((2, 4), (4, 0)), ((0, 0), (0, 0)), ((5, 0, 3), (3, 2))]


@backends
@pytest.mark.parametrize(("left", "right"), EMPTY)
def test_products_of_empty_matrices_are_zeros(backend: Backend, left: Any, right: Any) -> None:
    result = reproducible_matmul(backend.array(np.zeros(left)), backend.array(np.zeros(right)))
    assert_same_bits(result, np.zeros((*left[:-1], right[-1])), backend=backend.name)


@backends
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_product_of_two_values_is_exact(backend: Backend, dtype: str) -> None:
    if dtype not in backend.dtypes:
        pytest.skip(f"{backend.name} has no {dtype}")
    values = fill("edges", np.random.default_rng(0), (40,), dtype)
    a, b = values[:, None], values[None, :]
    expected = a.astype(np.float64) * b.astype(np.float64) + 0.0
    assert_same_bits(reproducible_matmul(backend.array(a), backend.array(b)), expected, backend=backend.name)


WIDE = {
    "overflow": ([[2.0**1000, 1.0]], [[2.0**1000], [1.0]], math.inf),
    "no overflow by cancellation": ([[2.0**1023, 2.0**1023]], [[1.5], [-1.5]], 0.0),
    "a large and a small scale": ([[2.0**1023]], [[2.0**-1074]], 2.0**-51),
    "the largest value": ([[math.nextafter(math.inf, 0)]], [[1.0]], math.nextafter(math.inf, 0)),
    "the sum of two halves": ([[2.0**1022, 2.0**1022]], [[1.0], [0.5]], 1.5 * 2.0**1022),
    "least times one": ([[5e-324]], [[1.0]], 5e-324),
    "least times large": ([[5e-324, 5e-324]], [[2.0**1000], [2.0**1000]], 2.0**-73),
    "underflow": ([[2.0**-600]], [[2.0**-600]], 0.0),
    "a subnormal result": ([[2.0**-600, 2.0**-600]], [[2.0**-460], [2.0**-460]], 2.0**-1059),
    "one and a small value": ([[1.0, 2.0**-50, -1.0]], [[1.0], [1.0], [1.0]], 2.0**-50),
    "an entry of 2**-70 of the largest is lost": ([[1.0, 2.0**-90, -1.0]], [[1.0], [1.0], [1.0]], 0.0),
    "negative zero": ([[-0.0]], [[1.0]], 0.0),
}


@backends
@pytest.mark.parametrize(("a", "b", "expected"), WIDE.values(), ids=WIDE)
def test_wide_ranges(backend: Backend, a: Any, b: Any, expected: float) -> None:
    result = reproducible_matmul(backend.array(np.asarray(a)), backend.array(np.asarray(b)))
    assert_same_bits(result, np.asarray([[expected]]), backend=backend.name)


@backends
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_value_that_is_not_finite_makes_its_row_or_column_nan_only(backend: Backend, value: float) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 5)), rng.standard_normal((5, 3))
    clean = reproducible_matmul(a, b)
    a[1, 2], b[0, 2] = value, value
    result = reproducible_matmul(backend.array(a), backend.array(b))
    expected = clean.copy()
    expected[1, :] = np.nan
    expected[:, 2] = np.nan
    assert_same_bits(result, expected, backend=backend.name)


def test_scales_are_the_powers_of_two_below_the_largest_magnitude() -> None:
    x = np.asarray([[1.0, -3.0], [-4.0, 0.0], [0.0, -0.0], [5e-324, 0.0], [np.inf, 1.0], [np.nan, 1.0]])
    assert_same_bits(scales(x, -1), np.asarray([[2.0], [2.0], [1.0], [2.0**-1022], [np.nan], [np.nan]]))


def test_transposed_swaps_the_last_two_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    assert_same_bits(transposed(x), np.swapaxes(x, -1, -2))


MATRIX = np.ones((2, 3))
REFUSED = {
    "a list": ([[1.0]], MATRIX, TypeError, "a must be an array"),
    "integers": (MATRIX, np.ones((3, 2), np.int64), TypeError, "b has dtype int64"),
    "a vector": (MATRIX, np.ones(3), ValueError, r"b has shape \(3,\); it must have at least two axes"),
    "inner lengths": (MATRIX, MATRIX, ValueError, r"a has shape \(2, 3\) and b has \(2, 3\); they do not fit"),
    "stacks": (np.ones((2, 1, 1)), np.ones((3, 1, 1)), ValueError, "they do not fit for a product"),
}


@pytest.mark.parametrize(("a", "b", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_arguments_that_are_refused(a: Any, b: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        reproducible_matmul(a, b)


def test_two_libraries_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="b is an array of torch, a of numpy; they must be of one library"):
        reproducible_matmul(MATRIX, torch.ones(3, 2))
