"""Means and ranges have the bits of the core, whether the plain sums are exact or not."""

from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

import rose_core
from rose_kernels.llvm.bits import sign_mask
from rose_kernels.llvm.storage import STORAGE_TYPES, itemsize_of
from rose_kernels.rule.statistics import measure_rows, strip_buffers
from rose_kernels.rule.summation import fold_constants
from tests.bits import assert_same_bits
from tests.strategies import DTYPES


@njit(error_model="numpy")
def measure_all(
    address: Any, length: Any, maximize: Any, constants: Any, storage: Any, means: Any, ranges: Any
) -> None:
    """Measure all rows of a contiguous matrix."""
    stride_bytes, buffers = length * itemsize_of(storage), strip_buffers(storage, np.float64)
    mask = sign_mask(maximize, storage)
    measure_rows(
        address, stride_bytes, means.size, length, mask, True, constants, np.float64, storage, means, ranges, buffers
    )


def measured(grad: np.ndarray, dtype: str, *, maximize: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the range of each row of a matrix."""
    rows, length = grad.shape
    means, ranges = np.empty((2, rows))
    measure_all(grad.ctypes.data, length, int(maximize), fold_constants(length), STORAGE_TYPES[dtype], means, ranges)
    return means, ranges


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("length", [1, 5, 30, 40, 300, 2048, 2049, 5000])
@pytest.mark.parametrize("dtype", STORAGE_TYPES)
def test_means_and_ranges(dtype: str, length: int, maximize: bool) -> None:
    """Most elements lie between 1 and 2. The others are smaller by up to a factor that makes plain sums inexact."""
    rng = np.random.default_rng(7)
    rows = 2 * 64 + 3
    for exponent in range(0, 24 if dtype == "float16" else 64, 1 if length < 1000 else 4):
        x = rng.uniform(1, 2, (rows, length)) * np.where(rng.random((rows, length)) < 0.1, 2.0**-exponent, 1.0)
        x[:, 0] = 2.0
        grad = x.astype(DTYPES[dtype][0])
        expected = rose_core.slice_statistics(-grad if maximize else grad)
        means, ranges = measured(grad, dtype, maximize=maximize)
        what = f"{dtype}, rows of {length}, down to 2**-{exponent}"
        assert_same_bits(means, np.asarray(expected.mean), backend="kernels", what=f"means of {what}")
        assert_same_bits(ranges, np.asarray(expected.range), backend="kernels", what=f"ranges of {what}")


def test_subnormals_that_the_processor_treats_as_zero_hide_no_small_elements() -> None:
    grad = np.asarray([[1e-45, 1.0, -1.0, 2.0**-60], [1e-45, 1.0, 2.0**-60, -1.0]], np.float32)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot treat subnormals as zero")
    try:
        means, _ = measured(grad, "float32", maximize=False)
    finally:
        torch.set_flush_denormal(False)
    assert means.tolist() == [2.0**-62, 2.0**-62]
