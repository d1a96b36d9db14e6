"""The elementwise rules against a second implementation: slow, scalar, in exact fractions."""

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rose_core import peers
from rose_core.peers import Rule
from rose_core.peers.scalars import power
from rose_core.peers.states import leaves
from tests.bits import assert_same_bits
from tests.core.test_rule_by_scalars import nearest
from tests.strategies import examples


class Number:
    """A number of one format. Each operation is exact in fractions, and then rounded once."""

    def __init__(self, value: float | Fraction, form: str, sign: float = 1.0) -> None:
        self.form, self.value = form, nearest(value, form, sign)

    def _apply(self, operation: Callable, a: Any, b: Any) -> "Number":
        x, y = (n.value if isinstance(n, Number) else nearest(float(n), self.form) for n in (a, b))
        if not (math.isfinite(x) and math.isfinite(y)) or (operation is operator.truediv and y == 0.0):
            with np.errstate(all="ignore"):
                return Number(float(operation(np.float64(x), np.float64(y))), self.form)
        return Number(operation(Fraction(x), Fraction(y)), self.form, operation(x, y))

    def __add__(self, other: Any) -> "Number":
        return self._apply(operator.add, self, other)

    def __sub__(self, other: Any) -> "Number":
        return self._apply(operator.sub, self, other)

    def __mul__(self, other: Any) -> "Number":
        return self._apply(operator.mul, self, other)

    def __truediv__(self, other: Any) -> "Number":
        return self._apply(operator.truediv, self, other)

    def __radd__(self, other: Any) -> "Number":
        return self._apply(operator.add, other, self)

    def __rsub__(self, other: Any) -> "Number":
        return self._apply(operator.sub, other, self)

    def __rmul__(self, other: Any) -> "Number":
        return self._apply(operator.mul, other, self)


def root(x: Number) -> Number:
    """Return the root, rounded to nearest. A sticky bit after 100 bits tells whether the rest is 0."""
    scaled = Fraction(x.value) * 2**2400
    whole = math.isqrt(int(scaled))
    return Number(Fraction(2 * whole + (whole * whole != scaled), 2**1201), x.form)


def sign(x: Number) -> float:
    return math.copysign(1.0, x.value) if x.value else 0.0


def raised(base: float, exponent: int) -> float:
    """Return a power as the product of squares, the lowest first."""
    result, square = 1.0, base
    for bit in reversed(f"{exponent:b}"):
        result, square = result * square if bit == "1" else result, square * square
    return result


B1, B2, B3, EPS = 0.9, 0.95, 0.99, 1e-3


def ema(average: Any, x: Any, beta: float) -> Any:
    return beta * average + (1.0 - beta) * x


def adam(g: Number, s: list, t: int) -> tuple[Any, list]:
    m, v = ema(s[0], g, B1), ema(s[1], g * g, B2)
    return (m / (1 - raised(B1, t))) / (root(v / (1 - raised(B2, t))) + EPS), [m, v]


def adam_nesterov_uncorrected(g: Number, s: list, t: int) -> tuple[Any, list]:  # noqa: ARG001
    m, v = ema(s[0], g, B1), ema(s[1], g * g, B2)
    return (B1 * m + (1.0 - B1) * g) / (root(v + 0.25) + EPS), [m, v]


def nadamw(g: Number, s: list, t: int) -> tuple[Any, list]:
    m, v = ema(s[0], g, B1), ema(s[1], g * g, B2)
    ahead = (B1 * m) / (1 - raised(B1, t + 1)) + ((1.0 - B1) * g) / (1 - raised(B1, t))
    return ahead / (root(v / (1 - raised(B2, t))) + EPS), [m, v]


def radam(g: Number, s: list, t: int) -> tuple[Any, list]:
    m, v = ema(s[0], g, B1), ema(s[1], g * g, B2)
    infinite, decayed = 2 / (1 - B2) - 1, raised(B2, t)
    rho, m_hat = infinite - 2 * t * decayed / (1 - decayed), m / (1 - raised(B1, t))
    if rho <= 4:
        return m_hat, [m, v]
    r = math.sqrt((rho - 4) * (rho - 2) * infinite / ((infinite - 4) * (infinite - 2) * rho))
    return r * m_hat / (root(v / (1 - decayed)) + EPS), [m, v]


def qhadamw(g: Number, s: list, t: int) -> tuple[Any, list]:
    m, v = ema(s[0], g, B1), ema(s[1], g * g, B2)
    numerator = (1 - 0.7) * g + 0.7 * (m / (1 - raised(B1, t)))
    square = (1 - 0.75) * (g * g) + 0.75 * (v / (1 - raised(B2, t)))
    return numerator / (root(square) + EPS), [m, v]


def ademamix(g: Number, s: list, t: int) -> tuple[Any, list]:
    fast, slow, v = ema(s[0], g, B1), ema(s[1], g, B3), ema(s[2], g * g, B2)
    numerator = fast / (1 - raised(B1, t)) + 2.0 * slow
    return numerator / (root(v / (1 - raised(B2, t))) + EPS), [fast, slow, v]


def simplified_ademamix(g: Number, s: list, t: int) -> tuple[Any, list]:
    m, v = B1 * s[0] + g, ema(s[1], g * g, B2)
    m_hat = m * ((1 - B1) / (1 - raised(B1, t)))
    return (2.0 * g + m_hat) / (root(v / (1 - raised(B2, t))) + EPS), [m, v]


def laprop(g: Number, s: list, t: int) -> tuple[Any, list]:
    v = ema(s[1], g * g, B2)
    m = ema(s[0], g / (root(v / (1 - raised(B2, t))) + EPS), B1)
    return m / (1 - raised(B1, t)), [m, v]


def lion(g: Number, s: list, t: int) -> tuple[Any, list]:  # noqa: ARG001
    return sign(ema(s[0], g, B1)), [ema(s[0], g, B3)]


def madam(g: Number, s: list, t: int) -> tuple[Any, list]:
    scaled = 256.0 * g
    m, v = ema(s[0], g, B1), ema(s[1], scaled * scaled, B2)
    if m.value == 0.0:
        return 0.0, [m, v]
    return (256.0 * (m / (1 - raised(B1, t)))) / root(v / (1 - raised(B2, t))), [m, v]


def signum(g: Number, s: list, t: int) -> tuple[Any, list]:
    m = ema(s[0], g, B1)
    return sign((B1 * m) / (1 - raised(B1, t + 1)) + ((1.0 - B1) * g) / (1 - raised(B1, t))), [m]


def rmsprop(g: Number, s: list, t: int) -> tuple[Any, list]:  # noqa: ARG001
    v = ema(s[0], g * g, B2)
    return g / (root(v) + EPS), [v]


def sophia(g: Number, s: list, t: int) -> tuple[Any, list]:  # noqa: ARG001
    m, h = ema(s[0], g, B1), s[1]
    scaled = 0.5 * h
    direction = m / (scaled if scaled.value >= 1e-12 else 1e-12)
    return min(max(direction.value, -0.04), 0.04), [m, h]


def mars(g: Number, s: list, t: int) -> tuple[Any, list]:
    c = g + (0.025 * B1 / (1 - B1)) * (g - s[2])
    m, v = ema(s[0], c, B1), ema(s[1], c * c, B2)
    return (m / (1 - raised(B1, t))) / (root(v / (1 - raised(B2, t))) + EPS), [m, v, g]


def sgd(g: Number, s: list, t: int) -> tuple[Any, list]:
    v = B1 * s[0] + (g if t == 1 else (1 - 0.25) * g)
    return v, [v]


def sgd_nesterov(g: Number, s: list, t: int) -> tuple[Any, list]:  # noqa: ARG001
    v = B1 * s[0] + g
    return g + B1 * v, [v]


BETAS = {"betas": (B1, B2), "eps": EPS}
SCALARS: dict[str, tuple[Rule, Callable]] = {
    "SGD": (peers.SGD(momentum=B1, dampening=0.25), sgd),
    "SGD, Nesterov": (peers.SGD(momentum=B1, nesterov=True), sgd_nesterov),
    "Adam": (peers.Adam(**BETAS), adam),
    "Adam, Nesterov": (
        peers.Adam(**BETAS, nesterov=True, correct_bias=False, eps_root=0.25),
        adam_nesterov_uncorrected,
    ),
    "NAdamW": (peers.NAdamW(**BETAS), nadamw),
    "RAdam": (peers.RAdam(**BETAS, rectify_above=4), radam),
    "QHAdamW": (peers.QHAdamW(**BETAS, nus=(0.7, 0.75)), qhadamw),
    "AdEMAMix": (peers.AdEMAMix(betas=(B1, B2, B3), eps=EPS), ademamix),
    "SimplifiedAdEMAMix": (peers.SimplifiedAdEMAMix(**BETAS), simplified_ademamix),
    "LaProp": (peers.LaProp(**BETAS), laprop),
    "Lion": (peers.Lion(betas=(B1, B3)), lion),
    "MAdam": (peers.MAdam(betas=(B1, B2)), madam),
    "Signum": (peers.Signum(momentum=B1, nesterov=True), signum),
    "RMSprop": (peers.RMSprop(alpha=B2, eps=EPS), rmsprop),
    "SophiaH": (peers.SophiaH(betas=(B1, B2), gamma=0.5), sophia),
    "MARS": (peers.MARS(**BETAS, clip_c=False), mars),
}


@pytest.mark.parametrize("form", ["fp64", "fp32"])
@pytest.mark.parametrize("name", SCALARS)
@given(grads=st.lists(st.floats(-8.0, 8.0, width=32), min_size=1, max_size=7), start=st.sampled_from([0.0, 0.5]))
@example(grads=[0.0, 0.0, 1.0], start=0.0)
@example(grads=[1.0, -1e-3, 0.1, 0.1, 7.0, 0.3, 0.7], start=0.0)
@examples(15)
def test_a_rule_has_the_bits_of_the_scalar_formula(name: str, form: str, grads: list[float], start: float) -> None:
    rule, formula = SCALARS[name]
    dtype = "float64" if form == "fp64" else "float32"
    rule = type(rule)(**{**vars(rule), "state_dtype": dtype, "compute_dtype": form})
    param = np.zeros(1, np.float32)
    state = rule.init(param)
    state = type(state)(*(None if leaf is None else leaf + np.asarray(start, leaf.dtype) for leaf in leaves(state)))
    scalars = [None if leaf is None else Number(float(leaf[0]), form) for leaf in leaves(state)]
    if name == "NAdamW":
        scalars = scalars[:2]
    for step, g in enumerate(np.float32(grads).tolist(), 1):
        direction, state = rule.update(np.asarray([g], np.float32), state, param, step=step)
        expected, scalars = formula(Number(g, form), scalars, step)
        value = expected.value if isinstance(expected, Number) else nearest(float(expected), form)
        assert_same_bits(direction, np.asarray([value], dtype), what=f"step {step}")
        for leaf, scalar in zip([x for x in leaves(state) if x is not None], scalars, strict=True):
            assert_same_bits(leaf, np.asarray([scalar.value], dtype), what=f"state of step {step}")


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 20, 1000, 12345])
def test_a_power_is_near_the_exact_one(exponent: int) -> None:
    exact = float(Fraction(0.999) ** exponent)
    assert power(0.999, exponent) == raised(0.999, exponent)
    assert abs(power(0.999, exponent) - exact) <= 2.0**-52 * max(1, exponent) * exact
