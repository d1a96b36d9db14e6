"""SOAP: Adam in the eigenbases of Shampoo."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rose_core.namespace import Array, array_namespace
from rose_core.peers.arithmetic import at_least, divide, moving_average, root, sum_of
from rose_core.peers.base import At
from rose_core.peers.elementwise.adam import nesterov_average
from rose_core.peers.matrix.clipping import clipped_by_rms
from rose_core.peers.matrix.eigenvectors import eigenvectors
from rose_core.peers.matrix.layout import MatrixRule
from rose_core.peers.matrix.orthonormal import orthonormal
from rose_core.peers.matrix.products import product, transposed
from rose_core.peers.options import boolean, choice, fraction, integer, number, optional
from rose_core.peers.scalars import power

__all__ = ["SOAP", "SOAPState", "Side"]


class Side(NamedTuple):
    """The average of G G' (or of G' G) for each matrix, and its eigenvectors. Both are None for long sides."""

    covariance: Any
    basis: Any


class SOAPState(NamedTuple):
    """The averages of the gradient and of its square in the eigenbases, for each matrix, and both sides.

    With ``rotate_moments=True``, `exp_avg` is in the basis of the parameter.
    """

    exp_avg: Any
    exp_avg_sq: Any
    outputs: Side
    inputs: Side


@dataclass(frozen=True, kw_only=True)
class SOAP(MatrixRule):
    """SOAP (Vyas and others, "SOAP: improving and stabilizing Shampoo using Adam", ICLR 2025).

    Parameters
    ----------
    betas : tuple of two floats
        Decay rates of the averages of the gradient and of its square, in [0, 1).
    shampoo_beta : float or None
        Decay rate of the covariances, in [0, 1). None is the second of `betas`.
    eps : float
        Added to the root of the second moment, >= 0.
    eps_added_to : str
        "corrected" adds `eps` to the root of the corrected moment, as in Adam. "uncorrected" adds it before the
        correction, as the authors do.
    precondition_frequency : int
        Number of steps between two updates of the bases.
    current_gradient : bool
        Whether a step reads covariances that include its gradient, as in emerging_optimizers and rlx-optim. False
        updates covariances and bases after the direction, and the first step only fills them: its direction is 0.
        The authors do so.
    correct_shampoo_beta : bool
        Whether the covariances are exact averages from the first step on, as in emerging_optimizers.
    basis : str
        How bases are updated after the first step: "qr" is one step of the power method, as by the authors; "jacobi"
        computes all eigenvectors, as in rlx-optim.
    power_iterations : int
        Number of steps of the power method at each update of a basis.
    rotate_moments : bool
        Whether the first moment moves to new bases. False keeps it, as in rlx-optim.
    permute_moments : bool
        Whether the second moment follows eigenvectors that change their order, with ``basis="qr"``.
    correct_bias : bool
        Whether the averages are divided by ``1 - beta**step``.
    nesterov : bool
        Whether the numerator looks one step ahead.
    kl_shampoo : bool
        Whether each covariance is that of the gradient whitened on the other side, as in KL-Shampoo (Lin and others,
        arXiv:2509.03378) and emerging_optimizers. The first step whitens nothing.
    max_size : int
        Sides that are longer keep the basis of the parameter.
    max_update_rms : float or None
        The largest root mean square of the direction of a matrix. None clips nothing.
    batch_axes, output_axis, reduction_axes, state_dtype, compute_dtype
        As in `rose_core.peers.matrix.layout.MatrixRule`.

    Notes
    -----
    With the gradient G of a matrix, at each step, and B = `shampoo_beta`::

        L <- B L + (1 - B) G G';  R <- B R + (1 - B) G' G
        kl_shampoo: G V diag(max(eps, diag(V' R V)))^-1 V' G' / n in place of G G' for n inputs, and alike for R
        every precondition_frequency steps: U, V <- eigenvectors of L, R
        M <- b1 M + (1 - b1) G;   v <- b2 v + (1 - b2) (U' G V)^2
        direction = U (U' M V / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) V'

    The first gradient is diagonal in its own bases, but for rounding errors. Adam scales these up to about
    ``1e-16 |G| / eps``, so a tiny `eps` turns them into steps. With ``current_gradient=False`` it does not.

    Eigenvectors come from Jacobi rotations and Householder reflections, with the same bits on every library. For sides
    of more than a few hundred rows they take long; see `rose_core.peers.matrix.eigenvectors`.

    The authors have ``current_gradient=False``, ``precondition_frequency=10`` and ``eps_added_to="uncorrected"``.
    emerging_optimizers has ``correct_shampoo_beta=True`` and ``precondition_frequency=1``. rlx-optim has
    ``basis="jacobi"`` and ``rotate_moments=False``.

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight = SOAP(), np.zeros((2, 2))
    >>> direction, state = rule.update(np.asarray([[1.0, 1.0], [1.0, 1.0]]), rule.init(weight), weight, step=1)
    >>> direction.round(6).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """

    betas: tuple[float, float] = fraction((0.95, 0.95))
    shampoo_beta: float | None = optional(fraction(0.95), default=0.95)
    eps: float = number(1e-8, least=0.0)
    eps_added_to: str = choice("corrected", "uncorrected")
    precondition_frequency: int = integer(10, least=1)
    current_gradient: bool = boolean(True)
    correct_shampoo_beta: bool = boolean(False)
    basis: str = choice("qr", "jacobi")
    power_iterations: int = integer(1, least=1)
    rotate_moments: bool = boolean(True)
    permute_moments: bool = boolean(True)
    correct_bias: bool = boolean(True)
    nesterov: bool = boolean(False)
    kl_shampoo: bool = boolean(False)
    max_size: int = integer(10000)
    max_update_rms: float | None = optional(number(1.0, above=0.0))

    default_weight_decay: ClassVar[float] = 0.01

    def init_state(self, param: Array) -> SOAPState:
        batch, rows, columns = shape = self.shape_of(param)
        sides = [
            Side(*(self.zeros(param, (batch, n, n)) if n <= self.max_size else None for _ in range(2)))
            for n in (rows, columns)
        ]
        return SOAPState(self.zeros(param, shape), self.zeros(param, shape), *sides)

    def compute(self, g: Any, state: SOAPState, x: Any, at: At) -> tuple[Any, SOAPState]:
        grad = self.matrices(g)
        if not self.current_gradient and at.step == 1:
            return array_namespace(g).zeros_like(g), self._with_bases(grad, state, 1)
        if self.current_gradient:
            state = self._with_bases(grad, state, at.step)
        m, v, outputs, inputs = state
        left, right = outputs.basis, inputs.basis
        projected = _between(left, grad, right, forward=True)
        m = moving_average(m, grad if self.rotate_moments else projected, self.betas[0])
        v = moving_average(v, projected * projected, self.betas[1])
        first = _between(left, m, right, forward=True) if self.rotate_moments else m
        step = at.step if self.current_gradient else at.step - 1
        direction = _between(left, self._adam(first, v, projected, step), right, forward=False)
        if self.max_update_rms:
            direction = clipped_by_rms(direction, self.max_update_rms)
        state = SOAPState(m, v, outputs, inputs)
        if not self.current_gradient:
            state = self._with_bases(grad, state, at.step)
        return self.restored(direction, x), state

    def _adam(self, m: Any, v: Any, g: Any, step: int) -> Any:
        correction = 1.0 - power(self.betas[1], step) if self.correct_bias else 1.0
        if self.nesterov:
            m = nesterov_average(m, g, self.betas[0], step, correct_bias=self.correct_bias)
        elif self.correct_bias:
            m = divide(m, 1.0 - power(self.betas[0], step))
        if self.eps_added_to == "corrected":
            return m / (root(divide(v, correction)) + self.eps)
        scale = root(correction * array_namespace(v).ones_like(v))
        return m * scale / (root(v) + self.eps)

    def _with_bases(self, grad: Any, state: SOAPState, step: int) -> SOAPState:
        """Return the state with this gradient in the covariances, and with new bases if they are due."""
        beta = self.betas[1] if self.shampoo_beta is None else self.shampoo_beta
        if self.correct_shampoo_beta:
            beta = 1.0 - (1.0 - beta) / (1.0 - power(beta, step))
        v, sides = state.exp_avg_sq, []
        outputs, inputs = state.outputs, state.inputs
        for side, other, factor, axis in ((outputs, inputs, grad, -2), (inputs, outputs, transposed(grad), -1)):
            if side.covariance is None:
                sides.append(side)
                continue
            summand = self._kl_summand(factor, other, step) if self.kl_shampoo else product(factor, transposed(factor))
            covariance, basis = moving_average(side.covariance, summand, beta), side.basis
            if step == 1 or (self.basis == "jacobi" and (step - 1) % self.precondition_frequency == 0):
                basis = eigenvectors(covariance)[1]
            elif (step - 1) % self.precondition_frequency == 0:
                basis, v = self._power_method(covariance, basis, v, axis)
            sides.append(Side(covariance, basis))
        return SOAPState(state.exp_avg, v, *sides)

    def _kl_summand(self, factor: Any, other: Side, step: int) -> Any:
        """Return the summand of a covariance, given the other side before the step."""
        if other.basis is not None and step > 1:
            values = sum_of(other.basis * product(other.covariance, other.basis), -2)
            factor = product(factor, other.basis) / root(at_least(values, self.eps))[..., None, :]
        return divide(product(factor, transposed(factor)), float(factor.shape[-1]))

    def _power_method(self, covariance: Any, basis: Any, v: Any, axis: int) -> tuple[Any, Any]:
        """Return the basis after steps of the power method, sorted by eigenvalues, and the second moment."""
        xp = array_namespace(covariance)
        for _ in range(self.power_iterations):
            image = product(covariance, basis)
            order = xp.argsort(-sum_of(basis * image, -2), axis=-1, stable=True)
            basis = orthonormal(_taken(image, order, -1))
            if self.permute_moments:
                v = _taken(v, order, axis)
        return basis, v


def _between(left: Any, x: Any, right: Any, *, forward: bool) -> Any:
    """Return ``left' x right`` if `forward`, else ``left x right'``. A basis that is None is the identity."""
    if left is not None:
        x = product(transposed(left) if forward else left, x)
    if right is not None:
        x = product(x, right if forward else transposed(right))
    return x


def _taken(x: Any, order: Any, axis: int) -> Any:
    """Return the columns (axis -1) or rows (axis -2) of each matrix in the order that is given for it."""
    xp = array_namespace(x)
    order = order[..., None, :] if axis == -1 else order[..., None]
    return xp.take_along_axis(x, xp.broadcast_to(order, tuple(x.shape)), axis=axis)
