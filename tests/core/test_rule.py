"""The rule: invariances, special values, and results that are worked by hand (ROSE-1 to ROSE-6)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import rose_core
from tests.backends import Backend, backends
from tests.bits import DTYPES, assert_same_bits, from_words, words
from tests.strategies import COMPUTE_DTYPES, EDGES, KINDS, examples, fill, floats_of, generators, shapes, with_negatives

computes = pytest.mark.parametrize("compute", COMPUTE_DTYPES)
dtypes = pytest.mark.parametrize("dtype", EDGES)

FINITE_KINDS = sorted(set(KINDS) - {"words", "extremes"})


def step(param: Any, grad: Any, **options: Any) -> np.ndarray:
    """Update NumPy arrays, by default without decay."""
    return rose_core.update(np.asarray(param), np.asarray(grad), **({"lr": 0.125, "weight_decay": 0.0} | options))


def pair(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return a parameter and a gradient of this kind."""
    return fill("normal", rng, shape, "float32"), fill(kind, rng, shape, "float32")


@backends
def test_a_step_worked_by_hand(backend: Backend) -> None:
    """Means 2 and 2, ranges 2 and 4 with mean 3 and deviation 1, trust 3/4, denominators 9/4 and 15/4."""
    param, grad = np.ones((2, 2)), np.asarray([[1.0, 3.0], [0.0, 4.0]])
    expected = [
        [0x3FF5555555555555, 0x3FE5555555555556],  # 1 + 1/3 and 1 - 1/3, with 1/3 rounded down
        [0x3FF6666666666666, 0x3FE3333333333333],  # 1 + 2/5 and 1 - 2/5
    ]
    result = rose_core.update(backend.array(param), backend.array(grad), lr=0.75, weight_decay=0.0)
    assert_same_bits(result, from_words(expected, "float64"), backend=backend.name)


@backends
def test_the_statistics_of_this_step(backend: Backend) -> None:
    expected = ([2.0, 2.0], [2.0, 4.0], 0.75, [2.25, 3.75])
    statistics = rose_core.slice_statistics(backend.array(np.asarray([[1.0, 3.0], [0.0, 4.0]])))
    for name, actual, value in zip(statistics._fields, statistics, expected, strict=True):
        assert_same_bits(actual, np.asarray(value), backend=backend.name, what=name)


@given(
    rng=generators(),
    compute=st.sampled_from(["fp64", "fp32", "bf16"]),
    exponent=st.integers(-30, 30),
    shape=shapes(1, min_side=1),
    centralize=st.booleans(),
    stabilize=st.booleans(),
)
@examples(200)
def test_a_gradient_scaled_by_a_power_of_two_gives_the_same_step(
    rng: np.random.Generator,
    compute: str,
    exponent: int,
    shape: tuple[int, ...],
    centralize: bool,
    stabilize: bool,
) -> None:
    """Denominators must not be 0, so each slice has at least three elements."""
    param, grad = pair(rng, "normal", (*shape[:-1], shape[-1] + 2))
    options = {"compute_dtype": compute, "centralize": centralize, "stabilize": stabilize}
    scaled = grad * np.float32(2.0**exponent)
    assert_same_bits(step(param, scaled, **options), step(param, grad, **options))


@given(
    rng=generators(),
    compute=st.sampled_from(COMPUTE_DTYPES),
    kind=st.sampled_from(sorted(KINDS)),
    shape=shapes(2, min_side=1),
    stabilize=st.booleans(),
)
@examples(200)
def test_permuted_slices_and_elements_give_permuted_results(
    rng: np.random.Generator, compute: str | None, kind: str, shape: tuple[int, ...], stabilize: bool
) -> None:
    param, grad = pair(rng, kind, shape)
    rows, columns = rng.permutation(shape[0]), rng.permutation(shape[1])
    options = {"compute_dtype": compute, "stabilize": stabilize}
    permuted = step(param[rows][:, columns], grad[rows][:, columns], **options)
    assert_same_bits(permuted, step(param, grad, **options)[rows][:, columns])


@computes
@pytest.mark.parametrize("kind", KINDS)
def test_the_shape_of_a_slice_changes_no_bit(compute: str | None, kind: str) -> None:
    """ROSE-1.2."""
    param, grad = pair(np.random.default_rng(0), kind, (6, 24))
    expected = step(param, grad, compute_dtype=compute)
    for shape in ((6, 24, 1), (6, 4, 6), (6, 2, 3, 4), (6, 1, 2, 12, 1)):
        result = step(param.reshape(shape), grad.reshape(shape), compute_dtype=compute)
        assert_same_bits(result.reshape(6, 24), expected)


def test_slices_are_along_axis_0() -> None:
    """ROSE-1.2: a transposed parameter takes another step."""
    param, grad = pair(np.random.default_rng(0), "normal", (8, 8))
    assert not np.array_equal(step(param, grad), step(param.T, grad.T).T)


@given(rng=generators(), compute=st.sampled_from(COMPUTE_DTYPES), kind=st.sampled_from(sorted(KINDS)), shape=shapes())
@examples(100)
def test_maximize_equals_an_update_with_the_negative_gradient(
    rng: np.random.Generator, compute: str | None, kind: str, shape: tuple[int, ...]
) -> None:
    """ROSE-1.3."""
    param, grad = pair(rng, kind, shape)
    assert_same_bits(step(param, grad, compute_dtype=compute, maximize=True), step(param, -grad, compute_dtype=compute))


@computes
@dtypes
def test_a_constant_slice_does_not_move(dtype: str, compute: str | None) -> None:
    """ROSE-4.2: the mean is clipped to the constant."""
    constants = from_words(with_negatives(EDGES[dtype], dtype), dtype)
    constants = constants[np.abs(constants.astype(np.float64)) < 65519.0]  # finite in float16
    grad = np.repeat(constants[:, None], 7, axis=1)
    param = np.broadcast_to(np.asarray([1.5, 0.0, -3.0, 1.0, 0.5, 2.0, -1.0], grad.dtype), grad.shape)
    for stabilize in (True, False):
        assert_same_bits(step(param, grad, compute_dtype=compute, stabilize=stabilize), param)


@pytest.mark.parametrize("n", [3, 7, 10, 49, 1000])
def test_a_constant_slice_does_not_move_if_its_mean_is_rounded(n: int) -> None:
    """ROSE-4.2: n * x / n may differ from x. Without clipping, the difference is divided by itself."""
    constants = np.random.default_rng(0).standard_normal((300, 1))
    param = np.ones((300, n))
    assert_same_bits(step(param, np.repeat(constants, n, axis=1), stabilize=False), param)


@computes
def test_centered_slices_of_one_element_do_not_move(compute: str | None) -> None:
    param, grad = pair(np.random.default_rng(0), "normal", (50, 1))
    assert_same_bits(step(param, grad, compute_dtype=compute), step(param, np.zeros_like(grad), compute_dtype=compute))
    assert not np.array_equal(step(param, grad, compute_dtype=compute, centralize=False), param)


# A vector as the gradient, and its denominator.
RANGES = {
    "one sign, positive": ([1.0, 3.0], 2.0),
    "both signs": ([-1.0, 3.0], 4.0),
    "all negative": ([-1.0, -3.0], 4.0),  # |-1| - -3, not 2
    "one positive element": ([3.0], 1.0),  # 3 - 3 = 0 becomes 1, so the step is that of SGD
    "one negative element": ([-3.0], 6.0),  # so the step is lr/2
    "a positive constant": ([2.0, 2.0], 1.0),
    "a negative constant": ([-2.0, -2.0], 4.0),
    "zeros": ([0.0, -0.0], 1.0),
}


@backends
@pytest.mark.parametrize("name", RANGES)
def test_the_range_of_a_vector_is_abs_of_max_minus_min(backend: Backend, name: str) -> None:
    """ROSE-4.3, ROSE-5.1 (a vector has no gate), ROSE-5.5."""
    grad, denominator = RANGES[name]
    array = np.asarray(grad, np.float64)
    statistics = rose_core.slice_statistics(backend.array(array))
    assert statistics.mean is None
    assert statistics.trust is None
    assert_same_bits(statistics.denominator, np.asarray([denominator]), backend=backend.name)
    result = rose_core.update(backend.array(np.ones(len(grad))), backend.array(array), lr=0.5, weight_decay=0.0)
    assert_same_bits(result, 1.0 + (-0.5 * array) / denominator, backend=backend.name)


def test_a_vector_of_nearly_equal_positive_elements_moves_by_thousands_of_lr() -> None:
    result = step(np.zeros(2), np.asarray([1.0, 1.0 + 2.0**-23]), lr=1e-3)
    assert result[0] == -1e-3 * 2.0**23


SIGNS = {"positive": (2.5, 0.875), "negative": (-1e-6, 1.125), "zero": (0.0, 1.0), "negative zero": (-0.0, 1.0)}


@backends
@dtypes
@computes
@pytest.mark.parametrize(("grad", "expected"), SIGNS.values(), ids=SIGNS)
def test_a_scalar_moves_by_the_sign_of_its_gradient(
    backend: Backend, dtype: str, compute: str | None, grad: float, expected: float
) -> None:
    """ROSE-6.2."""
    if dtype not in backend.dtypes:
        pytest.skip(f"{backend.name} has no {dtype}")
    param = backend.array(np.ones((), DTYPES[dtype][0]))
    result = rose_core.update(param, backend.array(np.asarray(grad)), lr=0.125, weight_decay=0.0, compute_dtype=compute)
    assert_same_bits(result, np.asarray(expected, DTYPES[dtype][0]), backend=backend.name)


@backends
@pytest.mark.parametrize("param", [1.0, -0.0])
def test_a_scalar_is_unchanged_by_a_zero_and_becomes_nan_by_nan(backend: Backend, param: float) -> None:
    """ROSE-6.2: the sign of a zero is +0, and -0 + (+0 * -lr) is -0. `torch.sign` of NaN would be 0."""
    for grad, expected in ((0.0, param), (-0.0, param), (np.nan, np.nan)):
        result = rose_core.update(
            backend.array(np.asarray(param)), backend.array(np.asarray(grad)), lr=0.125, weight_decay=0.0
        )
        assert_same_bits(result, np.asarray(expected), backend=backend.name)


@backends
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("centralize", [True, False])
def test_a_nan_or_infinity_makes_its_slice_nan_and_with_the_gate_all_slices(
    backend: Backend, bad: float, centralize: bool
) -> None:
    """ROSE-4.1: the minimum and the maximum of a slice with NaN are NaN."""
    param, grad = pair(np.random.default_rng(0), "normal", (4, 5))
    grad[2, 3] = bad
    arrays = backend.array(param), backend.array(grad)
    for stabilize in (True, False):
        result = rose_core.update(*arrays, lr=0.1, centralize=centralize, stabilize=stabilize)
        expected = step(param, grad, lr=0.1, weight_decay=1e-4, centralize=centralize, stabilize=stabilize)
        assert_same_bits(result, expected, backend=backend.name)
        nans = np.isnan(expected)
        assert nans[2, 3]
        if stabilize:
            assert nans.all()
        elif centralize or np.isnan(bad):
            assert nans[2].all()
        if not stabilize:
            assert not nans[[0, 1, 3]].any()


@given(data=st.data(), rng=generators(), dtype=st.sampled_from(sorted(EDGES)), shape=shapes())
@examples(100)
def test_a_step_with_lr_0_changes_no_bit_but_the_sign_of_a_zero(
    data: st.DataObject, rng: np.random.Generator, dtype: str, shape: tuple[int, ...]
) -> None:
    """ROSE-6.1: if x is -0 and the centered gradient g is negative, -0 * g is +0, and the sum is +0."""
    param, grad = data.draw(floats_of(dtype, shape)), fill("normal", rng, shape, dtype)
    compute = data.draw(st.sampled_from(["fp64", None]))
    result = step(param, grad, lr=0.0, weight_decay=0.5, compute_dtype=compute)
    with np.errstate(invalid="ignore"):  # NumPy warns of signalling NaN
        zero = param == 0
    assert_same_bits(result[~zero], param[~zero])
    assert not result[zero].any()


@pytest.mark.parametrize("shape", [(3, 4), (5,), (), (0, 3)])
def test_the_result_is_a_new_array(shape: tuple[int, ...]) -> None:
    """Also if no value changes: lr 0, no decay, the same compute and storage dtype, no elements (ROSE-1.4)."""
    param = np.ones(shape)
    result = step(param, np.ones(shape), lr=0.0)
    assert not np.shares_memory(result, param)
    assert result.flags.writeable
    assert_same_bits(result, param)


@given(x=floats_of("float32", (4, 6)), grad=floats_of("float32", (4, 6)))
@example(x=np.zeros((4, 6), np.float32), grad=np.full((4, 6), np.nan, np.float32))
@examples(100)
def test_arguments_are_not_changed(x: np.ndarray, grad: np.ndarray) -> None:
    before = words(x).tolist(), words(grad).tolist()
    step(x, grad, weight_decay=0.1, maximize=True)
    rose_core.slice_statistics(grad)
    rose_core.reproducible_sum(x, axis=0)
    rose_core.round_to_bfloat16(x)
    assert (words(x).tolist(), words(grad).tolist()) == before


def test_bfloat16_with_noise_and_compute_dtype_none_is_computed_in_float32() -> None:
    """ROSE-2.5: without noise it is computed in bfloat16."""
    rng = np.random.default_rng(0)
    param, grad = (fill("normal", rng, (9, 9), "bfloat16") for _ in range(2))
    noise = rng.integers(0, 2**16, param.shape)
    expected = step(param, grad, compute_dtype="fp32", noise=noise)
    assert_same_bits(step(param, grad, compute_dtype=None, noise=noise), expected)
    assert_same_bits(step(param, grad, compute_dtype=None), step(param, grad, compute_dtype="bf16"))
