"""Stochastic rounding to bfloat16 is exactly unbiased. Every other rounding is to nearest, ties to even."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import rose_core
from rose_core import round_to_bfloat16
from rose_core.rounding import ComputeDtype, round_to_compute, to_compute, to_storage
from tests.backends import Backend, backends
from tests.bits import assert_same_bits, from_words, raw_words
from tests.strategies import EDGES, EXTREMES, with_negatives

ALL_NOISE = np.arange(2**16, dtype=np.int32)

# Both signs of the edge values, and values in every tenth binade with a small, a middle and a large lower half.
FLOAT32 = np.concatenate(
    [
        with_negatives((*EDGES["float32"], *EXTREMES["float32"]), "float32"),
        *(
            with_negatives((high << 16 | low,), "float32")
            for high in range(0, 0x7F80, 0x0501)
            for low in (1, 0x8000, 0xFFF3)
        ),
    ]
)
NOT_A_NUMBER = np.isnan(from_words(FLOAT32, "float32"))


def bfloat16_words(backend: Backend, x: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
    """Round on a library and return bfloat16 words, also for a library without bfloat16."""
    result = round_to_bfloat16(backend.array(x), noise=None if noise is None else backend.array(noise))
    words = raw_words(result)
    if "bfloat16" in backend.dtypes:
        return words
    assert not (words & 0xFFFF).any()
    return words >> 16


def rounded_with_all_noise(backend: Backend, x: np.ndarray) -> np.ndarray:
    """Return a row of words for each value, rounded with each of the 65,536 noise words."""
    values, noise = np.broadcast_arrays(x[:, None], ALL_NOISE)
    return bfloat16_words(backend, np.ascontiguousarray(values), np.ascontiguousarray(noise))


@backends
def test_the_lower_half_is_the_number_of_noise_words_that_round_up(backend: Backend) -> None:
    """ROSE-8.1: a value with the lower half k is rounded up by the largest k of the 2**16 noise words."""
    numbers = FLOAT32[~NOT_A_NUMBER]
    for part in np.array_split(numbers, 4):
        high, low = (part >> 16).astype(np.uint16)[:, None], (part & 0xFFFF).astype(np.int32)[:, None]
        expected = high + (2**16 - low <= ALL_NOISE).astype(np.uint16)
        actual = rounded_with_all_noise(backend, from_words(part, "float32"))
        assert_same_bits(actual.astype(np.uint16), expected, backend=backend.name)


def test_the_mean_over_all_noise_words_is_exactly_the_value() -> None:
    """Values next to infinity are left out."""
    for word in FLOAT32[~NOT_A_NUMBER & ((FLOAT32 & 0x7FFFFFFF) <= 0x7F7F0000)]:
        x = from_words([word], "float32")
        noise = np.asarray(ALL_NOISE)
        results = round_to_bfloat16(np.broadcast_to(x, noise.shape), noise=noise).astype(np.float64)
        values, counts = np.unique(results, return_counts=True)
        total = sum(Fraction(v) * c for v, c in zip(values.tolist(), counts.tolist(), strict=True))
        assert total == 2**16 * Fraction(float(x[0]))


@backends
def test_bfloat16_values_are_unchanged_by_rounding(backend: Backend) -> None:
    """ROSE-8.1: all values except NaN, without noise, and with the smallest and the largest noise word."""
    words = np.arange(2**16, dtype=np.uint32)
    words = words[(words & 0x7FFF) <= 0x7F80]
    x = from_words(words << 16, "float32")
    for noise in (None, np.zeros(len(x), np.int32), np.full(len(x), 0xFFFF, np.int32)):
        assert_same_bits(
            bfloat16_words(backend, x, noise).astype(np.uint16), words.astype(np.uint16), backend=backend.name
        )


@backends
def test_every_nan_becomes_the_word_7fc0(backend: Backend) -> None:
    """ROSE-8.2: for every payload. Without the special case, 7fffffff plus noise would become -0."""
    payloads = [1, 0x7FFF, 0x8000, 0xFFFF, 0x3FFFFF, 0x400000, 0x7FFFFF, 0x7F0000, 0x7FFFFE]
    x = from_words(with_negatives(tuple(0x7F800000 | p for p in payloads), "float32"), "float32")
    assert (rounded_with_all_noise(backend, x) == 0x7FC0).all()
    assert (bfloat16_words(backend, x) == 0x7FC0).all()


@backends
def test_a_finite_value_may_round_to_infinity_and_never_to_nan(backend: Backend) -> None:
    x = from_words(with_negatives((0x7F7F0000, 0x7F7F0001, 0x7F7F8000, 0x7F7FFFFF), "float32"), "float32")
    results = rounded_with_all_noise(backend, x)
    assert (results & 0x7FFF <= 0x7F80).all()
    assert np.count_nonzero(results & 0x7FFF == 0x7F80, axis=1).tolist() == [0, 1, 0x8000, 0xFFFF] * 2


@backends
def test_rounding_to_nearest_equals_ml_dtypes_and_torch(backend: Backend) -> None:
    """ROSE-8.3: for every upper half with lower halves around the tie, and for random words."""
    torch = pytest.importorskip("torch")
    high, low = np.meshgrid(np.arange(2**16, dtype=np.uint32) << 16, [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    random = np.random.default_rng(0).integers(0, 2**32, 2**21, dtype=np.uint32)
    x = from_words(np.concatenate([(high | low.astype(np.uint32)).ravel(), random]), "float32")
    words = bfloat16_words(backend, x)
    with np.errstate(invalid="ignore"):  # NumPy warns of signalling NaN
        by_ml_dtypes = x.astype(ml_dtypes.bfloat16)
    by_torch = torch.from_numpy(x).to(torch.bfloat16)
    for expected in (by_ml_dtypes, by_torch):
        assert_same_bits(from_words(words, "bfloat16"), expected, backend=backend.name)


NOISE_DTYPES = ("int32", "int64", "uint16", "uint32")


@backends
@pytest.mark.parametrize("dtype", NOISE_DTYPES)
def test_noise_may_have_any_integer_dtype(backend: Backend, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = from_words(rng.choice(FLOAT32, 2**16), "float32")
    noise = rng.permutation(2**16)
    expected = bfloat16_words(backend, x, noise.astype(np.int32))
    assert_same_bits(bfloat16_words(backend, x, noise.astype(dtype)), expected, backend=backend.name)


@backends
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
def test_only_the_lower_16_bits_of_noise_are_used(backend: Backend, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = from_words(rng.choice(FLOAT32, 2**12), "float32")
    info = np.iinfo(dtype)
    noise = rng.integers(info.min, info.max, len(x), dtype=dtype, endpoint=True)
    lower = (noise & info.dtype.type(0xFFFF)).astype(np.int32)
    assert_same_bits(bfloat16_words(backend, x, noise), bfloat16_words(backend, x, lower), backend=backend.name)
    if "bfloat16" in backend.dtypes:
        arrays = [backend.array(np.ones(len(x), ml_dtypes.bfloat16)), backend.array(np.ones(len(x), np.float32))]
        results = [rose_core.update(*arrays, lr=1e-4, noise=backend.array(words)) for words in (noise, lower)]
        assert_same_bits(*results, backend=backend.name)


@backends
@pytest.mark.parametrize("compute", ["fp64", "fp32"])
def test_an_update_with_noise_is_a_rounded_update_of_float32(backend: Backend, compute: str) -> None:
    """ROSE-6.3, ROSE-8.4: the update of a float32 parameter with the same values, rounded with the noise."""
    if "bfloat16" not in backend.dtypes:
        pytest.skip(f"{backend.name} has no bfloat16")
    rng = np.random.default_rng(0)
    param, grad = (rng.standard_normal((33, 65)).astype(ml_dtypes.bfloat16) for _ in range(2))
    noise = rng.integers(0, 2**16, param.shape)
    options = {"lr": 0.01, "weight_decay": 0.1, "compute_dtype": compute}
    wide = rose_core.update(param.astype(np.float32), grad.astype(np.float32), **options)
    actual = rose_core.update(backend.array(param), backend.array(grad), noise=backend.array(noise), **options)
    assert_same_bits(actual, round_to_bfloat16(wide, noise=noise), backend=backend.name)


# float64 values just above a tie of a 16-bit dtype. A direct rounding goes up. Rounding to float32 first returns the
# tie, which then rounds down to even. Compute dtype, value, result, dtype.
TWICE = {
    "fp16": (1.0 + 2.0**-11 + 2.0**-40, 1.0, np.float16),
    "bf16": (1.0 + 2.0**-8 + 2.0**-40, 1.0, ml_dtypes.bfloat16),
}


@backends
@pytest.mark.parametrize("compute", TWICE)
def test_float64_is_rounded_to_float32_before_16_bits(backend: Backend, compute: ComputeDtype) -> None:
    """ROSE-2.3: for the compute dtype and for storage."""
    value, expected, dtype = TWICE[compute]
    x = backend.array(np.asarray([value]))
    assert_same_bits(to_compute(x, compute), np.asarray([expected], np.float32), backend=backend.name)
    name = np.dtype(dtype).name
    if name in backend.dtypes:
        assert_same_bits(to_storage(x, name, None), np.asarray([expected], dtype), backend=backend.name)


def test_a_direct_rounding_of_float64_to_float16_differs() -> None:
    """Proof that the test above can fail."""
    value, expected, dtype = TWICE["fp16"]
    assert np.float64(value).astype(dtype) > expected


@backends
@pytest.mark.parametrize("compute", ["fp16", "bf16"])
def test_rounding_to_the_compute_dtype_equals_a_cast_and_back(backend: Backend, compute: ComputeDtype) -> None:
    """ROSE-2.2: for every upper half, with lower halves at and around the ties of both dtypes."""
    lows = [0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x2FFF, 0x3000, 0x3001, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    high, low = np.meshgrid(np.arange(2**16, dtype=np.uint32) << 16, np.asarray(lows, np.uint32))
    x = from_words((high | low).ravel(), "float32")
    with np.errstate(all="ignore"):
        expected = x.astype(TWICE[compute][2]).astype(np.float32)
        actual = round_to_compute(backend.array(x), compute)
    assert_same_bits(actual, expected, backend=backend.name)


NUMBERS: dict[str, tuple[ComputeDtype, float, float]] = {
    "float64": ("fp64", 0.1, 0.1),
    "float32": ("fp32", 0.1, float(np.float32(0.1))),
    "float32 at a 16-bit compute dtype": ("fp16", 0.1, float(np.float32(0.1))),
    "a tie of float32": ("fp32", 1.0 + 2.0**-24, 1.0),
    "just above that tie": ("fp32", 1.0 + 2.0**-24 + 2.0**-52, 1.0 + 2.0**-23),
    "to a float32 subnormal": ("bf16", 1e-45, 2.0**-149),
    "to 0": ("fp32", 1e-46, 0.0),
}


@backends
@pytest.mark.parametrize(("compute", "value", "expected"), NUMBERS.values(), ids=NUMBERS)
def test_a_product_rounds_a_python_number_once_to_the_operation_dtype(
    backend: Backend, compute: ComputeDtype, value: float, expected: float
) -> None:
    """ROSE-2.1, ROSE-2.4: therefore the rule passes `lr` and the decay factor to operations as Python floats."""
    if backend.flushes and 0.0 < expected < 2.0**-126:
        pytest.skip(f"{backend.name} flushes float32 subnormals")
    ones = np.ones(3, np.float64 if compute == "fp64" else np.float32)
    assert_same_bits(backend.array(ones) * value, ones * ones.dtype.type(expected), backend=backend.name)
    assert_same_bits(value * backend.array(ones), ones * ones.dtype.type(expected), backend=backend.name)
