"""Muon: momentum with orthogonal directions."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.arithmetic import moving_average
from rose_core.peers.base import At
from rose_core.peers.matrix.layout import MatrixRule
from rose_core.peers.matrix.newton_schulz import (
    COEFFICIENTS,
    Coefficients,
    coefficient_rows,
    newton_schulz,
    normalized,
)
from rose_core.peers.options import boolean, choice, coefficients, fraction, integer, number

__all__ = ["Muon", "MuonState"]


class MuonState(NamedTuple):
    """The momentum."""

    momentum_buffer: Any


@dataclass(frozen=True, kw_only=True)
class Muon(MatrixRule):
    """Muon (Jordan and others, "Muon: an optimizer for hidden layers in neural networks", 2024).

    Parameters
    ----------
    momentum : float
        Decay rate of the momentum, in [0, 1).
    momentum_kind : str
        "average" is ``M <- momentum M + (1 - momentum) G``, as in torch and emerging_optimizers. "heavy_ball" is
        ``M <- momentum M + G``, as in rlx-optim.
    nesterov : bool
        Whether the momentum looks one step ahead.
    coefficient_set : str
        Coefficients of the Newton-Schulz steps: "simple", "quintic", "polar_express", "cans", "aol", "deepseekv4",
        "cubic5" or "custom".
    custom_coefficients : tuple of tuples of three floats, or None
        The coefficients of each step, with ``coefficient_set="custom"``.
    steps : int
        Number of Newton-Schulz steps. Beyond its last row, a set repeats that row ("polar_express", "cans",
        "deepseekv4") or starts again. A set that starts again needs a multiple of its length: 5 for "quintic", 4 for
        "aol". "cubic5" needs 5 steps.
    scale : str
        Scale of a direction for m outputs and n inputs: "spectral" is sqrt(max(m, n)), "shape_scaling" is
        sqrt(max(1, m / n)), "unit_rms" is sqrt(m / n).
    extra_scale : float
        A further factor. 0.2 with "spectral" is the scale "match_rms_adamw" of torch.
    eps : float
        Least norm that a matrix is divided by.
    batch_axes, output_axis, reduction_axes, state_dtype, compute_dtype
        As in `MatrixRule`.

    Notes
    -----
    With the gradient G and the momentum M of a matrix::

        M <- momentum M + (1 - momentum) G
        N = momentum M + (1 - momentum) G with Nesterov's momentum (a heavy ball: G + momentum M), else M
        direction = scale * newton_schulz(N / |N|_F)

    The defaults are those of emerging_optimizers. torch has ``nesterov=True``, ``coefficient_set="simple"``,
    ``scale="shape_scaling"`` and ``eps=1e-7``, and multiplies in bfloat16. rlx-optim has a heavy ball with
    ``nesterov=True`` and ``coefficient_set="simple"``.

    With "aol", the direction of a singular value above 0.883 of the Frobenius norm is reversed, so the step ascends
    along it. This is so in emerging_optimizers too. Matrices of rank 1 have such a value.

    Examples
    --------
    >>> import numpy as np
    >>> rule, weight = Muon(coefficient_set="polar_express", steps=12), np.zeros((2, 2))
    >>> direction, state = rule.update(np.asarray([[3.0, 0.0], [0.0, -0.5]]), rule.init(weight), weight, step=1)
    >>> (direction / np.sqrt(2)).round(3).tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    """

    momentum: float = fraction(0.95)
    momentum_kind: str = choice("average", "heavy_ball")
    nesterov: bool = boolean(False)
    coefficient_set: str = choice("quintic", *(name for name in COEFFICIENTS if name != "quintic"), "custom")
    custom_coefficients: tuple[Coefficients, ...] | None = coefficients()
    steps: int = integer(5, least=1)
    scale: str = choice("spectral", "shape_scaling", "unit_rms")
    extra_scale: float = number(1.0, above=0.0)
    eps: float = number(1e-15, above=0.0)

    default_weight_decay: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.coefficient_set == "custom") != (self.custom_coefficients is not None):
            raise ValueError(
                'custom_coefficients must be given with coefficient_set="custom", and only then; got '
                f"coefficient_set={self.coefficient_set!r} and custom_coefficients={self.custom_coefficients!r}"
            )
        self._rows()

    def init_state(self, param: Array) -> MuonState:
        return MuonState(self.zeros(param))

    def compute(self, g: Any, state: MuonState, x: Any, at: At) -> tuple[Any, MuonState]:  # noqa: ARG002
        mu, buffer = self.momentum, state.momentum_buffer
        if self.momentum_kind == "average":
            m = moving_average(buffer, g, mu)
            ahead = moving_average(m, g, mu) if self.nesterov else m
        else:
            m = mu * buffer + g
            ahead = g + mu * m if self.nesterov else m
        orthogonal = newton_schulz(normalized(self.matrices(ahead), self.eps), self._rows())
        return self.restored(self._factor(x) * orthogonal, x), MuonState(m)

    def _rows(self) -> tuple[Coefficients, ...]:
        return coefficient_rows(self.coefficient_set, self.steps, self.custom_coefficients)

    def _factor(self, param: Array) -> float:
        _, m, n = self.shape_of(param)
        ratio = {"spectral": max(m, n), "shape_scaling": max(1.0, m / n), "unit_rms": m / n}[self.scale]
        return self.extra_scale * math.sqrt(ratio)
