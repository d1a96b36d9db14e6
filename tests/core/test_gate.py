"""The gate: its square root is correctly rounded, its trust is in [0, 1], its denominators are exact (ROSE-5)."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rose_core
from rose_core.namespace import square_root, square_roots
from rose_core.rounding import ComputeDtype
from rose_core.rule import StepOptions, denominators, gate_of_ranges
from tests.backends import Backend, backends
from tests.bits import assert_same_bits, from_words, host
from tests.strategies import COMPUTE_DTYPES, KINDS, examples, fill, generators, shapes


def is_nearest_root(root: float, x: float) -> bool:
    """Tell, in exact arithmetic, whether `root` is the float64 nearest to the square root of `x`."""
    below, above = ((Fraction(root) + Fraction(math.nextafter(root, end))) / 2 for end in (0.0, math.inf))
    return below**2 < Fraction(x) < above**2


def test_is_nearest_root_rejects_the_neighbours_of_the_root() -> None:
    for x in (2.0, 0.1, 1e-300, 1e300, 5e-324, 3.0):
        root = math.sqrt(x)
        assert is_nearest_root(root, x)
        assert not is_nearest_root(math.nextafter(root, math.inf), x)
        assert not is_nearest_root(math.nextafter(root, 0.0), x)


@backends
@given(rng=generators(), kind=st.sampled_from(["normal", "below-two", "words", "subnormal"]))
@examples(20)
def test_the_square_root_is_correctly_rounded(backend: Backend, rng: np.random.Generator, kind: str) -> None:
    """ROSE-5.2."""
    x = np.abs(fill(kind, rng, (500,), "float64"))
    x = x[np.isfinite(x) & (x > 0.0)]
    roots = host(square_root(backend.array(x)))
    wrong = [value for root, value in zip(roots.tolist(), x.tolist(), strict=True) if not is_nearest_root(root, value)]
    assert not wrong
    assert_same_bits(roots, np.sqrt(x), backend=backend.name)


# torch 2.13 computes a wrong root of these values on x86-64, by MKL.
WRONG_IN_MKL = ("0x1.165603cf43b8fp-1", "0x1.67be224ec5c90p-3", "0x1.8d5e442a99a50p-3", "0x1.b440340cd0f79p-1")


@backends
@pytest.mark.parametrize("x", WRONG_IN_MKL)
def test_roots_that_torch_computes_wrong_are_right(backend: Backend, x: str) -> None:
    value = float.fromhex(x)
    root = host(square_root(backend.array(np.asarray([[value]]))))
    assert is_nearest_root(float(root[0, 0]), value)


def test_torch_sqrt_is_wrong_for_these_values() -> None:
    """Proof that the test above can fail. See NOTE [torch's square root] in namespace/floats.py."""
    torch = pytest.importorskip("torch")
    if not torch.backends.mkl.is_available():
        pytest.skip("this torch has no MKL, whose square root is the wrong one")
    values = [float.fromhex(x) for x in WRONG_IN_MKL]
    roots = torch.sqrt(torch.asarray(values, dtype=torch.float64)).tolist()
    assert not all(is_nearest_root(root, value) for root, value in zip(roots, values, strict=True))


@backends
@pytest.mark.parametrize("kind", ["normal", "words", "extremes"])
def test_roots_of_many_elements_are_those_of_each(backend: Backend, kind: str) -> None:
    x = fill(kind, np.random.default_rng(0), (300, 20), "float64")
    with np.errstate(all="ignore"):
        expected = np.sqrt(x)
        assert_same_bits(square_roots(backend.array(x)), expected, backend=backend.name)
        assert_same_bits(square_root(backend.array(x)), expected, backend=backend.name)


def test_roots_of_many_elements_can_be_traced() -> None:
    torch = pytest.importorskip("torch")
    x = torch.rand(4, 3, dtype=torch.float64)
    assert_same_bits(torch.func.vmap(square_roots)(x), square_roots(x))
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(square_roots)(x)
    assert_same_bits(graph(x + 1.0), square_roots(x + 1.0))


ROOT_EDGES = {
    "zero": 0.0,
    "negative zero": -0.0,
    "infinity": math.inf,
    "NaN": math.nan,
    "the largest": 1.7976931348623157e308,
}


@backends
@pytest.mark.parametrize("x", ROOT_EDGES.values(), ids=ROOT_EDGES)
def test_roots_of_edge_values_follow_ieee_754(backend: Backend, x: float) -> None:
    array = np.asarray([x])
    assert_same_bits(square_root(backend.array(array)), np.sqrt(array), backend=backend.name)


@backends
@given(data=st.data(), rng=generators(), shape=shapes(2, min_side=1))
@examples(60)
def test_trust_is_between_0_and_1(backend: Backend, data: st.DataObject, rng: np.random.Generator, shape: Any) -> None:
    """ROSE-5.3: for finite ranges. If all ranges are 0, the trust is 0."""
    kind = data.draw(st.sampled_from(sorted(set(KINDS) - {"words", "extremes"})))
    grad = fill(kind, rng, shape, data.draw(st.sampled_from(backend.dtypes)))
    options = {"compute_dtype": "fp64", "centralize": data.draw(st.booleans())}
    statistics = rose_core.slice_statistics(backend.array(grad), **options)
    trust = host(statistics.trust)
    assert 0.0 <= float(trust) <= 1.0
    if not host(statistics.range).any():
        assert_same_bits(trust, np.zeros(()), backend=backend.name)
        assert (host(statistics.denominator) == 1.0).all()


# Ranges, trust and denominators, all exact. With mean m and standard deviation s, the trust is m / (s + m).
GATES = {
    "equal ranges": ([3.0, 3.0, 3.0], 1.0, [3.0, 3.0, 3.0]),
    "mean and deviation 1": ([0.0, 2.0], 0.5, [0.5, 1.5]),
    "a single slice": ([5.0], 1.0, [5.0]),
    "mean 3, deviation 1": ([2.0, 4.0], 0.75, [2.25, 3.75]),
    "mean 1, deviation 3": ([0.0] * 9 + [10.0], 0.25, [0.75] * 9 + [3.25]),  # below 1/2: from the mean
    "ranges of 0": ([0.0, 0.0], 0.0, [1.0, 1.0]),
}


def gated(ranges: Any, compute: ComputeDtype) -> tuple[Any, Any]:
    """Return the trust and the denominators, given the ranges of all slices."""
    options = StepOptions(0.0, 1.0, centralize=True, stabilize=True, maximize=False, compute=compute)
    gate = gate_of_ranges(ranges, options)
    assert gate is not None
    return gate.trust, denominators(ranges, gate, options)


@backends
@pytest.mark.parametrize("compute", COMPUTE_DTYPES[:4])
@pytest.mark.parametrize("name", GATES)
def test_gates_worked_by_hand(backend: Backend, compute: Any, name: str) -> None:
    """ROSE-5.3, ROSE-5.4."""
    ranges, trust, expected = GATES[name]
    dtype = np.float64 if compute == "fp64" else np.float32
    array = np.asarray(ranges, dtype)[:, None]
    actual_trust, actual = gated(backend.array(array), compute)
    assert_same_bits(actual_trust, np.full((1, 1), trust, dtype), backend=backend.name)
    assert_same_bits(actual, np.asarray(expected, dtype)[:, None], backend=backend.name)


@backends
def test_a_trust_of_exactly_one_half_blends_from_the_range(backend: Backend) -> None:
    """ROSE-5.4: blended from the mean, the last denominator would be 41426abe. A search found these ranges."""
    ranges = from_words([[0x00000000], [0x40927852], [0x4188A88A]], "float32")
    expected = from_words([[0x406708D3], [0x40BCC092], [0x41426ABF]], "float32")
    trust, denominator = gated(backend.array(ranges), "fp32")
    assert_same_bits(trust, np.full((1, 1), 0.5, np.float32), backend=backend.name)
    assert_same_bits(denominator, expected, backend=backend.name)


@backends
def test_a_mean_that_underflows_has_trust_0(backend: Backend) -> None:
    """The mean, a quarter of float16's smallest subnormal, is 0 in float16. Denominators of 0 become 1."""
    ranges = np.asarray([[2.0**-24], [0.0], [0.0], [0.0]], np.float32)
    trust, denominator = gated(backend.array(ranges), "fp16")
    assert_same_bits(trust, np.zeros((1, 1), np.float32), backend=backend.name)
    assert_same_bits(denominator, np.ones((4, 1), np.float32), backend=backend.name)
