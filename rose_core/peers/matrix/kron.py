"""PSGD Kron: momentum, whitened by a preconditioner with one factor for each axis."""

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from rose_core.namespace import Array, array_namespace, as_float64, convert, dtype_name, full
from rose_core.peers.arithmetic import clipped_to_norm, mean_of, moving_average, root, squares_of
from rose_core.peers.base import At, Rule, Total
from rose_core.peers.matrix.clipping import clipped_by_rms
from rose_core.peers.matrix.factors import MODES, balanced, nth_root, preconditioned
from rose_core.peers.matrix.fitting import fitted
from rose_core.peers.matrix.layout import require_rank, stacked, unstacked
from rose_core.peers.matrix.normals import DECISIONS, uniform_draw
from rose_core.peers.matrix.products import identity
from rose_core.peers.options import axes, boolean, choice, fraction, integer, number, optional
from rose_core.peers.scalars import real_exponential
from rose_core.rounding import to_storage

__all__ = ["Kron", "KronState", "PerAxis"]

_MOST_AXES: Final = 6


class PerAxis(NamedTuple):
    """One array for each axis of a parameter that does not count layers; None for the others."""

    axis_0: Any = None
    axis_1: Any = None
    axis_2: Any = None
    axis_3: Any = None
    axis_4: Any = None
    axis_5: Any = None


class KronState(NamedTuple):
    """The average of the gradient, the factors, and the largest norms that they met.

    Factors are stacks of matrices, of shape (layers, n, n), or of diagonals, of shape (layers, n). Norms have the
    shape (layers,).
    """

    exp_avg: Any
    factors: PerAxis
    norms: PerAxis


@dataclass(frozen=True, kw_only=True)
class Kron(Rule):
    """PSGD Kron (Li, "Preconditioned stochastic gradient descent", IEEE TNNLS 29, 2018), with the modes of rollfast.

    Parameters
    ----------
    b1 : float
        Decay rate of the average of the gradient, in [0, 1). 0 keeps no average.
    mode : str
        How a matrix factor Q is fitted: "Q0.5EQ1.5", "EQ", "QUAD", "NS", "EXP", "TAYLOR2" or "HYPER".
    precond_lr : float
        Learning rate of the factors.
    max_size : int
        Longer axes have diagonal factors.
    max_skew : float
        An axis of length d has a diagonal factor if ``d**2`` is above `max_skew` times the number of elements.
    min_ndim : int
        Parameters with fewer axes have diagonal factors only.
    memory_save_mode : str or None
        "one_diag" makes the factor of the longest axis diagonal, "all_diag" all factors.
    init_scale : float or None
        The product of all factors at first. None is ``(mean of g**4 + damping**4) ** (-1/8)``, for the first gradient
        g of each layer.
    max_probability, min_probability, probability_decay, flat_steps
        Factors are fitted at step t with the probability ``max_probability * exp(-probability_decay * (t -
        flat_steps))``, limited to [`min_probability`, `max_probability`].
    whiten_grad : bool
        Whether the factors are fitted to the gradient. False fits them to its average.
    update_first : bool
        Whether a direction uses the factors that its step has fitted.
    track_norms : bool
        Whether `precond_lr` is divided by a slowly falling average of the norms, in place of the norm of this step.
    beta_lipschitz : float
        Decay rate of this average, in [0, 1).
    damping : float
        Added to the diagonals of the products, and to the scale of the noise.
    noise_scale : float
        The scale of the noise relative to each element of the gradient.
    steps : int
        Number of Newton-Schulz steps of the mode "NS".
    balance_probability : float
        Probability that the factors are scaled to the same largest magnitude, after they have been fitted.
    update_clip : tuple of two floats, or None
        The largest root mean square and the largest magnitude of the direction of a layer. None clips nothing.
    clip_mode : str
        "per_tensor_rms" clips each layer. "global_rms" scales all parameters by one root mean square, and does not
        clip magnitudes. It computes each direction twice.
    batch_axes : tuple of int
        Axes that count layers. Each layer has its own factors.
    state_dtype, compute_dtype
        As in `rose_core.peers.Rule`.

    Notes
    -----
    With the gradient g at step t, the probe v of random numbers, and d_i the length of axis i::

        m <- b m + (1 - b) g,  b = min((t - 1) / t, b1)
        h = P (g + (damping + noise_scale |g|) v),  where P = Q' Q acts along each axis
        for each axis:  G = h h' over the other axes, c = (number of elements) / d_i,  l >= |G| + c
            L <- max(beta L + (1 - beta) l, l),  s = precond_lr / L
            "Q0.5EQ1.5":  Q <- Q - s (G Q - c Q), then a rotation towards its transpose
            "QUAD":       half of this step from the left, half from the right
            "NS":         this step, then its symmetric polar factor
            "EXP":        Q <- Q exp(-s (G - c I))
            "TAYLOR2":    Q <- Q (I - H + H H / 2),  H = min(s, 0.5 / (l - c)) (G - c I)
            "HYPER":      Q <- Q (I - H),            H = min(s, 0.9 / (l - c)) (G - c I)
            diagonal:     q <- |q (1 - s (G - c))|
        "EQ":   Q is triangular, h = Q (...), and c is the product of Q'^-1 v with itself over the other axes:
                Q <- Q - s upper(G - c) Q
        direction = P m, clipped

    When G is c I, the factors do not move any more, and P whitens the gradient. The random numbers come from the
    portable noise (`rose_core.peers.matrix.normals`). Each parameter draws its own decisions.

    rollfast differs in two places. Its "TAYLOR2" computes G from ``Q g``, so that P tends to the inverse of the
    covariance, and does not whiten. It adds `damping` to every element of G, not to the diagonal.

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight = Kron(), np.zeros((2, 2))
    >>> grad = np.asarray([[4.0, 0.0], [0.0, 1.0]])
    >>> direction, state = rule.update(grad, rule.init(weight), weight, step=1)
    >>> [tuple(q.shape) for q in state.factors[:2]]
    [(1, 2, 2), (1, 2, 2)]
    """

    b1: float = fraction(0.9)
    mode: str = choice("Q0.5EQ1.5", *(name for name in MODES if name != "Q0.5EQ1.5"))
    precond_lr: float = number(0.1, above=0.0)
    max_size: int = integer(8192)
    max_skew: float = number(1.0, least=0.0)
    min_ndim: int = integer(2)
    memory_save_mode: str | None = choice(None, "one_diag", "all_diag")
    init_scale: float | None = optional(number(1.0, above=0.0))
    max_probability: float = number(1.0, least=0.0, most=1.0)
    min_probability: float = number(0.03, least=0.0, most=1.0)
    probability_decay: float = number(1e-3, least=0.0)
    flat_steps: int = integer(500)
    whiten_grad: bool = boolean(True)
    update_first: bool = boolean(True)
    track_norms: bool = boolean(True)
    beta_lipschitz: float = fraction(0.9)
    damping: float = number(1e-9, least=0.0)
    noise_scale: float = number(2.0**-23, least=0.0)
    steps: int = integer(5, least=1)
    balance_probability: float = number(0.01, least=0.0, most=1.0)
    update_clip: tuple[float, float] | None = optional(number((2.0, 10.0), above=0.0), default=(2.0, 10.0))
    clip_mode: str = choice("per_tensor_rms", "global_rms")
    batch_axes: tuple[int, ...] = axes(())

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.whiten_grad and not self.b1:
            raise ValueError("whiten_grad=False needs b1 > 0, got b1=0.0")
        if self.min_probability > self.max_probability:
            raise ValueError(
                f"min_probability must be <= max_probability, got {self.min_probability!r} and {self.max_probability!r}"
            )

    @property
    def is_elementwise(self) -> bool:
        return False

    def check_param(self, param: Array, name: str) -> None:
        require_rank(self, param, name, 2 + len(self.batch_axes))
        batch = {axis % param.ndim for axis in self.batch_axes if -param.ndim <= axis < param.ndim}
        if len(batch) < len(self.batch_axes):
            raise ValueError(
                f"{name} has rank {param.ndim}; batch_axes={self.batch_axes!r} must name its axes, each once"
            )
        if param.ndim - len(batch) > _MOST_AXES:
            raise ValueError(
                f"{name} has rank {param.ndim}; Kron has at most {_MOST_AXES} axes beside those in batch_axes"
            )

    def init_state(self, param: Array) -> KronState:
        layers, *lengths = self._shape(param)
        scale = 1.0 if self.init_scale is None else self.init_scale
        one = nth_root(full((1, 1, 1), scale, "float64", like=param), len(lengths))
        factors, norms = [], []
        for n, diagonal in zip(lengths, self._diagonals(lengths), strict=True):
            zeros = self.zeros(param, (layers, n) if diagonal else (layers, n, n))
            ones = full((n, n), 0.0, "float64", like=param)
            start = array_namespace(one).reshape(one, (1, 1)) if diagonal else one * identity(ones)
            wide = full(tuple(zeros.shape), 0.0, "float64", like=param) + start
            factors.append(_rounded(wide, zeros))
            norms.append(self.zeros(param, (layers,)) if self.track_norms else None)
        return KronState(self.zeros(param) if self.b1 else None, PerAxis(*factors), PerAxis(*norms))

    def compute(self, g: Any, state: KronState, x: Any, at: At) -> tuple[Any, KronState]:
        direction, state = self._step(g, state, at)
        if self.update_clip and self.clip_mode == "per_tensor_rms":
            direction = clipped_by_rms(direction, *self.update_clip)
        elif self.update_clip and at.total is not None:
            direction = clipped_to_norm(direction, at.total.rms, self.update_clip[0])
        return unstacked(direction, self._order(x.ndim), tuple(x.shape)), state

    def summand(self, g: Any, state: KronState, x: Any, at: At) -> Total | None:  # noqa: ARG002
        if self.clip_mode != "global_rms" or not self.update_clip:
            return None
        return squares_of(self._step(g, state, at)[0])

    def _step(self, g: Any, state: KronState, at: At) -> tuple[Any, KronState]:
        """Return the direction of each layer before it is clipped, and the new state."""
        m, average = g, state.exp_avg
        if self.b1:
            m = average = moving_average(state.exp_avg, g, min((at.step - 1) / at.step, self.b1))
        grad, target = self._layers(g), self._layers(m)
        factors = [q for q in state.factors if q is not None]
        norms = list(state.norms[: len(factors)])
        if at.step == 1 and self.init_scale is None:
            factors = self._first(grad, factors)
        old = factors
        if uniform_draw(at, DECISIONS) < self.probability(at.step):
            factors, norms = fitted(self, grad if self.whiten_grad else target, factors, norms, at)
            if uniform_draw(at, DECISIONS + 2) < self.balance_probability:
                factors = balanced(factors)
        direction = preconditioned(factors if self.update_first else old, target, twice=True)
        return direction, KronState(average, PerAxis(*factors), PerAxis(*norms))

    def probability(self, step: int) -> float:
        """Return the probability that the factors are fitted at a step."""
        elapsed = max(0, step - self.flat_steps)
        return max(self.max_probability * real_exponential(-self.probability_decay * elapsed), self.min_probability)

    def _first(self, grad: Any, factors: list[Any]) -> list[Any]:
        """Return the factors, scaled by the first gradient."""
        xp, wide = array_namespace(grad), as_float64(grad)
        squares = wide * wide
        mean = mean_of(squares * squares, tuple(range(1, grad.ndim)), keepdims=True) + self.damping**4
        eighth = root(root(root(mean)))
        scale = nth_root(xp.ones_like(eighth) / xp.where(eighth > 0.0, eighth, 1.0), len(factors))
        scale = convert(scale, dtype_name(grad))  # type: ignore[arg-type]
        return [q * xp.reshape(scale, (-1,) + (1,) * (q.ndim - 1)) for q in factors]

    def _diagonals(self, lengths: list[int]) -> list[bool]:
        """Return for each axis whether its factor is diagonal."""
        longest = max(range(len(lengths)), key=lambda axis: (lengths[axis], axis))
        return [
            n <= 1
            or n > self.max_size
            or n * n > self.max_skew * math.prod(lengths)
            or len(lengths) < self.min_ndim
            or self.memory_save_mode == "all_diag"
            or (self.memory_save_mode == "one_diag" and axis == longest)
            for axis, n in enumerate(lengths)
        ]

    def _order(self, rank: int) -> tuple[int, ...]:
        """Return the axes of layers, then the others."""
        batch = tuple(axis % rank for axis in self.batch_axes)
        return batch + tuple(axis for axis in range(rank) if axis not in batch)

    def _shape(self, x: Array) -> tuple[int, ...]:
        """Return the number of layers, and the lengths of the other axes."""
        lengths, count = [x.shape[axis] for axis in self._order(x.ndim)], len(self.batch_axes)
        return math.prod(lengths[:count]), *lengths[count:]

    def _layers(self, x: Any) -> Any:
        return stacked(x, self._order(x.ndim), self._shape(x))


def _rounded(wide: Any, like: Array) -> Any:
    """Round a float64 array to the dtype of another one."""
    return array_namespace(like).asarray(to_storage(wide, dtype_name(like), None))
