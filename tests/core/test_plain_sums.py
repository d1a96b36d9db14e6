"""Plain sums of slices have the bits of their folds, or are not taken for them (ROSE-7.2)."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rose_core import plain_sums
from rose_core.alike import Alike
from rose_core.gradient import Gradient
from rose_core.namespace import magnitude_words
from rose_core.partition import partition
from rose_core.plain_sums import are_likely_exact, extrema_and_folds
from rose_core.rounding import ComputeDtype
from rose_core.statistics import mean_and_range
from rose_core.summation import fold_sigmas, magnitude
from tests.backends import BACKENDS, Backend
from tests.bits import DTYPES, assert_same_bits, from_words, host
from tests.strategies import KINDS, examples, fill, generators

COMPUTES: tuple[ComputeDtype, ...] = ("fp64", "fp32", "fp16", "bf16")
STORED = ("float32", "float16", "bfloat16")

with_light_arrays = pytest.mark.parametrize(
    "backend", [own for own in BACKENDS if own.name in ("numpy", "torch-2-threads")], ids=lambda own: own.name
)


def assert_plain_sums_are_folds(gradient: Gradient, size: int, name: str, data: str = "") -> None:
    """Compare the mean and the range that one look gives with those that all folds give."""
    shape = tuple(gradient.stored.one.shape)
    groups = partition(shape, size)
    for run in (groups, groups[len(groups) // 2 :]):
        with np.errstate(all="ignore"):
            ends = gradient.extrema(run)
            folds = gradient.folds(run, fold_sigmas(magnitude(ends), shape[1]))
            expected = mean_and_range(ends, folds, shape, gradient.compute)
            actual = mean_and_range(*extrema_and_folds(gradient, run), shape, gradient.compute)
        for what, one, other in zip(("mean", "range"), actual, expected, strict=True):
            assert_same_bits(one, other, backend=name, what=f"{what} {data}")


@with_light_arrays
@given(
    rng=generators(),
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4),
    dtype=st.sampled_from(STORED),
    compute=st.sampled_from(COMPUTES),
    maximize=st.booleans(),
    columns=st.integers(1, 70),
    rows=st.sampled_from([1, 2, 5, 100]),
)
@examples(200)
def test_plain_sums_are_folds(
    backend: Backend,
    rng: np.random.Generator,
    kinds: list[str],
    dtype: str,
    compute: ComputeDtype,
    maximize: bool,
    columns: int,
    rows: int,
) -> None:
    """Rows of several kinds, so that some are exact and others are not; blocks of some rows."""
    grad = np.concatenate([fill(kind, rng, (3, columns), dtype) for kind in kinds])
    assert_plain_sums_are_folds(Gradient(Alike([backend.array(grad)]), compute, maximize), rows * columns, backend.name)


@with_light_arrays
@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("length", [2, 5, 64, 300, 4096])
def test_down_to_where_no_sum_is_exact(backend: Backend, length: int, dtype: str) -> None:
    """Most elements lie between 1 and 2; some in one row of four are ever smaller."""
    rng = np.random.default_rng(7)
    for exponent in range(24 if dtype == "float16" else 70):
        x = rng.uniform(1, 2, (8, length))
        x[1::4, : -(-length // 3)] *= 2.0**-exponent
        gradient = Gradient(Alike([backend.array(x.astype(DTYPES[dtype]))]), "fp64")
        for size in (2 * length, length):
            assert_plain_sums_are_folds(gradient, size, backend.name, f"of {dtype} down to 2**-{exponent}")


@with_light_arrays
@pytest.mark.parametrize("length", [16, 64, 4096])
def test_partial_sums_that_just_do_not_fit(backend: Backend, length: int) -> None:
    """Fortran order is summed column by column, where not only the last addition rounds."""
    level = (length - 1).bit_length()
    x = np.full((6, length), 2.0 - 2.0**-23, np.float32, order="F")
    x[:, -2:] = 2.0 ** (level - 30) * (1.0 + 2.0**-23)
    held = backend.array(x.T).T
    assert_plain_sums_are_folds(Gradient(Alike([held]), "fp64"), 6 * length, backend.name)


@with_light_arrays
def test_exact_slices_are_not_folded(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are slices of zeros; of three slices with one that is not exact, it alone is."""
    folded: list[tuple[int, ...]] = []

    def fold_sums(x: Any, *others: Any) -> Any:
        folded.append(tuple(x.shape))
        return original(x, *others)

    original = plain_sums.fold_sums
    monkeypatch.setattr(plain_sums, "fold_sums", fold_sums)
    x = np.asarray([[1.0, 0.0, 2.0**-28], [0.0, 0.0, -0.0], [3.0, -3.0, 5.0]], np.float32)
    for element, shapes in ((0.0, []), (2.0**-60, [(1, 3)])):
        x[0, 1] = element
        extrema_and_folds(Gradient(Alike([backend.array(x)]), "fp64"), partition(x.shape, 100))
        assert folded == shapes


@with_light_arrays
def test_slices_are_folded_some_at_a_time(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_sums, "block_elements", lambda _: 10)
    rng = np.random.default_rng(5)
    x = rng.uniform(1, 2, (50, 5)).astype(np.float32)
    x[rng.permutation(50)[:23], 2] = 2.0**-50
    assert_plain_sums_are_folds(Gradient(Alike([backend.array(x)]), "fp64"), 100, backend.name)


@with_light_arrays
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_magnitude_words_are_in_the_order_of_magnitudes(backend: Backend, dtype: str) -> None:
    x = from_words(np.arange(2**16, dtype=np.uint16), dtype)
    with np.errstate(invalid="ignore"):
        x = x[np.isfinite(x) & (x != 0)]
    values, order = np.abs(x.astype(np.float64)), host(magnitude_words(backend.array(x)))
    assert np.array_equal(values[np.argsort(order, kind="stable")], np.sort(values))
    zeros = host(magnitude_words(backend.array(np.asarray([0.0, -0.0]).astype(x.dtype))))
    assert zeros.tolist() == [2**15 - 1] * 2
    assert order.max() < 2**15 - 1


def test_subnormal_elements_count_where_they_are_taken_for_zero() -> None:
    x = torch.ones((2, 3))
    x[0, 0] = 1e-45
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot take subnormal floats for zero")
    try:
        words = magnitude_words(x)
    finally:
        torch.set_flush_denormal(False)
    assert words[0].argmin() == 0


@with_light_arrays
@pytest.mark.parametrize("compute", COMPUTES)
def test_subnormal_extrema_are_those_of_folds_where_they_are_taken_for_zero(
    backend: Backend, compute: ComputeDtype
) -> None:
    """They were once rounded first, and the last subnormal float32 became a bfloat16 that is not one."""
    x = np.zeros((4, 8), np.float32)
    x[:, :2] = 2.0**-126 - 2.0**-149, -(2.0**-128)
    gradient = Gradient(Alike([backend.array(x)]), compute)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot take subnormal floats for zero")
    try:
        run = partition(x.shape, 100)
        actual, expected = extrema_and_folds(gradient, run)[0], gradient.extrema(run)
    finally:
        torch.set_flush_denormal(False)
    for one, other in zip(actual, expected, strict=True):
        assert_same_bits(one, other, backend=backend.name)


def test_where_plain_sums_are_tried() -> None:
    import array_api_strict

    def is_tried(*arrays: Any) -> bool:
        return are_likely_exact(Alike(arrays), partition(arrays[0].shape, 2**30, len(arrays)))

    x = np.ones((64, 64), np.float32)
    for own in (x, torch.from_numpy(x), torch.from_numpy(x).bfloat16(), x.astype(ml_dtypes.bfloat16)):
        assert is_tried(own)
    assert not are_likely_exact(Alike([x]), partition(x.shape, 63))  # slices that lie in more blocks than one
    few, long, wide = x[:63], np.ones((2, 4097), np.float32), x.astype(np.float64)
    for other in (few, long, wide, array_api_strict.asarray(x), torch.from_numpy(x).to("meta")):
        assert not is_tried(other)
