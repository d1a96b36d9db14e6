"""Inverse fourth roots by matrix products alone, applied from both sides."""

from typing import Any, Final

from rose_core.peers.arithmetic import at_least, root
from rose_core.peers.matrix.products import frobenius, identity, product, symmetric

__all__ = ["between_inverse_fourth_roots"]

# Coefficients of x -> a + b x + c x^2, tabulated for the steps of an inverse fourth root, as in rollfast. The last row
# is the Newton-like step that converges to 1.
_ROWS: Final = (
    (3.85003, -10.8539, 8.61893),
    (1.80992, -0.587778, 0.0647852),
    (1.50394, -0.594516, 0.121161),
    (45 / 32, -9 / 16, 5 / 32),
)

# Eigenvalues of a matrix divided by its Frobenius norm are at most 1. The margin keeps them below 1.
_MARGIN: Final = 1.05
_LEAST_NORM: Final = 1e-30


def between_inverse_fourth_roots(left: Any, x: Any, right: Any, *, steps: int, eps: float, scale: float) -> Any:
    """Return nearly ``left^(-1/4) x right^(-1/4)`` for symmetric positive definite `left` and `right`.

    Parameters
    ----------
    left, x, right : arrays of shapes (..., m, m), (..., m, n) and (..., n, n)
        The matrices.
    steps : int
        Number of steps. The last row of coefficients is repeated.
    eps : float
        Added to the diagonals, relative to the norms.
    scale : float
        Divides the roots that a step multiplies by. A value a little above 1 is cautious.

    Notes
    -----
    Each side is divided by 1.05 times its Frobenius norm. A step multiplies a side Q by W^4 and `x` by W, with
    ``W = a I + b Q + c Q Q``. When Q has come near I, the product of all W is near Q^(-1/4).
    """
    norms = [at_least(frobenius(side), _LEAST_NORM) * _MARGIN for side in (left, right)]
    sides = [side / norm + eps * identity(side) for side, norm in zip((left, right), norms, strict=True)]
    for step in range(steps):
        a, b, c = _ROWS[min(step, len(_ROWS) - 1)]
        a, b, c = a / scale, b / scale**5, c / scale**9
        factors = [a * identity(q) + b * q + c * product(q, q) for q in sides]
        squares = [product(w, w) for w in factors]
        sides = [symmetric(product(q, square, square)) for q, square in zip(sides, squares, strict=True)]
        x = product(factors[0], x, factors[1])
    return x / (root(root(norms[0])) * root(root(norms[1])))
