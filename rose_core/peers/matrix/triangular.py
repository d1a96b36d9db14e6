"""Triangular systems by substitution, from elementwise operations."""

from typing import Any

from rose_core.namespace import array_namespace

__all__ = ["solved", "upper"]


def solved(lower: Any, b: Any) -> Any:
    """Return X with ``lower X = b`` by forward substitution.

    Parameters
    ----------
    lower : array, shape (..., n, n)
        Lower triangular matrices. Elements above the diagonal are ignored.
    b : array, shape (..., n, m)
        The right sides.

    Notes
    -----
    For k from 1 to n: ``x_k = b_k / lower_kk``, then ``b_i <- b_i - lower_ik x_k`` for all i > k. These are ``n``
    rounds of elementwise operations. A library's solver adds up in another order.

    Examples
    --------
    >>> import numpy as np
    >>> solved(np.asarray([[2.0, 0.0], [1.0, 4.0]]), np.asarray([[2.0], [9.0]])).tolist()
    [[1.0], [2.0]]
    """
    rows = []
    for k in range(b.shape[-2]):
        rows.append(b[..., :1, :] / lower[..., k : k + 1, k : k + 1])
        b = b[..., 1:, :] - lower[..., k + 1 :, k : k + 1] * rows[-1]
    return array_namespace(b).concat(rows, axis=-2)


def upper(x: Any) -> Any:
    """Return the upper triangle of each matrix."""
    return array_namespace(x).triu(x)
