"""What arrays must be, by errors that name the argument, its value and what is allowed."""

from typing import Final

import array_api_compat
import numpy as np

from rose_core.namespace.lookup import Array, device, dtype_name, library, stores_bfloat16

__all__ = ["FLOATING", "floating_dtype", "require_array", "require_integer_words", "require_same_place"]

FLOATING: Final = ("float64", "float32", "float16", "bfloat16")


def require_array(x: object, argument: str, kind: str = "of a library that follows the array-API standard") -> None:
    """Raise unless `x` is an array to compute with; arithmetic on masked arrays would drop the masked values."""
    if not array_api_compat.is_array_api_obj(x) or isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{argument} must be an array {kind}, got {type(x).__name__}")
    if array_api_compat.is_torch_array(x) and str(x.layout) != "torch.strided":
        raise TypeError(f"{argument} has the layout {x.layout}; sparse arrays are not allowed")


def floating_dtype(x: Array, argument: str) -> str:
    """Return the name of a dtype that Rose can update (ROSE-1.1), or raise a TypeError that names the argument."""
    require_array(x, argument)
    name = dtype_name(x)
    if name not in FLOATING or (name == "bfloat16" and not stores_bfloat16(x)):
        raise TypeError(f"{argument} has dtype {name}; allowed are {', '.join(FLOATING)}")
    return name


def require_same_place(x: Array, other: Array, names: tuple[str, str]) -> None:
    """Raise unless `other` has the library, the shape and the device of `x`; `names` say which they are."""
    name, others_name = names
    if library(x) != library(other):
        raise TypeError(
            f"{others_name} is an array of {library(other)}, {name} of {library(x)}; they must be of one library"
        )
    if x.shape != other.shape:
        raise ValueError(
            f"{others_name} has shape {tuple(other.shape)}, {name} has {tuple(x.shape)}; they must be equal"
        )
    if device(x) != device(other):
        raise ValueError(
            f"{others_name} is on device {device(other)}, {name} on {device(x)}; they must be on one device"
        )


def require_integer_words(x: Array, noise: Array, name: str) -> None:
    """Raise unless `noise` is an integer array beside `x`, which is called `name`."""
    require_array(noise, "noise", "of integers")
    require_same_place(x, noise, (name, "noise"))
    if not dtype_name(noise).startswith(("int", "uint")):
        raise TypeError(f"noise has dtype {dtype_name(noise)}; allowed are the integer dtypes")
