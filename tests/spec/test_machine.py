"""The arithmetic of the machine, where it is used, has the bits of the exact arithmetic."""

import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rose_spec.cases import generated_case
from rose_spec.floats import FLOAT64, FORMATS, add, cast, div, mul, sqrt, sub, total
from rose_spec.machine import by_machine, machine_arithmetic
from rose_spec.oracle import Rule
from rose_spec.vectors import number_to_json, options_from_json, tensor_to_json
from tests.strategies import examples

# Values near 1 with few bits give ties, and any words give subnormals, infinities and NaNs.
NEAR = st.builds(math.ldexp, st.integers(-(2**26), 2**26), st.integers(-60, 4))
WORDS = st.integers(0, 2**64 - 1).map(lambda word: struct.unpack(">d", word.to_bytes(8, "big"))[0])
VALUES = NEAR | WORDS | st.sampled_from([1.0, 1 + 2.0**-24, 1 + 3 * 2.0**-24, 1 + 2.0**-11, 1 + 2.0**-8, 2.0**-149])
NAMES = st.sampled_from(list(FORMATS))


def in_both(operation: Callable[..., float], *values: Any) -> list[str]:
    """Return the words of an exact result and of the result by the machine."""
    exact = operation(*values)
    with machine_arithmetic():
        quick = operation(*values)
    return [number_to_json(math.nan if math.isnan(value) else value) for value in (exact, quick)]


@given(a=VALUES, b=VALUES, name=NAMES)
@example(1.0, 2.0**-24, "float32")
@example(1.0, 2.0**-24 + 2.0**-76, "float32")
@example(2.0**-1022, 2.0**-52, "float64")
@examples(300)
def test_operations_of_two_values_have_the_same_bits(a: float, b: float, name: str) -> None:
    for operation in (add, sub, mul, div):
        exact, quick = in_both(operation, a, b, FORMATS[name])
        assert exact == quick, operation


@given(value=VALUES, name=NAMES)
@examples(300)
def test_casts_and_roots_have_the_same_bits(value: float, name: str) -> None:
    exact, quick = in_both(cast, value, FORMATS[name])
    assert exact == quick
    exact, quick = in_both(sqrt, abs(value), FORMATS[name])
    assert exact == quick


@given(values=st.lists(VALUES.filter(math.isfinite), min_size=1, max_size=9))
@examples(200)
def test_sums_have_the_same_bits(values: list[float]) -> None:
    exact, quick = in_both(total, values)
    assert exact == quick


@pytest.mark.parametrize("seed", [3, 4])
def test_steps_have_the_same_bits(seed: int) -> None:
    for index in range(200):
        case = generated_case(seed, index)
        rule = Rule(options_from_json(case.options))
        exact = tensor_to_json(rule.update(case.param, case.grad, case.noise).param)
        with machine_arithmetic():
            assert tensor_to_json(rule.update(case.param, case.grad, case.noise).param) == exact


def test_the_machine_is_used_only_when_asked() -> None:
    assert by_machine(1.5, FLOAT64.width, FLOAT64.precision) is None
    with machine_arithmetic(), machine_arithmetic():
        assert by_machine(1.5, FLOAT64.width, FLOAT64.precision) == 1.5
    assert by_machine(1.5, FLOAT64.width, FLOAT64.precision) is None
