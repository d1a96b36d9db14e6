"""The diagnosis of a parameter has the numbers of its step: the statistics, and the size of the update."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rose_core.chunks
from rose_core import Hyperparameters, slice_statistics, update
from rose_diagnosis.parameter import ParameterDiagnosis, diagnose_parameter
from tests.adapters.models import SHAPES, normal
from tests.adapters.refusals import raises
from tests.backends import Backend, backends
from tests.bits import DTYPES, from_words

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "not centered": {"centralize": False},
    "not stabilized": {"stabilize": False},
    "fp32": {"compute_dtype": "fp32"},
    "bf16": {"compute_dtype": "bf16", "bf16_sr": False},
    "compute_dtype None": {"compute_dtype": None},
    "maximize": {"maximize": True},
}


def diagnosed(param: Any, grad: Any, **options: Any) -> ParameterDiagnosis:
    return diagnose_parameter("p", param, grad, Hyperparameters(**({"lr": 0.25} | options)))


def root_mean_square(x: Any) -> float:
    values = np.asarray(x).astype(np.float64).ravel()
    return math.sqrt(math.fsum(values * values) / values.size)


def resolved(dtype: str, compute_dtype: str | None) -> str:
    """Return the compute dtype of a parameter of this dtype."""
    default = "float32" if dtype == "bfloat16" else dtype  # bfloat16 is rounded stochastically here
    return default if compute_dtype is None else compute_dtype


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["bias", "weight", "kernel"])
def test_the_numbers_equal_those_of_the_statistics_and_the_step(name: str, dtype: str, options: dict[str, Any]) -> None:
    param, grad = normal(0, SHAPES[name], dtype), normal(1, SHAPES[name], dtype)
    found = diagnosed(param, grad, **options)

    compute = resolved(dtype, options.get("compute_dtype", "fp64"))
    chosen = {option: options.get(option, True) for option in ("centralize", "stabilize")}
    signed = -grad if options.get("maximize") else grad
    statistics = slice_statistics(signed, compute_dtype=compute, **chosen)
    assert found.trust == (None if statistics.trust is None else float(statistics.trust))
    ranges = statistics.range
    assert [found.range_min, found.range_median, found.range_max] == np.quantile(ranges, [0, 0.5, 1]).tolist()
    assert found.zero_denominators == 0.0

    wide = np.zeros(param.shape, np.float64 if compute in ("fp64", "float64") else np.float32)
    step = update(wide, signed, lr=0.25, weight_decay=0.0, compute_dtype=compute, **chosen)
    assert found.update_rms == root_mean_square(step) > 0.0
    assert found.param_rms == root_mean_square(param)
    assert found.relative_update == found.update_rms / found.param_rms
    assert found.largest_step == float(np.max(np.abs(step))) / 0.25
    if statistics.mean is None:
        assert found.centered_share is None
    else:
        values = grad.astype(wide.dtype) if compute != "bf16" else grad.astype(DTYPES["bfloat16"][0])
        assert found.centered_share == (root_mean_square(statistics.mean) / root_mean_square(values)) ** 2


@backends
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_library_has_the_same_numbers(backend: Backend, dtype: str, options: dict[str, Any]) -> None:
    if dtype not in backend.dtypes:
        pytest.skip(f"{backend.name} has no {dtype}")
    for shape in SHAPES.values():
        param, grad = normal(0, shape, dtype), normal(1, shape, dtype)
        assert diagnosed(backend.array(param), backend.array(grad), **options) == diagnosed(param, grad, **options)


@pytest.mark.parametrize("size", [1, 5, 7, 40])
def test_chunks_of_any_size_have_the_same_numbers(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(normal(0, shape), normal(1, shape)) for shape in [*SHAPES.values(), (3, 17), (17, 3), (23,)]]
    expected = [diagnosed(*pair) for pair in pairs]
    monkeypatch.setattr(rose_core.chunks, "_CPU_ELEMENTS", size)
    assert [diagnosed(*pair) for pair in pairs] == expected


GRADIENTS = st.lists(
    st.lists(st.just(0.0) | st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3), min_size=3, max_size=3),
    min_size=1,
    max_size=4,
)


@given(rows=GRADIENTS, lr=st.sampled_from([0.25, 0.1, 0.3, 1e-3]), centralize=st.booleans(), stabilize=st.booleans())
def test_the_numbers_are_within_their_bounds(
    rows: list[list[float]], lr: float, centralize: bool, stabilize: bool
) -> None:
    grad = np.asarray(rows)
    found = diagnosed(np.zeros_like(grad), grad, lr=lr, centralize=centralize, stabilize=stabilize)
    shares = [found.zero_denominators, *([found.trust] * stabilize), *([found.centered_share] * centralize)]
    assert all(0.0 <= share <= 1.0 for share in shares)  # type: ignore[operator]
    low, middle, high = found.range_min, found.range_median, found.range_max
    assert 0.0 <= low <= middle <= high  # type: ignore[operator]
    if not stabilize and (centralize or all(min(row) <= 0.0 <= max(row) for row in rows)):
        # The product with lr, the quotient, and the quotient by lr are each rounded, by 2^-53 at most. A product with a
        # power of two is exact.
        excess = 0.0 if lr == 0.25 else 2.0**-51
        assert found.largest_step <= 1.0 + excess  # type: ignore[operator]


def test_zero_denominators_do_not_count_denominators_of_1() -> None:
    grad = np.asarray([[1.0, 1.0], [0.0, 1.0], [2.0, 2.0], [0.0, 2.0]])
    assert diagnosed(grad, grad, stabilize=False).zero_denominators == 0.5
    # With the gate they are not 0.
    assert diagnosed(grad, grad).zero_denominators == 0.0
    assert diagnosed(grad, np.ones_like(grad)).zero_denominators == 1.0


def test_the_median_of_an_even_number_of_ranges_is_the_mean_of_the_middle_two() -> None:
    grad = np.asarray([[0.0, 8.0], [0.0, 1.0], [0.0, 2.0], [0.0, 5.0]])
    found = diagnosed(grad, grad)
    assert (found.range_min, found.range_median, found.range_max) == (1.0, 3.5, 8.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_that_is_not_finite_makes_the_numbers_nan(dtype: str, bad: float) -> None:
    grad = normal(1, (3, 4), dtype)
    grad[1, 2] = bad
    found = diagnosed(normal(0, (3, 4), dtype), grad)
    numbers = [found.trust, found.range_min, found.range_median, found.range_max, found.centered_share]
    numbers += [found.update_rms, found.relative_update, found.largest_step]
    assert all(number is not None and math.isnan(number) for number in numbers)
    assert found.zero_denominators == 0.0
    assert math.isfinite(found.param_rms or math.nan)


def test_a_step_that_overflows_has_an_update_rms_of_nan() -> None:
    grad = from_words([0x7F7FFFFF, 0x7F7FFFFE], "float32")
    found = diagnosed(np.ones(2, np.float32), grad, lr=3e38, compute_dtype="fp32")
    assert math.isnan(found.update_rms or 0.0)


def test_a_scalar_has_no_slices_and_an_update_of_lr() -> None:
    found = diagnosed(np.asarray(2.0), np.asarray(-7.0))
    assert found == ParameterDiagnosis(
        name="p",
        dtype="float64",
        shape=(),
        slices=0,
        slice_elements=0,
        stays_in_place=False,
        param_rms=2.0,
        update_rms=0.25,
        relative_update=0.125,
        largest_step=1.0,
    )


@pytest.mark.parametrize(
    ("param", "grad"),
    [(np.ones((0, 3)), np.ones((0, 3))), (np.ones((3, 0)), np.ones((3, 0))), (np.ones(3, np.int8), None)],
    ids=["no slices", "empty slices", "no gradient, of integers"],
)
def test_a_parameter_without_elements_or_gradient_has_no_numbers(param: np.ndarray, grad: np.ndarray | None) -> None:
    found = diagnosed(param, grad)
    assert found == ParameterDiagnosis(
        name="p",
        dtype=str(param.dtype),
        shape=param.shape,
        slices=param.shape[0] if param.ndim > 1 else 1,
        slice_elements=param.shape[-1],
        stays_in_place=False,
    )


def test_centered_slices_of_one_element_stay_in_place() -> None:
    param, grad = np.ones((3, 1, 1)), np.ones((3, 1, 1))
    found = diagnosed(param, grad)
    assert found.stays_in_place
    assert (found.slices, found.slice_elements, found.zero_denominators, found.update_rms) == (3, 1, 1.0, 0.0)
    assert not diagnosed(param, grad, centralize=False).stays_in_place


def test_a_parameter_of_zeros_has_no_relative_update() -> None:
    found = diagnosed(np.zeros((2, 2)), np.asarray([[1.0, 3.0], [2.0, 4.0]]))
    assert (found.param_rms, found.update_rms, found.relative_update) == (0.0, 0.125, None)


def test_a_learning_rate_of_0_has_no_largest_step() -> None:
    found = diagnosed(np.ones((2, 2)), np.asarray([[1.0, 3.0], [2.0, 4.0]]), lr=0.0)
    assert (found.update_rms, found.largest_step) == (0.0, None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_centering_removes_all_of_constant_slices(dtype: str) -> None:
    grad = np.broadcast_to(np.asarray([[1.1], [3.3]]).astype(DTYPES[dtype][0]), (2, 7))
    share = (root_mean_square(grad[:, 0]) / root_mean_square(grad)) ** 2  # 1, but each operation is rounded
    assert diagnosed(np.ones((2, 7)), grad).centered_share == min(share, 1.0)


def test_json_keeps_the_values() -> None:
    entry = diagnosed(normal(0, (4, 6)), normal(1, (4, 6)))
    assert json.loads(json.dumps(entry.to_dict())) == entry.to_dict()
    assert ParameterDiagnosis(**(entry.to_dict() | {"shape": (4, 6)})) == entry


def test_an_invalid_parameter_or_gradient_raises_with_the_name() -> None:
    with raises(ValueError, "the gradient of p has shape (3,), p has (2,); they must be equal"):
        diagnosed(np.ones(2), np.ones(3))
    with raises(TypeError, "p has dtype complex128; allowed are float64, float32, float16, bfloat16"):
        diagnosed(np.ones(2, complex), np.ones(2))
