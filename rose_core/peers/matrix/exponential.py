"""The exponential of matrices by scaling and squaring."""

from typing import Any, Final

from rose_core.peers.arithmetic import divide
from rose_core.peers.matrix.products import identity, product

__all__ = ["exponential"]

_SQUARINGS: Final = 4
_DEGREE: Final = 14


def exponential(x: Any) -> Any:
    """Return the exponential of square matrices.

    Parameters
    ----------
    x : array, shape (..., n, n)
        The matrices, with spectral norms of at most 8. Beyond that, the error grows.

    Notes
    -----
    ``exp(x) = exp(x / 16)^16``, with the polynomial of Taylor of degree 14 for ``x / 16``, by the scheme of Horner.
    The number of squarings is fixed, so that a stack of matrices has the bits of its matrices. The polynomial is
    exact to 2**-53 for norms of at most 1/2.

    Examples
    --------
    >>> import numpy as np
    >>> exponential(np.asarray([[0.0, 1.0], [0.0, 0.0]])).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    x = x * 2.0**-_SQUARINGS
    one = identity(x)
    result = one + divide(x, float(_DEGREE))
    for k in range(_DEGREE - 1, 0, -1):
        result = one + divide(product(x, result), float(k))
    for _ in range(_SQUARINGS):
        result = product(result, result)
    return result
