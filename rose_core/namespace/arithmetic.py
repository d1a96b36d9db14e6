"""Operations in which libraries differ in their bits or in their speed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rose_core.namespace.lookup import Array, array_namespace, device, is_compiled, library, scalar
from rose_core.namespace.memory import as_light_array, has_light_arrays

__all__ = ["AddScaledQuotient", "add_scaled_quotient", "divided", "scaled_quotient_adder", "square_root"]


def divided(x: Array, divisor: float) -> Any:
    """Return ``x / divisor``, which torch on CUDA makes a product with the reciprocal unless it is an array."""
    return x / divisor if library(x) == "numpy" else x / scalar(x, divisor)


def square_root(x: Any) -> Any:
    """Return the correctly rounded square root of a float64 array (ROSE-5.2).

    NOTE: [torch's square root] on x86 torch calls MKL's, which is off in the last place for 1.4 % of
    float64 values, so there NumPy's IEEE root is taken; the memory is the CPU's, nothing synchronises.
    """
    xp = array_namespace(x)
    if library(x) == "torch" and device(x).type == "cpu":
        light = as_light_array(x)
        root = np.sqrt(light) if isinstance(light, np.ndarray) else np.sqrt(np.float64(x.item()))  # of one gate
        return xp.reshape(xp.asarray(root, device=device(x)), x.shape)
    return xp.sqrt(x)


AddScaledQuotient = Callable[[Any, float, Any, Any], Any]
"""Returns ``x + factor * numerator / denominator`` after three roundings; `x` and `numerator` may be written over."""


def add_scaled_quotient(x: Any, factor: float, numerator: Any, denominator: Any) -> Any:
    """Do what an `AddScaledQuotient` does with arrays of any library."""
    return x + _scaled_quotient(factor, numerator, denominator)


def _add_scaled_quotient_in_place(x: Any, factor: float, numerator: Any, denominator: Any) -> Any:
    x += _scaled_quotient(factor, numerator, denominator)
    return x


def _scaled_quotient(factor: float, numerator: Any, denominator: Any) -> Any:
    numerator *= factor
    numerator /= denominator
    return numerator


def scaled_quotient_adder(param: Array, grad: Array) -> AddScaledQuotient:
    """Return what adds a scaled quotient best in a step: to find it costs more than to do it to a block.

    On a CPU torch does it in one pass, but its compiler would apply the factor to the quotient. Where torch transforms
    a function it adds nothing in place that stands for many to what does not.
    """
    if library(param) != "torch":
        return _add_scaled_quotient_in_place
    one_pass = not is_compiled(param) and has_light_arrays(param) and has_light_arrays(grad)
    return _addcdiv if one_pass else add_scaled_quotient


def _addcdiv(x: Any, factor: float, numerator: Any, denominator: Any) -> Any:
    return x.addcdiv_(numerator, denominator, value=factor)
