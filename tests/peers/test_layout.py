"""Arrays of every rank are read as stacks of matrices, by the axes that an option names."""

from typing import Any

import numpy as np
import pytest

from rose_core.peers import Muon
from tests.backends import Backend, backends
from tests.bits import assert_same_bits

SHAPES: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, int, int]]] = {
    "a matrix": ({}, (2, 3), (1, 2, 3)),
    "weights of shape (in, out)": ({"output_axis": 1}, (2, 3), (1, 3, 2)),
    "a convolution": ({}, (4, 3, 2, 5), (1, 4, 30)),
    "a stack": ({"batch_axes": (0,)}, (7, 2, 3), (7, 2, 3)),
    "a stack counted from the end": ({"batch_axes": (-1,)}, (2, 3, 7), (7, 2, 3)),
    "two axes of layers": ({"batch_axes": (2, 0)}, (7, 2, 5, 3), (35, 2, 3)),
    "a stack of convolutions": ({"batch_axes": (0,), "output_axis": -1}, (7, 3, 2, 4), (7, 4, 6)),
    "columns in another order": ({"reduction_axes": (2, 1)}, (4, 3, 2), (1, 4, 6)),
}


@backends
@pytest.mark.parametrize(("options", "shape", "expected"), SHAPES.values(), ids=SHAPES)
def test_matrices_and_restored_are_inverse(backend: Backend, options: Any, shape: Any, expected: Any) -> None:
    rule, x = Muon(**options), np.arange(float(np.prod(shape))).reshape(shape)
    rule.init(x)
    matrices = rule.matrices(backend.array(x))
    assert tuple(matrices.shape) == rule.shape_of(x) == expected
    assert_same_bits(rule.restored(matrices, backend.array(x)), x, backend=backend.name)


def test_rows_are_outputs_and_columns_inputs() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    assert_same_bits(Muon().matrices(x)[0], x.reshape(2, 12))
    assert_same_bits(Muon(output_axis=1).matrices(x)[0], x.transpose(1, 0, 2).reshape(3, 8))
    assert_same_bits(Muon(batch_axes=(0,), output_axis=2).matrices(x), x.transpose(0, 2, 1))
    assert_same_bits(Muon(reduction_axes=(2, 1)).matrices(x)[0], x.transpose(0, 2, 1).reshape(2, 12))


REFUSED = {
    "an axis twice": ({"batch_axes": (0,), "output_axis": 0}, "must name each axis once"),
    "an axis twice from the end": ({"batch_axes": (0,), "output_axis": -3}, "must name each axis once"),
    "an axis too many": ({"batch_axes": (3,)}, "must name each axis once"),
    "a missing axis": ({"reduction_axes": (1,)}, "must name each axis once"),
}


@pytest.mark.parametrize(("options", "text"), REFUSED.values(), ids=REFUSED)
def test_axes_that_do_not_fit_are_refused(options: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Muon(**options).init(np.zeros((2, 3, 4)))


OPTIONS = {
    "axes": ({"batch_axes": 0}, TypeError, "batch_axes must be a tuple of integers, got 0"),
    "an axis that is no integer": ({"reduction_axes": (1.0,)}, TypeError, "reduction_axes must be a tuple of integers"),
    "a repeated axis": ({"batch_axes": (1, 1)}, ValueError, "batch_axes must not name an axis twice"),
    "output_axis": ({"output_axis": "0"}, TypeError, "output_axis must be an integer"),
    "coefficient_set": ({"coefficient_set": "best"}, ValueError, "coefficient_set must be one of 'quintic', 'simple'"),
    "no coefficients": ({"coefficient_set": "custom"}, ValueError, "custom_coefficients must be given with"),
    "coefficients of a set": ({"custom_coefficients": ((1.5, -0.5, 0.0),)}, ValueError, "and only then"),
    "two coefficients": (
        {"coefficient_set": "custom", "custom_coefficients": ((1.5, -0.5),)},
        TypeError,
        r"custom_coefficients\[0\] must be a tuple of 3 numbers",
    ),
    "no rows": ({"coefficient_set": "custom", "custom_coefficients": ()}, TypeError, "tuple of tuples of three"),
    "no steps": ({"steps": 0}, ValueError, "steps must be an integer >= 1, got 0"),
    "NaN": ({"extra_scale": float("nan")}, ValueError, "extra_scale must be a finite number > 0"),
}


@pytest.mark.parametrize(("options", "error", "text"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_are_refused(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Muon(**options)
