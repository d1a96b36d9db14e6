"""Muon: momentum with orthogonal directions."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rose_core.namespace import Array
from rose_core.peers.arithmetic import moving_average
from rose_core.peers.base import At
from rose_core.peers.matrix.newton_schulz import COEFFICIENTS, NewtonSchulzRule, newton_schulz, normalized
from rose_core.peers.options import boolean, choice, fraction, number

__all__ = ["Muon", "MuonState"]


class MuonState(NamedTuple):
    """The momentum."""

    momentum_buffer: Any


@dataclass(frozen=True, kw_only=True)
class Muon(NewtonSchulzRule):
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
    scale : str
        Scale of a direction for m outputs and n inputs: "spectral" is sqrt(max(m, n)), "shape_scaling" is
        sqrt(max(1, m / n)), "unit_rms" is sqrt(m / n).
    extra_scale : float
        A further factor. 0.2 with "spectral" is the scale "match_rms_adamw" of torch.
    eps : float
        Least norm that a matrix is divided by.
    coefficient_set, custom_coefficients, steps
        As in `rose_core.peers.matrix.newton_schulz.NewtonSchulzRule`.
    batch_axes, output_axis, reduction_axes, state_dtype, compute_dtype
        As in `rose_core.peers.matrix.layout.MatrixRule`.

    Notes
    -----
    With the gradient G and the momentum M of a matrix::

        M <- momentum M + (1 - momentum) G
        N = momentum M + (1 - momentum) G with Nesterov's momentum (a heavy ball: G + momentum M), else M
        direction = scale * newton_schulz(N / |N|_F)

    The defaults are those of emerging_optimizers. The defaults of torch are ``nesterov=True``,
    ``coefficient_set="simple"``, ``scale="shape_scaling"`` and ``eps=1e-7``; torch multiplies in bfloat16. rlx-optim
    has a heavy ball, with ``nesterov=True`` and ``coefficient_set="simple"``.

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
    scale: str = choice("spectral", "shape_scaling", "unit_rms")
    extra_scale: float = number(1.0, above=0.0)
    eps: float = number(1e-15, above=0.0)

    default_weight_decay: ClassVar[float] = 0.01

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
        orthogonal = newton_schulz(normalized(self.matrices(ahead), self.eps), self.rows())
        return self.restored(self._factor(x) * orthogonal, x), MuonState(m)

    def _factor(self, param: Array) -> float:
        _, m, n = self.shape_of(param)
        ratio = {"spectral": max(m, n), "shape_scaling": max(1.0, m / n), "unit_rms": m / n}[self.scale]
        return self.extra_scale * math.sqrt(ratio)
