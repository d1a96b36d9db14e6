"""Products, norms and the identity, for stacks of matrices in the operation dtype of a rule.

Sums and products are reproducible and computed in float64. With compute dtype fp32, each result is rounded once.
"""

from typing import Any

from rose_core.namespace import array_namespace, as_float64, convert, dtype_name
from rose_core.peers.arithmetic import l2, sum_of
from rose_core.peers.matmul import float64_product, transposed

__all__ = ["diagonal", "frobenius", "identity", "largest_magnitude", "product", "symmetric", "trace", "transposed"]


def product(*factors: Any) -> Any:
    """Return the product of matrices, from left to right."""
    result = factors[0]
    for factor in factors[1:]:
        wide = float64_product(as_float64(result), as_float64(factor))
        result = convert(wide, dtype_name(factor))  # type: ignore[arg-type]
    return result


def frobenius(x: Any) -> Any:
    """Return the Frobenius norm of each matrix. Both axes keep the size 1."""
    return l2(x, (-2, -1))


def largest_magnitude(x: Any) -> Any:
    """Return the largest magnitude of each matrix. Both axes keep the size 1."""
    xp = array_namespace(x)
    return xp.max(xp.abs(x), axis=(-2, -1), keepdims=True)


def identity(x: Any) -> Any:
    """Return the identity matrix for the rows of `x`."""
    xp = array_namespace(x)
    return xp.eye(x.shape[-2], dtype=x.dtype, device=x.device)


def symmetric(x: Any) -> Any:
    """Return the symmetric part of each matrix."""
    return 0.5 * (x + transposed(x))


def diagonal(x: Any) -> Any:
    """Return the diagonal of each matrix as a vector."""
    xp = array_namespace(x)
    return xp.sum(xp.where(identity(x) > 0.0, x, 0.0), axis=-1)  # one summand of each sum is not 0


def trace(x: Any) -> Any:
    """Return the trace of each matrix. Two axes of size 1 stand for the matrix."""
    return sum_of(diagonal(x), -1, keepdims=True)[..., None]
