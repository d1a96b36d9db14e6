"""Division by multiplication has the bits of division, for all operands that `has_reciprocal` allows."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numba.core.registry import cpu_target

import rose_core
from rose_kernels.llvm.compilation import indices
from rose_kernels.rule.division import divide, has_reciprocal, with_reciprocal
from tests.bits import assert_same_bits
from tests.core.test_same_bits import OPTIONS
from tests.kernels.stepping import update_by_kernels
from tests.strategies import examples, generators

BITS: Final = 53


@njit(error_model="numpy")
def divide_all(x: Any, divisor: Any, quotients: Any) -> None:
    """Divide each element by one divisor, by multiplication."""
    by = with_reciprocal(divisor, np.float64)
    for i in indices(0, x.size):
        quotients[i] = divide(x[i], by, i)


def quotients_of(x: np.ndarray, divisor: float) -> np.ndarray:
    """Return x / divisor, computed by multiplication."""
    quotients = np.empty_like(x)
    divide_all(x, divisor, quotients)
    return quotients


def hard_dividends(divisor: int) -> list[int]:
    """Return integers of 53 bits whose quotients by the divisor are as near to a float or a tie as possible.

    The quotient is close to m / 2**shift, where m * divisor = rest modulo 2**shift for a small rest. An m of 53 bits is
    a float, and one of 54 bits is a float or a tie.
    """
    dividends = []
    odd = divisor // (divisor & -divisor)
    for rest in range(-5, 6):
        for shift in (BITS, BITS + 1):
            m = rest * pow(odd, -1, 2**shift) % 2**shift
            dividends.append((m * odd - rest) >> shift)
    return [x << (BITS - x.bit_length()) for x in dividends if x > 0]


@given(significand=st.integers(2**52, 2**53 - 1) | st.integers(1, 64).map(lambda n: 2**53 - n), rng=generators())
@examples(300)
def test_quotients_near_a_tie(significand: int, rng: np.random.Generator) -> None:
    x = np.asarray(hard_dividends(significand), float)
    x = np.concatenate([x, rng.integers(2**52, 2**53, 500).astype(float), significand + np.arange(-9, 9)])
    divisor = float(significand)
    assert_same_bits(quotients_of(x, divisor), x / divisor, backend="division")


@given(
    divisor=st.floats(2.0**-300, 2.0**300),
    exponents=st.tuples(st.integers(-665, 529), st.integers(-665, 529)),
    rng=generators(),
)
@examples(300)
def test_quotients_of_every_magnitude(divisor: float, exponents: tuple[int, int], rng: np.random.Generator) -> None:
    x = np.ldexp(rng.uniform(-2, 2, 500), rng.integers(min(exponents), max(exponents) + 1, 500))
    x = np.concatenate([x, [0.0, -0.0], np.ldexp(1.0, exponents), -np.ldexp(1.0, exponents)])
    assert has_reciprocal.py_func(divisor, 1.0)
    assert_same_bits(quotients_of(x, divisor), x / divisor, backend="division")


@pytest.mark.parametrize("divisor", [0.0, -1.0, np.nan, np.inf, 5e-324, 2.0**-301, 2.0**301])
def test_divisors_without_a_reciprocal(divisor: float) -> None:
    assert not has_reciprocal.py_func(divisor, 1.0)


@pytest.mark.parametrize("grad_dtype", ["float64", "float32"])
@pytest.mark.parametrize("lr", [0.0, 5e-324, 1e-310, 2.0**-401, 2.0**-400, 1e-30, 1e30, 2.0**400, 2.0**401, 1e308])
@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1.0, 1e38])
@pytest.mark.parametrize("shape", [(3, 100), (9, 5)])
def test_updates_at_the_ends_of_the_exponents(shape: tuple[int, int], scale: float, lr: float, grad_dtype: str) -> None:
    rng = np.random.default_rng(3)
    grad = (rng.integers(-3, 4, shape) * scale).astype(grad_dtype)
    param = np.where(rng.random(shape) < 0.5, -0.0, rng.standard_normal(shape)).astype(grad_dtype)
    for centralize in (True, False):
        options = OPTIONS | {"lr": lr, "weight_decay": 0.0, "centralize": centralize, "stabilize": False}
        expected = rose_core.update(param, grad, **options)
        updated = param.copy()
        assert update_by_kernels(updated, grad, **options)
        assert_same_bits(updated, expected, backend="kernels", what=f"{options}")


BY_DIVISION: Final = """
import numpy as np
from numba import njit
import rose_core
from rose_kernels.rule.division import can_multiply
from tests.bits import assert_same_bits
from tests.kernels.stepping import update_by_kernels

assert not njit(lambda: can_multiply(np.int32, np.float64))()
rng = np.random.default_rng(5)
for shape in [(3, 100), (9, 5), (70,)]:
    param, grad = rng.standard_normal((2, *shape)).astype(np.float32)
    expected = rose_core.update(param, grad, lr=0.1)
    assert update_by_kernels(param, grad, lr=0.1)
    assert_same_bits(param, expected)
print("same bits")
"""


@pytest.mark.slow
def test_a_processor_without_fused_multiply_add_divides(tmp_path: Path) -> None:
    processor = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", BY_DIVISION],
        env=os.environ | processor,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.stdout == "same bits\n", run.stderr


def test_loops_use_512_bit_vectors_where_they_are_fast() -> None:
    (ir,) = divide_all.inspect_llvm().values()
    has_wide = "+avx512vbmi2" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    assert ('"prefer-vector-width"="512"' in ir) == has_wide
