"""Reproducible matrix products: products with the same bits in every library, and in every order of the summands.

A product has three stages, like `rose_core.reproducible_sum`. `scales` gives the power of two below each row of the
left factor and each column of the right one. `slices` cuts the scaled factors into pieces of a few bits. Products of
slices are exact, so `exact_products` does not depend on the library's order of summation. `scaled_sum` adds them up.

The method is that of Ozaki, Ogita, Oishi and Rump, "Error-free transformations of matrix multiplication by using fast
routines of matrix multiplication and its applications", Numerical Algorithms 59 (2012).
"""

import functools
import operator
from typing import Any

from rose_core.namespace import (
    Array,
    array_namespace,
    convert,
    detached,
    floating_dtype,
    has_float64,
    quiet,
    require_like,
)

__all__ = [
    "exact_products",
    "float64_product",
    "reproducible_matmul",
    "scaled_sum",
    "scales",
    "slice_bits",
    "slices",
    "transposed",
]


@quiet
def reproducible_matmul(a: Array, b: Array, /) -> Any:
    """Multiply matrices in float64, with the same bits in every order of the inner index.

    Parameters
    ----------
    a : array of float64, float32, float16 or bfloat16, shape (..., m, n)
        The left matrix, or a stack of matrices.
    b : array of these dtypes, shape (..., n, k)
        The right matrix, of the same library and on the same device. Stacks broadcast as in ``a @ b``.

    Returns
    -------
    array of float64, shape (..., m, k)
        The product. A zero is +0. An entry is NaN if its row of `a` or its column of `b` has an infinity or a NaN.

    Raises
    ------
    TypeError
        If an argument is not an array of one of these dtypes, or the libraries differ.
    ValueError
        If the shapes do not fit, or a device has no float64.

    Notes
    -----
    Let L be the bit length of n - 1, ``beta = (52 - L) // 2`` and S the least integer with ``S * beta >= 54``: S is 3
    for n up to 2**16. Let p be the power of two below the largest magnitude of a row of `a` (a column of `b`)::

        slice i:  q = (r + s) - s,  r = r - q,  with  r = a / p  and  s = 1.5 * 2**(53 - beta)  for i = 0
                                                and   s = s * 2**-beta  for each further slice
        product:  (sum of A_i @ B_j over i + j = S - 1)  + ... +  (A_0 @ B_1 + A_1 @ B_0)  +  A_0 @ B_0

    Each sum in parentheses is one library product, and is exact: all its partial sums are multiples of a quantum, and
    below 2**53 quanta. So a permutation of the inner index changes no bit, nor do threads, blocks or fused
    multiply-adds. The transposed product is the product of the transposed factors, and ``a @ a.T`` is exactly
    symmetric.

    The error is at most half a unit in the last place of the result, plus ``n * (S + 4) * 2**(-S * beta)`` times the
    largest magnitudes of the row and the column: below ``n * 2**-60`` times them for n up to 1024. The scales keep
    the factors from over- and underflowing. A result overflows only where the rounded product does. In a result below
    2**-1022, the error may reach 2**-1074 more.

    With S = 3, the peak of the working memory is 6 times the factors in float64 plus 3 times the result, or 7 times
    the result if that is more. A product of 1,024 rows takes 6 to 8 times as long as ``a @ b`` on a CPU.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.asarray([[1e16, 1.0, -1e16]]), np.ones((3, 1))
    >>> float(reproducible_matmul(a, b)[0, 0]), float((a @ b)[0, 0])
    (1.0, 0.0)
    """
    _check(a, b)
    a, b = (convert(x, "float64") for x in detached(a, b))
    return float64_product(a, b)


def float64_product(a: Array, b: Array) -> Any:
    """Return the product of float64 matrices that are checked."""
    count = a.shape[-1]
    row_scales, column_scales = scales(a, -1), scales(b, -2)
    left, right = slices(a, row_scales, count), slices(b, column_scales, count)
    return scaled_sum(exact_products(left, right), row_scales, column_scales)


def transposed(x: Array) -> Any:
    """Swap the last two axes."""
    return array_namespace(x).permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def scales(x: Array, axis: int) -> Any:
    """Return the power of two p with ``p < max|x| <= 2 p`` along an axis, which keeps the size 1.

    The scale of zeros is 1. The scale is NaN if a value is not finite. Below 2**-1022 it stays 2**-1022.
    """
    xp = array_namespace(x)
    if x.shape[axis] == 0:
        return xp.sum(x, axis=axis, keepdims=True) + 1.0
    largest = xp.max(xp.abs(x), axis=axis, keepdims=True)
    p = (largest - xp.nextafter(largest, xp.zeros_like(largest))) * 2.0**52
    p = xp.where(largest < float("inf"), p, float("nan"))
    return xp.where(largest == 0.0, 1.0, p)


def slice_bits(count: int) -> tuple[int, int]:
    """Return the number of bits of a slice, and the number of slices, for an inner length of `count`."""
    bits = (52 - max(count - 1, 0).bit_length()) // 2
    return bits, -(-54 // bits)


def slices(x: Array, scale: Array, count: int) -> tuple[Any, ...]:
    """Cut a float64 matrix into slices, the largest first. Rows or columns with the scale NaN become NaN."""
    bits, number = slice_bits(count)
    r = x * (array_namespace(x).ones_like(scale) / scale)  # the inverse of a power of two is exact
    pieces: list[Any] = []
    for i in range(number):
        r = r - pieces[-1] if pieces else r
        s = 1.5 * 2.0 ** (53 - (i + 1) * bits)
        pieces.append((r + s) - s)
    return tuple(pieces)


def exact_products(left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the sum of ``left[i] @ right[j]`` over ``i + j = d`` for each d, which is exact. The largest is first.

    Each sum is one product of slices that are joined along the inner axis. If the inner axis lies in parts, the sums
    of all parts are added up before `scaled_sum`; this is exact too.
    """
    xp, count = array_namespace(left[0]), left[0].shape[-1]
    rows, columns = xp.concat(left, axis=-1), xp.concat(right[::-1], axis=-2)
    first = count * (len(left) - 1)
    return tuple(
        xp.matmul(rows[..., : count * (d + 1)], columns[..., first - count * d :, :]) for d in range(len(left))
    )


def scaled_sum(products: tuple[Any, ...], row_scales: Array, column_scales: Array) -> Any:
    """Add up the exact products, the smallest first, and undo the scales.

    NOTE: [two scales] The product of a scale below 1 and another one from 1 on is exact. Otherwise the product may
    over- or underflow although the result does not, so both scales are applied one by one.
    """
    total = functools.reduce(operator.add, reversed(products))
    xp = array_namespace(total)
    (large_rows, small_rows), (large_columns, small_columns) = (
        (xp.maximum(scale, xp.ones_like(scale)), xp.minimum(scale, xp.ones_like(scale)))
        for scale in (row_scales, column_scales)
    )
    return total * (large_rows * small_columns) * (small_rows * large_columns) + 0.0  # -0 becomes +0


def _check(a: Array, b: Array) -> None:
    for x, name in ((a, "a"), (b, "b")):
        floating_dtype(x, name)
        if x.ndim < 2:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; it must have at least two axes")
        if not has_float64(x):
            raise ValueError(f"{name} is on device {x.device}, which has no float64; reproducible products need it")
    require_like(a, b, ("a", "b"), any_shape=True)
    stacks = zip(reversed(a.shape[:-2]), reversed(b.shape[:-2]), strict=False)
    if a.shape[-1] != b.shape[-2] or any(i != j and 1 not in (i, j) for i, j in stacks):
        raise ValueError(f"a has shape {tuple(a.shape)} and b has {tuple(b.shape)}; they do not fit for a product")
