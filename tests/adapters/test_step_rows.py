"""`step_rows`: some rows of an array are updated as if they were the whole array."""

from typing import Any

import numpy as np
import pytest

from rose_core import noise_words, update
from rose_numpy import Rose
from tests.adapters.models import normal
from tests.adapters.refusals import raises
from tests.bits import DTYPES, assert_same_bits

ROWS = np.asarray([7, 2, 11])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(20, 6), (20,), (20, 3, 2)])
@pytest.mark.parametrize("options", [{}, {"centralize": False, "stabilize": False}, {"max_step": 0.25}])
def test_rows_get_the_bits_of_an_update_of_them_alone(
    dtype: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    other, table = normal(0, (3,), dtype), normal(1, shape, dtype)
    optimizer, expected = Rose({"other": other, "table": table}, lr=0.1, sr_seed=5, **options), table.copy()
    untouched = other.copy()
    for step in range(3):
        grad = normal(10 + step, (3, *shape[1:]), dtype)
        noise = None
        if dtype == "bfloat16":
            noise = noise_words(shape, seed=5, step=step, index=1, like=table)[ROWS]
        expected[ROWS] = update(expected[ROWS], grad, lr=0.1, noise=noise, **options)
        optimizer.step_rows("table", ROWS, grad)
        assert_same_bits(table, expected)
    assert_same_bits(other, untouched)
    assert optimizer.param_groups[0]["step"] == 3


def test_all_rows_have_the_bits_of_a_step() -> None:
    arrays = [normal(0, (5, 4), "bfloat16") for _ in range(2)]
    grad = normal(1, (5, 4), "bfloat16")
    Rose([arrays[0]], lr=0.1, wd_schedule=True).step([grad])
    Rose([arrays[1]], lr=0.1, wd_schedule=True).step_rows(0, np.arange(5), grad)
    assert_same_bits(*arrays)


def test_the_array_is_found_in_any_group() -> None:
    first, second = normal(0, (5, 4)), normal(1, (6, 4))
    optimizer = Rose([{"params": {"a": first}, "lr": 0.5}, {"params": [second]}], lr=0.1)
    grad, before = normal(2, (1, 4)), (first.copy(), second.copy())
    optimizer.step_rows(1, np.asarray([5]), grad)
    assert_same_bits(second[5:], update(before[1][5:], grad, lr=0.1))
    optimizer.step_rows("a", np.asarray([0]), grad)
    assert_same_bits(first[:1], update(before[0][:1], grad, lr=0.5))
    assert [group["step"] for group in optimizer.param_groups] == [1, 1]


def test_no_rows_change_nothing() -> None:
    table = normal(0, (5, 4))
    before = table.copy()
    Rose({"t": table}, lr=0.1).step_rows("t", np.asarray([], np.int64), np.zeros((0, 4), np.float32))
    assert_same_bits(table, before)


def test_a_bad_gradient_is_skipped() -> None:
    table = normal(0, (5, 4))
    optimizer, before = Rose({"t": table}, lr=0.1, nonfinite="skip"), table.copy()
    optimizer.step_rows("t", np.asarray([1]), np.full((1, 4), np.nan, np.float32))
    assert_same_bits(table, before)
    assert (optimizer.skipped_steps, optimizer.param_groups[0]["step"]) == (1, 0)


GRAD = np.ones((2, 4), np.float32)
REPEATED = "rows must not repeat a row; add up the gradients of a repeated row first"
REFUSED: dict[str, tuple[Any, Any, Any, type[Exception], str]] = {
    "unknown": (
        "x",
        [0, 1],
        GRAD,
        ValueError,
        "name must be one of ['t'], got 'x'",
    ),
    "a list": ("t", None, GRAD, TypeError, "rows must be an array of integers, got list"),
    "floats": ("t", [0.0, 1.0], GRAD, TypeError, "rows must be integers of shape (n,), got float64 of shape (2,)"),
    "a mask": ("t", [True] * 5, GRAD, TypeError, "rows must be integers of shape (n,), got bool of shape (5,)"),
    "a matrix": ("t", [[0, 1]], GRAD, TypeError, "rows must be integers of shape (n,), got int64 of shape (1, 2)"),
    "negative": ("t", [-1, 1], GRAD, ValueError, "rows must lie in [0, 5) for params['t'], got -1 to 1"),
    "beyond": ("t", [0, 5], GRAD, ValueError, "rows must lie in [0, 5) for params['t'], got 0 to 5"),
    "repeated": (
        "t",
        [1, 1],
        GRAD,
        ValueError,
        "rows must not repeat a row; add up the gradients of a repeated row first",
    ),
    "shape": ("t", [0], GRAD, ValueError, "grad has shape (2, 4), params['t'][rows] has (1, 4); they must be equal"),
}


def test_a_name_of_no_array_or_of_several_is_refused() -> None:
    grad, rows = np.ones((1, 4), np.float32), np.asarray([0])
    optimizer = Rose([{"params": {"t": normal(0, (5, 4))}}, {"params": [normal(1, (5, 4)), normal(2, (5, 4))]}], lr=0.1)
    with raises(ValueError, "name must be one of ['t', 1, 2], got 0"):
        optimizer.step_rows(0, rows, grad)
    optimizer.add_param_group({"params": {"t": normal(3, (5, 4))}})
    with raises(ValueError, "name must be that of one array; 2 have 't'"):
        optimizer.step_rows("t", rows, grad)


@pytest.mark.parametrize(("name", "rows", "grad", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_step_is_refused(name: str, rows: Any, grad: Any, error: type[Exception], text: str) -> None:
    table = normal(0, (5, 4))
    optimizer, before = Rose({"t": table}, lr=0.1), table.copy()
    with raises(error, text):
        optimizer.step_rows(name, [0, 1] if rows is None else np.asarray(rows), grad)
    assert_same_bits(table, before)
    assert optimizer.param_groups[0]["step"] == 0
