"""The step of all factors of PSGD Kron: the probe, the products of its slices, the norms and the rates."""

import math
from typing import Any, Final

from rose_core.namespace import array_namespace, convert, dtype_name
from rose_core.peers.arithmetic import at_least, moving_average
from rose_core.peers.base import At
from rose_core.peers.matrix import normals
from rose_core.peers.matrix.factors import (
    Fit,
    fitted_diagonal,
    fitted_matrix,
    gram,
    inverse_transposed,
    preconditioned,
)
from rose_core.peers.matrix.products import identity
from rose_core.peers.matrix.spectral_norm import VECTORS, spectral_norm

__all__ = ["fitted"]

_LEAST: Final = 2.0**-126


def fitted(kron: Any, grad: Any, factors: list[Any], norms: list[Any], at: At) -> tuple[list[Any], list[Any]]:
    """Return the factors and the tracked norms after a step. `kron` has the options, `grad` the layers on axis 0."""
    is_eq, probe = kron.mode == "EQ", _probe(at, grad)
    noisy = grad + (kron.damping + kron.noise_scale * array_namespace(grad).abs(grad)) * probe
    image = preconditioned(factors, noisy, twice=not is_eq)
    if is_eq:
        for axis, q in enumerate(factors, 1):
            probe = inverse_transposed(q, probe, axis)
    new_factors, new_norms = [], []
    for axis, (q, norm) in enumerate(zip(factors, norms, strict=True), 1):
        is_diagonal, draws = q.ndim == 2, _Draws(at, axis)
        product = gram(image, axis, diagonal=is_diagonal)
        if is_eq:
            target = gram(probe, axis, diagonal=is_diagonal)
        else:
            target = float(math.prod(grad.shape[1:]) // grad.shape[axis])
            product = product + (kron.damping if is_diagonal else kron.damping * identity(product))
        bound = _bound(product, target, draws, is_eq=is_eq)
        kept = bound if norm is None else _tracked(norm, bound, kron.beta_lipschitz)
        rate = kron.precond_lr * array_namespace(kept).ones_like(kept) / at_least(kept, _LEAST)
        if is_diagonal:
            new_factors.append(fitted_diagonal(q, product - target, rate))
        else:
            new_factors.append(fitted_matrix(kron.mode, q, Fit(product, target, bound, rate, draws, kron.steps)))
        new_norms.append(None if norm is None else array_namespace(kept).reshape(kept, (-1,)))
    return new_factors, new_norms


class _Draws:
    """The random vectors for the norms of one factor. Each call takes other words."""

    def __init__(self, at: At, axis: int) -> None:
        self.at, self.start = at, normals.VECTORS + axis * 2**54

    def __call__(self, x: Any) -> Any:
        draws = normals.normal_draws(self.at, self.start, (x.shape[0], VECTORS, x.shape[-1]), x)
        self.start += 2**50
        return convert(draws, dtype_name(x))  # type: ignore[arg-type]


def _probe(at: At, grad: Any) -> Any:
    draws = normals.normal_draws(at, normals.PROBE, tuple(grad.shape), grad)
    return convert(draws, dtype_name(grad))  # type: ignore[arg-type]


def _bound(product: Any, target: Any, draws: _Draws, *, is_eq: bool) -> Any:
    """Return the estimate of the norm of ``G + c``: of shape (layers, 1, 1), or (layers, 1) for a diagonal."""
    if product.ndim > 2:
        return spectral_norm(product + target if is_eq else product, draws(product)) + (0.0 if is_eq else target)
    xp = array_namespace(product)
    return xp.max(xp.abs(product) + target, axis=-1, keepdims=True)


def _tracked(norm: Any, bound: Any, beta: float) -> Any:
    """Return the average of the norms, or the new norm if it is larger."""
    xp = array_namespace(bound)
    return xp.maximum(moving_average(xp.reshape(norm, tuple(bound.shape)), bound, beta), bound)
