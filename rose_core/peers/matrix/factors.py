"""The factors of PSGD Kron: one for each axis of a parameter, and the steps that fit them.

A factor is a stack of square matrices Q, or of vectors for diagonal matrices. The preconditioner of an axis is
``P = Q' Q``. Arrays have the layers on axis 0, and the axes of a parameter after it.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from rose_core.namespace import array_namespace
from rose_core.peers.arithmetic import at_least, root, sum_of
from rose_core.peers.matrix.exponential import exponential
from rose_core.peers.matrix.layout import stacked, unstacked
from rose_core.peers.matrix.products import identity, product, symmetric, trace, transposed
from rose_core.peers.matrix.spectral_norm import spectral_norm
from rose_core.peers.matrix.triangular import solved, upper

__all__ = [
    "MODES",
    "Fit",
    "applied",
    "balanced",
    "fitted_diagonal",
    "fitted_matrix",
    "gram",
    "inverse_transposed",
    "nth_root",
    "preconditioned",
]

_LEAST: Final = 2.0**-126
_MOST_ROTATION: Final = 1 / 8


class Fit(NamedTuple):
    """The arguments of the step of a matrix factor.

    Attributes
    ----------
    gram : G, the matrix that is to become a multiple of the identity.
    target : c, this multiple. For "EQ" a matrix.
    norm : the estimate of the norm of ``G + c``.
    rate : the learning rate, divided by the tracked norm.
    draws : returns random vectors of the shape (layers, `VECTORS`, n), given a matrix. Each call gives others.
    steps : the number of Newton-Schulz steps of "NS".
    """

    gram: Any
    target: Any
    norm: Any
    rate: Any
    draws: Callable[[Any], Any]
    steps: int


def unfolded(x: Any, axis: int) -> Any:
    """Return stacks of matrices with an axis as rows, and all others as columns."""
    return stacked(x, _order(axis, x.ndim), (x.shape[0], x.shape[axis], -1))


def folded(rows: Any, axis: int, shape: tuple[int, ...]) -> Any:
    """Return the array that `unfolded` made matrices of."""
    return unstacked(rows, _order(axis, len(shape)), shape)


def _order(axis: int, rank: int) -> tuple[int, ...]:
    return (0, axis, *(i for i in range(1, rank) if i != axis))


def applied(q: Any, x: Any, axis: int, *, twice: bool) -> Any:
    """Return ``Q x`` along an axis, or ``Q' Q x`` if `twice`."""
    rows = unfolded(x, axis)
    if q.ndim == 2:
        rows = q[..., None] * rows
        rows = q[..., None] * rows if twice else rows
    else:
        rows = product(q, rows)
        rows = product(transposed(q), rows) if twice else rows
    return folded(rows, axis, tuple(x.shape))


def preconditioned(factors: list[Any], x: Any, *, twice: bool) -> Any:
    """Return ``Q x`` along all axes, or ``P x`` if `twice`."""
    for axis, q in enumerate(factors, 1):
        x = applied(q, x, axis, twice=twice)
    return x


def inverse_transposed(q: Any, x: Any, axis: int) -> Any:
    """Return ``Q'^-1 x`` along an axis, for an upper triangular Q."""
    rows = unfolded(x, axis)
    return folded(rows / q[..., None] if q.ndim == 2 else solved(transposed(q), rows), axis, tuple(x.shape))


def gram(x: Any, axis: int, *, diagonal: bool) -> Any:
    """Return the products of all slices along an axis with each other, or of each with itself if `diagonal`."""
    rows = unfolded(x, axis)
    return sum_of(rows * rows, -1) if diagonal else product(rows, transposed(rows))


def fitted_diagonal(q: Any, difference: Any, rate: Any) -> Any:
    """Return a diagonal factor after a step."""
    return array_namespace(q).abs(q * (1.0 - rate * difference))


def fitted_matrix(mode: str, q: Any, fit: Fit) -> Any:
    """Return a matrix factor after a step."""
    return MODES[mode](q, fit)


def balanced(factors: list[Any]) -> list[Any]:
    """Scale factors so that they have the same largest magnitude. Their product stays the same."""
    xp = array_namespace(factors[0])
    sizes = [xp.max(xp.abs(q), axis=tuple(range(1, q.ndim))) for q in factors]
    mean = sizes[0]
    for size in sizes[1:]:
        mean = mean * size
    mean = nth_root(mean, len(sizes))
    scales = [mean / at_least(size, _LEAST) for size in sizes]
    return [q * xp.reshape(s, (-1,) + (1,) * (q.ndim - 1)) for q, s in zip(factors, scales, strict=True)]


def nth_root(x: Any, n: int) -> Any:
    """Return the n-th root of positive numbers, by square roots and else by Newton's method from above."""
    while n % 2 == 0:
        x, n = root(x), n // 2
    if n == 1:
        return x
    xp = array_namespace(x)
    count, y = xp.full_like(x, float(n)), xp.maximum(x, xp.ones_like(x))
    for _ in range(200):
        power = y
        for _ in range(n - 2):
            power = power * y
        y = ((count - 1.0) * y + x / power) / count
    return y


def _residual(q: Any, fit: Fit) -> Any:
    return product(fit.gram, q) - fit.target * q


def _eq(q: Any, fit: Fit) -> Any:
    return q - fit.rate * product(upper(fit.gram - fit.target), q)


def _rotated(q: Any, fit: Fit) -> Any:
    """Rotate towards the symmetric factor: a step of the orthogonal Procrustes problem."""
    xp = array_namespace(q)
    q = q - fit.rate * _residual(q, fit)
    skew = transposed(q) - q
    skew = skew / at_least(spectral_norm(skew, fit.draws(q)), _LEAST)
    once = product(skew, q)
    twice = product(skew, once)
    curvature = trace(twice)
    is_concave = curvature < 0.0
    best = -trace(once) / xp.where(is_concave, curvature, -1.0)
    angle = xp.where(is_concave & (best < _MOST_ROTATION), best, _MOST_ROTATION)
    return q + angle * (once + 0.5 * angle * twice)


def _quad(q: Any, fit: Fit) -> Any:
    p = q - 0.5 * fit.rate * _residual(q, fit)
    return symmetric(p - 0.5 * fit.rate * (product(p, fit.gram) - p * fit.target))


def _newton_schulz(q: Any, fit: Fit) -> Any:
    """Return the symmetric factor of the polar decomposition of the step."""
    q = q - fit.rate * _residual(q, fit)
    x = q / at_least(root(spectral_norm(product(transposed(q), q), fit.draws(q))), _LEAST)
    for _ in range(fit.steps):
        x = product(0.5 * x, 3.0 * identity(x) - product(transposed(x), x))
    return symmetric(product(transposed(x), q))


def _exponential(q: Any, fit: Fit) -> Any:
    return symmetric(product(q, exponential(-(fit.rate * _centered(fit)))))


def _taylor2(q: Any, fit: Fit) -> Any:
    h = _limited_rate(fit, 0.5) * _centered(fit)
    return symmetric(product(q, identity(h) - product(h, identity(h) - 0.5 * h)))


def _hyper(q: Any, fit: Fit) -> Any:
    h = _limited_rate(fit, 0.9) * _centered(fit)
    return symmetric(product(q, identity(h) - h))


def _centered(fit: Fit) -> Any:
    return fit.gram - fit.target * identity(fit.gram)


def _limited_rate(fit: Fit, limit: float) -> Any:
    xp = array_namespace(fit.rate)
    most = limit * xp.ones_like(fit.norm) / at_least(fit.norm - fit.target, _LEAST)
    return xp.where(fit.rate > most, most, fit.rate)


MODES: Final[dict[str, Callable[[Any, Fit], Any]]] = {
    "Q0.5EQ1.5": _rotated,
    "EQ": _eq,
    "QUAD": _quad,
    "NS": _newton_schulz,
    "EXP": _exponential,
    "TAYLOR2": _taylor2,
    "HYPER": _hyper,
}
"""The step of a matrix factor, by the names of rollfast."""
