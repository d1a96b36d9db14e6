"""The rule against a second implementation: slow, scalar, in exact fractions, written from `spec/SPEC.md`."""

import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import rose_core
from tests.bits import DTYPES, assert_same_bits
from tests.strategies import COMPUTE_DTYPES, EDGES, examples, fill, generators

# Significant bits, exponent of the smallest subnormal, exponent of the first power of two that overflows.
FORMATS = {"fp64": (53, -1074, 1024), "fp32": (24, -149, 128), "fp16": (11, -24, 16), "bf16": (8, -133, 128)}
STORAGE = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def nearest(exact: Fraction | float, form: str, sign: float = 1.0) -> float:
    """Round to nearest, ties to even. A zero gets the given sign."""
    if isinstance(exact, float):
        if math.isinf(exact):
            return exact
        exact, sign = Fraction(exact), exact
    bits, smallest, overflow = FORMATS[form]
    if not exact:
        return math.copysign(0.0, sign)
    exponent = abs(exact.numerator).bit_length() - exact.denominator.bit_length()
    if abs(exact) < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** max(exponent - bits + 1, smallest)
    rounded = round(exact / quantum) * quantum
    return math.copysign(float(rounded) if abs(rounded) < 2**overflow else math.inf, exact)


def cast(value: float, form: str) -> float:
    """ROSE-2.3."""
    return nearest(value if form == "fp64" else nearest(value, "fp32"), form)


class Arithmetic:
    """Operations in O and `rc` to C (ROSE-2.1, ROSE-2.2)."""

    def __init__(self, compute: str) -> None:
        self.compute, self.operation = compute, "fp64" if compute == "fp64" else "fp32"

    def apply(self, operation: Callable, a: float, b: float) -> float:
        if math.isinf(a) or math.isinf(b):
            return operation(a, b)
        # The float operation gives the sign of an exact zero.
        return nearest(operation(Fraction(a), Fraction(b)), self.operation, operation(a, b))

    def add(self, a: float, b: float) -> float:
        return self.apply(operator.add, a, b)

    def sub(self, a: float, b: float) -> float:
        return self.apply(operator.sub, a, b)

    def mul(self, a: float, b: float) -> float:
        return self.apply(operator.mul, a, b)

    def div(self, a: float, b: float) -> float:
        return self.apply(operator.truediv, a, b)

    def rc(self, value: float) -> float:
        return nearest(value, self.compute)


def reproducible_sum(x: Sequence[float]) -> float:
    """ROSE-7.2, for up to 2**20 summands."""
    level = max(2, (len(x) - 1).bit_length())
    largest = max(map(abs, x))
    power = (largest - math.nextafter(largest, 0.0)) * 2.0**52
    s, rest, folds = 1.5 * 2.0**level * power, list(x), []
    for _ in range(2):
        q = [(r + s) - s for r in rest]
        folds.append(float(sum(map(Fraction, q))))
        rest = [r - p for r, p in zip(rest, q, strict=True)]
        s *= 2.0 ** (level - 54)
    return folds[0] + folds[1]


def square_root(value: float) -> float:
    """Return the root, rounded to nearest. A sticky bit after 64 bits tells whether the rest is 0."""
    scaled = Fraction(value) * 2**2200
    root = math.isqrt(int(scaled))
    return nearest(Fraction(2 * root + (root * root != scaled), 2**1101), "fp64")


def denominators(ranges: Sequence[float], stabilize: bool, o: Arithmetic) -> list[float]:
    """ROSE-5."""
    if stabilize:
        mean64 = reproducible_sum(ranges) / len(ranges)
        std = cast(
            square_root(reproducible_sum([(r - mean64) * (r - mean64) for r in ranges]) / len(ranges)), o.compute
        )
        mean = cast(mean64, o.compute)
        w = o.rc(o.div(mean, 1.0 if mean == 0.0 else o.rc(o.add(std, mean))))
        blended = []
        for r in ranges:
            distance = o.sub(r, mean)
            near, far = o.add(mean, o.mul(w, distance)), o.sub(r, o.mul(distance, o.sub(1.0, w)))
            blended.append(o.rc(near if w < 0.5 else far))
        ranges = blended
    return [r or 1.0 for r in ranges]


def update(
    param: np.ndarray,
    grad: np.ndarray,
    *,
    lr: float,
    decay: float,
    flags: tuple[bool, bool],
    compute: str,
    max_step: float | None = None,
) -> list[float]:
    """ROSE-2.4, ROSE-2.6, ROSE-3.1, ROSE-4.2, ROSE-4.3 and ROSE-6, for one vector or a matrix of slices."""
    o = Arithmetic(compute)
    matrix, (centralize, stabilize) = param.ndim > 1, flags
    low_lr, decay = nearest(-lr, o.operation), nearest(decay, o.operation)
    slices, ranges = [], []
    for row in np.atleast_2d(grad).tolist():
        g = [cast(value, compute) for value in row]
        low, high = min(g), max(g)
        if centralize and matrix:
            mean = min(max(cast(reproducible_sum(g) / len(g), compute), low), high) + 0.0
            g, low, high = [o.rc(o.sub(v, mean)) for v in g], o.rc(o.sub(low, mean)), o.rc(o.sub(high, mean))
        slices.append(g)
        ranges.append(o.rc(o.sub(abs(high), low)))
    results = []
    for row, g, d in zip(
        np.atleast_2d(param).tolist(), slices, denominators(ranges, stabilize and matrix, o), strict=True
    ):
        for p, v in zip(row, g, strict=True):
            x = o.rc(o.mul(cast(p, compute), decay))
            change = o.div(o.mul(low_lr, v), d)
            if max_step is not None:
                limit = nearest(max_step * lr, o.operation)
                change = max(-limit, min(limit, change)) if abs(change) > limit else change
            results.append(o.rc(o.add(x, change)))
    return results


@pytest.mark.parametrize("compute", COMPUTE_DTYPES[:4])
@pytest.mark.parametrize("dtype", EDGES)
@given(
    rng=generators(),
    kind=st.sampled_from(["normal", "eighths", "negative", "constant", "zeros", "below-two", "subnormal"]),
    shape=st.sampled_from([(7,), (1,), (3, 5), (5, 1), (1, 6), (4, 4)]),
    lr=st.sampled_from([0.0, 1e-3, 0.3, 1.0]),
    decay=st.sampled_from([0.25, 0.1]),
    max_step=st.sampled_from([None, 0.3, 1.0]),
)
@examples(60)
def test_an_update_has_the_bits_of_the_scalar_rule(
    compute: str,
    dtype: str,
    rng: np.random.Generator,
    kind: str,
    shape: tuple[int, ...],
    lr: float,
    decay: float,
    max_step: float | None,
) -> None:
    param, grad = fill("normal", rng, shape, dtype), fill(kind, rng, shape, dtype)
    for flags in product([True, False], repeat=2):
        options = {"lr": lr, "weight_decay": decay, "lr_reference": lr or 1.0, "compute_dtype": compute}
        options["max_step"] = max_step
        result = rose_core.update(param, grad, centralize=flags[0], stabilize=flags[1], **options)
        factor = 1.0 - decay if lr else 1.0
        expected = update(param, grad, lr=lr, decay=factor, flags=flags, compute=compute, max_step=max_step)
        stored = [cast(value, STORAGE[dtype]) for value in expected]
        assert_same_bits(result, np.asarray(stored).reshape(shape).astype(DTYPES[dtype][0]))


@pytest.mark.parametrize("compute", COMPUTE_DTYPES[:4])
@given(
    param=st.floats(-4.0, 4.0, width=32),
    grad=st.sampled_from([1.0, -2.5, 0.0, -0.0]),
    lr=st.floats(1e-3, 1.0),
    max_step=st.sampled_from([None, 0.3, 1.0]),
)
@example(param=1.0, grad=1.0, lr=0.1, max_step=None)
@examples(100)
def test_an_update_of_rank_0_has_the_bits_of_the_scalar_rule(
    compute: str, param: float, grad: float, lr: float, max_step: float | None
) -> None:
    """ROSE-6.2, ROSE-6.4."""
    o = Arithmetic(compute)
    sign = (grad > 0) - (grad < 0)
    rate = o.rc(nearest(-lr, o.operation))
    if max_step is not None:
        rate = max(rate, -nearest(max_step * lr, o.operation))
    expected = o.rc(o.add(cast(param, compute), o.mul(float(sign), rate)))
    arrays = np.asarray(param, np.float32), np.asarray(grad, np.float32)
    result = rose_core.update(*arrays, lr=lr, weight_decay=0.0, compute_dtype=compute, max_step=max_step)
    assert_same_bits(result, np.asarray(cast(expected, "fp32"), np.float32))


@given(
    large=st.sampled_from([[1.0], [1.0, -1.0], [1.0, -1.0, 0.75, -0.75]]),
    small=st.lists(st.builds(math.ldexp, st.sampled_from([1.0, -1.0, 1.5, -3.0]), st.integers(-112, -48)), max_size=60),
)
@example(
    large=[1.0], small=[2.0**-53 + 2.0**-105]
)  # above a tie; with L = 2 the last summand is lost, and the tie rounds to even
@example(large=[1.0], small=[2.0**-53 + 2.0**-102])
@examples(500)
def test_the_folds_lose_the_same_bits_as_the_scalar_formula(large: list[float], small: list[float]) -> None:
    """The last bits of the last fold show if the large summands cancel, or if their sum is a tie."""
    x = large + small
    assert_same_bits(rose_core.reproducible_sum(np.asarray(x), axis=0), np.asarray(reproducible_sum(x)))
