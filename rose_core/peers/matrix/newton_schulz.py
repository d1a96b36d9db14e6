"""Newton-Schulz iterations: orthogonal factors by matrix products alone.

A step maps each singular value s to ``a s + b s^3 + c s^5``. With good coefficients, a few steps bring all of them
near 1. The result is then near the orthogonal factor U V' of U S V'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rose_core.peers.arithmetic import at_least
from rose_core.peers.matrix.layout import MatrixRule
from rose_core.peers.matrix.products import frobenius, product, transposed
from rose_core.peers.options import choice, coefficients, integer

__all__ = ["COEFFICIENTS", "Coefficients", "NewtonSchulzRule", "coefficient_rows", "newton_schulz", "normalized"]

Coefficients = tuple[float, float, float]
"""a, b and c of one step."""

_JORDAN: Final = (3.4445, -4.775, 2.0315)

COEFFICIENTS: Final[dict[str, tuple[Coefficients, ...]]] = {
    # Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024
    "simple": (_JORDAN,),
    # Cesista, You and Jordan, "Squeezing 1-2% efficiency gains out of Muon", 2025
    "quintic": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    # Amsel, Persson, Musco and Gower, arXiv:2505.16932; divided by 1.01, 1.01^3 and 1.01^5, and rounded
    "polar_express": (
        (8.2051, -22.9019, 16.4607),
        (4.0664, -2.8612, 0.5184),
        (3.9096, -2.8234, 0.5250),
        (3.2856, -2.4153, 0.4853),
        (2.2779, -1.6198, 0.3985),
        (1.8726, -1.2307, 0.3585),
        (1.8564, -1.2132, 0.3568),
        (1.8750, -1.2500, 0.3750),
    ),
    # Grishina, Smirnov and Rakhuba, arXiv:2506.10935
    "cans": (
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        (2.2737, -1.6447, 0.4162),
    ),
    # Boissin and others, "Turbo-Muon", 2025. A singular value above 0.883 changes its sign.
    "aol": (
        (4.0098, -7.0585, 2.4635),
        (3.4585, -5.5479, 2.5959),
        (2.7573, -3.2939, 1.4254),
        (2.7215, -3.0494, 1.3169),
    ),
    # DeepSeek-V4, arXiv:2606.19348: eight fast steps, then steps that converge to 1
    "deepseekv4": (_JORDAN,) * 8 + ((2.0, -1.5, 0.5),) * 2,
    # steps of degree 3, from emerging_optimizers
    "cubic5": (
        (3.3656576, -3.3420992, 0.0),
        (2.5744352, -1.4957376, 0.0),
        (2.5368962, -1.4312570, 0.0),
        (2.4418906, -1.2764040, 0.0),
        (2.2230472, -0.9630650, 0.0),
    ),
}
"""The coefficients of each step, by the names of emerging_optimizers."""

_REPEATS_LAST: Final = frozenset({"polar_express", "cans", "deepseekv4"})


@dataclass(frozen=True, kw_only=True)
class NewtonSchulzRule(MatrixRule):
    """A rule with Newton-Schulz steps.

    Parameters
    ----------
    coefficient_set : str
        Coefficients of the steps: "simple", "quintic", "polar_express", "cans", "aol", "deepseekv4", "cubic5" or
        "custom".
    custom_coefficients : tuple of tuples of three floats, or None
        The coefficients of each step, with ``coefficient_set="custom"``.
    steps : int
        Number of steps. Beyond its last row, a set repeats that row ("polar_express", "cans", "deepseekv4") or starts
        again. A set that starts again needs a multiple of its length: 5 for "quintic", 4 for "aol". "cubic5" needs 5
        steps.
    batch_axes, output_axis, reduction_axes, state_dtype, compute_dtype
        As in `rose_core.peers.matrix.layout.MatrixRule`.

    Notes
    -----
    With "aol", the direction of a singular value above 0.883 of the Frobenius norm is reversed, so the step ascends
    along it. This is so in emerging_optimizers too. Matrices of rank 1 have such a value.
    """

    coefficient_set: str = choice("simple", *(name for name in COEFFICIENTS if name != "simple"), "custom")
    custom_coefficients: tuple[Coefficients, ...] | None = coefficients()
    steps: int = integer(5, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.coefficient_set == "custom") != (self.custom_coefficients is not None):
            raise ValueError(
                'custom_coefficients must be given with coefficient_set="custom", and only then; got '
                f"coefficient_set={self.coefficient_set!r} and custom_coefficients={self.custom_coefficients!r}"
            )
        self.rows()

    def rows(self) -> tuple[Coefficients, ...]:
        """Return the coefficients of each step."""
        return coefficient_rows(self.coefficient_set, self.steps, self.custom_coefficients)


def coefficient_rows(name: str, steps: int, custom: Sequence[Coefficients] | None = None) -> tuple[Coefficients, ...]:
    """Return the coefficients of each step, or raise if a set does not allow this number of steps.

    After the last row, a set repeats that row, or starts again. A set that starts again must end with its last row,
    and "cubic5" must not start again: it diverges.
    """
    rows = tuple(custom) if custom is not None else COEFFICIENTS[name]
    if name in _REPEATS_LAST:
        return tuple(rows[min(step, len(rows) - 1)] for step in range(steps))
    if steps % len(rows) or (name == "cubic5" and steps > len(rows)):
        allowed = "5" if name == "cubic5" else f"a multiple of {len(rows)}"
        raise ValueError(f"steps must be {allowed} for the coefficients {name!r}, got {steps}")
    return rows * (steps // len(rows))


def normalized(x: Any, eps: float) -> Any:
    """Divide each matrix by its Frobenius norm, or by `eps` if the norm is smaller. Singular values are then <= 1."""
    return x / at_least(frobenius(x), eps)


def newton_schulz(x: Any, rows: Sequence[Coefficients]) -> Any:
    """Apply a step to matrices for each row of coefficients: ``X <- a X + (b A + c A A) X`` with ``A = X X'``."""
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else transposed(x)
    for a, b, c in rows:
        gram = product(x, transposed(x))
        polynomial = b * gram + c * product(gram, gram) if c else b * gram
        x = a * x + product(polynomial, x)
    return x if wide else transposed(x)
