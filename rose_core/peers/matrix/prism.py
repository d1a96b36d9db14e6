"""PRISM: momentum, shaped by the innovation of the gradient."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rose_core.namespace import Array, array_namespace, as_float64, convert, dtype_name
from rose_core.peers.arithmetic import at_least, divide, moving_average, root, sum_of
from rose_core.peers.base import At
from rose_core.peers.elementwise.adam import nesterov_average
from rose_core.peers.matrix.clipping import clipped_by_rms
from rose_core.peers.matrix.inverse_root import between_inverse_fourth_roots
from rose_core.peers.matrix.newton_schulz import NewtonSchulzRule, newton_schulz
from rose_core.peers.matrix.products import frobenius, identity, product, transposed
from rose_core.peers.options import boolean, choice, fraction, integer, number, optional
from rose_core.peers.scalars import power

__all__ = ["PRISM", "PRISMState"]


class PRISMState(NamedTuple):
    """The moving average of the gradient."""

    exp_avg: Any


@dataclass(frozen=True, kw_only=True)
class PRISM(NewtonSchulzRule):
    """PRISM (Yang, "PRISM: structured optimization via anisotropic spectral shaping", arXiv:2602.03096).

    The two-sided form is by Cesista, "Shampoo-PRISM", 2026.

    Parameters
    ----------
    b1 : float
        Decay rate of the average, in [0, 1).
    gamma : float
        Weight of the innovation, the gradient minus its average.
    mode : str
        "original" shapes the directions on the side of the outputs, "bidirectional" on both sides.
    gamma_l, gamma_r : float or None
        The weights on the sides of the inputs and of the outputs, for "bidirectional". None is `gamma`.
    inv_steps : int
        Number of steps of the inverse roots, for "bidirectional".
    inv_eps : float
        Added to the diagonals inside the inverse roots, relative to their norms.
    inv_scale : float
        Divides the steps of the inverse roots. A value a little above 1 is cautious.
    eps_gram : float
        Added to the diagonals of the products, relative to the squared norm.
    nesterov : bool
        Whether the target is the average one step ahead.
    shape_nesterov : bool
        Whether the target is shaped. False shapes the average, and looks ahead afterwards.
    bias_correction : bool
        Whether the target is corrected for the start at 0. The innovation is not.
    update_clip : tuple of two floats, or None
        The largest root mean square and the largest magnitude of the direction of a matrix. None clips nothing.
    eps : float
        Added to the norm that the matrix of "original" is divided by.
    coefficient_set, custom_coefficients, steps
        As in `rose_core.peers.matrix.newton_schulz.NewtonSchulzRule`, for "original".
    batch_axes, output_axis, reduction_axes, state_dtype, compute_dtype
        As in `rose_core.peers.matrix.layout.MatrixRule`.

    Notes
    -----
    For a matrix with rows of outputs, with the gradient G, its average M and the target T::

        M <- b1 M + (1 - b1) G;   D = G - M;   T = b1 M + (1 - b1) G, or M without nesterov
        original:       the first columns of newton_schulz([T, gamma D]), which are nearly
                        (T T' + gamma^2 D D')^(-1/2) T
        bidirectional:  (T T' + gamma_r^2 D D' + eps_gram I)^(-1/4) T (T' T + gamma_l^2 D' D + eps_gram I)^(-1/4)
                        with T and D divided by a common norm

    rollfast flattens weights to (inputs, outputs). So it has the transposed of these formulas, and gives the same
    directions. Its default for two axes is weights of shape (in, out): take ``output_axis=1`` for them.

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight = PRISM(mode="bidirectional", gamma=0.0), np.zeros((2, 2))
    >>> direction, state = rule.update(np.asarray([[3.0, 0.0], [0.0, -0.5]]), rule.init(weight), weight, step=1)
    >>> direction.round(1).tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    """

    b1: float = fraction(0.95)
    gamma: float = number(1.0, least=0.0)
    mode: str = choice("original", "bidirectional")
    gamma_l: float | None = optional(number(1.0, least=0.0))
    gamma_r: float | None = optional(number(1.0, least=0.0))
    inv_steps: int = integer(6, least=1)
    inv_eps: float = number(1e-5, least=0.0)
    inv_scale: float = number(1.001, above=0.0)
    eps_gram: float = number(1e-6, least=0.0)
    nesterov: bool = boolean(True)
    shape_nesterov: bool = boolean(True)
    bias_correction: bool = boolean(False)
    update_clip: tuple[float, float] | None = optional(number((2.0, 10.0), above=0.0), default=(2.0, 10.0))
    eps: float = number(1e-8, above=0.0)

    def init_state(self, param: Array) -> PRISMState:
        return PRISMState(self.zeros(param))

    def compute(self, g: Any, state: PRISMState, x: Any, at: At) -> tuple[Any, PRISMState]:
        m = moving_average(state.exp_avg, g, self.b1)
        target = self._target(m, g, at.step) if self.shape_nesterov else m
        shape = self._one_sided if self.mode == "original" else self._two_sided
        direction = shape(self.matrices(target), self.matrices(g - m))
        if self.nesterov and not self.shape_nesterov:
            direction = moving_average(direction, self.matrices(g), self.b1)
        if self.update_clip:
            direction = clipped_by_rms(direction, *self.update_clip)
        return self.restored(direction, x), PRISMState(m)

    def _target(self, m: Any, g: Any, step: int) -> Any:
        if self.nesterov:
            return nesterov_average(m, g, self.b1, step, correct_bias=self.bias_correction)
        return divide(m, 1.0 - power(self.b1, step)) if self.bias_correction else m

    def _one_sided(self, target: Any, innovation: Any) -> Any:
        wide = array_namespace(target).concat([target, self.gamma * innovation], axis=-1)
        shaped = newton_schulz(wide / (frobenius(wide) + self.eps), self.rows())
        return shaped[..., : target.shape[-1]]

    def _two_sided(self, target: Any, innovation: Any) -> Any:
        gamma_l, gamma_r = (self.gamma if side is None else side for side in (self.gamma_l, self.gamma_r))
        gamma = max(gamma_l, gamma_r)
        norm = _joint_norm(target, gamma * innovation)
        t, d = target / norm, innovation / norm
        outputs = product(t, transposed(t)) + gamma_r**2 * product(d, transposed(d)) + self.eps_gram * identity(t)
        t_inputs, d_inputs = transposed(t), transposed(d)
        inputs = product(t_inputs, t) + gamma_l**2 * product(d_inputs, d) + self.eps_gram * identity(t_inputs)
        return between_inverse_fourth_roots(
            outputs, t, inputs, steps=self.inv_steps, eps=self.inv_eps, scale=self.inv_scale
        )


def _joint_norm(x: Any, y: Any) -> Any:
    """Return the Frobenius norm of two matrices side by side, but at least 1e-30."""
    squares = [sum_of(z * z, (-2, -1), keepdims=True) for z in map(as_float64, (x, y))]
    norm = convert(root(squares[0] + squares[1]), dtype_name(x))  # type: ignore[arg-type]
    return at_least(norm, 1e-30)
