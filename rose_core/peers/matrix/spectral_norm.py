"""Lower bounds of spectral norms by a few steps of the power method on random vectors."""

from typing import Any, Final

from rose_core.namespace import array_namespace
from rose_core.peers.arithmetic import at_least, root, sign, sum_of
from rose_core.peers.matrix.products import largest_magnitude, product, transposed

__all__ = ["VECTORS", "spectral_norm"]

VECTORS: Final = 32
"""The number of random vectors."""

_STEPS: Final = 2
_LEAST: Final = 2.0**-126


def spectral_norm(x: Any, draws: Any) -> Any:
    """Return a lower bound of the largest singular value of symmetric or antisymmetric matrices.

    Parameters
    ----------
    x : array, shape (..., n, n)
        The matrices.
    draws : array, shape (..., `VECTORS`, n)
        Random vectors. Each is added to the longest row, with the sign of its product with that row.

    Returns
    -------
    array, shape (..., 1, 1)
        The largest length of ``v x`` for unit vectors v, after two rounds of ``v <- v x, v <- v / |v|, v <- v x``.
    """
    scale = at_least(largest_magnitude(x), _LEAST)
    x = x / scale
    row = _longest_row(x)
    vectors = row + sign(product(draws, transposed(row))) * draws
    for _ in range(_STEPS):
        vectors = product(vectors, x)
        vectors = product(vectors / at_least(_lengths(vectors), _LEAST), x)
    return scale * array_namespace(x).max(_lengths(vectors), axis=-2, keepdims=True)


def _lengths(x: Any) -> Any:
    return root(sum_of(x * x, -1, keepdims=True))


def _longest_row(x: Any) -> Any:
    """Return the row with the largest norm, the first one of several. `argmax` of torch may return another one."""
    xp = array_namespace(x)
    squares = sum_of(x * x, -1, keepdims=True)
    numbers = xp.reshape(xp.arange(x.shape[-2], dtype=xp.int64, device=x.device), (-1, 1))
    is_longest = squares == xp.max(squares, axis=-2, keepdims=True)
    first = xp.min(xp.where(is_longest, numbers, x.shape[-2]), axis=-2, keepdims=True)
    return xp.sum(xp.where(numbers == first, x, 0.0), axis=-2, keepdims=True)  # one summand is not 0
