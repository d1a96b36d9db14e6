"""Orthonormal bases of the columns of matrices, by Householder reflections with reproducible sums."""

from typing import Any

from rose_core.namespace import array_namespace, as_float64, convert, dtype_name
from rose_core.peers.arithmetic import root, sum_of
from rose_core.peers.matrix.products import identity

__all__ = ["orthonormal"]


def orthonormal(x: Any) -> Any:
    """Return the factor Q of square matrices ``X = Q R``, with orthonormal columns, and R upper triangular.

    Parameters
    ----------
    x : array of float64 or float32, shape (..., n, n)
        The matrices. They may be singular.

    Returns
    -------
    array, shape (..., n, n)
        Q. The diagonal of R is not negative, so that Q is near I if X is near a positive diagonal matrix.

    Notes
    -----
    Column k is reflected onto axis k by ``A <- A - v (2 / v'v) (v' A)``, with ``v = x + sign(x_k) |x| e_k`` for its
    part x from row k on. Q is the product of all reflections. This takes about ``20 n**3`` elementwise operations in
    ``2 n`` rounds: 256 columns take about a quarter of a second, and 1,024 columns about 15 seconds.

    Examples
    --------
    >>> import numpy as np
    >>> orthonormal(np.asarray([[3.0, 1.0], [4.0, 1.0]])).round(3).tolist()
    [[0.6, 0.8], [0.8, -0.6]]
    """
    xp, a = array_namespace(x), as_float64(x)
    reflectors, signs = [], []
    for k in range(a.shape[-1]):
        column = a[..., k:, k : k + 1]
        largest = xp.max(xp.abs(column), axis=-2, keepdims=True)
        column = column / xp.where(largest > 0.0, largest, 1.0)  # the squares neither over- nor underflow
        first = column[..., :1, :]
        one = xp.ones_like(first)
        sign = xp.where(first < 0.0, -one, one)
        head = first + sign * root(sum_of(column * column, -2, keepdims=True))
        v = xp.concat([head, column[..., 1:, :]], axis=-2)
        length = sum_of(v * v, -2, keepdims=True)
        weight = 2.0 * one / xp.where(length > 0.0, length, float("inf"))
        a = xp.concat([a[..., :k, :], _reflected(a[..., k:, :], v, weight)], axis=-2)
        reflectors.append((v, weight))
        signs.append(xp.where(largest > 0.0, -sign, 1.0))
    q = identity(a) + xp.zeros_like(a)
    for k in range(a.shape[-1] - 1, -1, -1):
        q = xp.concat([q[..., :k, :], _reflected(q[..., k:, :], *reflectors[k])], axis=-2)
    return convert(q * xp.concat(signs, axis=-1) if signs else q, dtype_name(x))  # type: ignore[arg-type]


def _reflected(a: Any, v: Any, weight: Any) -> Any:
    return a - v * (weight * sum_of(v * a, -2, keepdims=True))
