"""The library, the dtype and the device of an array, and the errors for arrays that are not allowed."""

from functools import cache
from typing import Any, Final, Literal, Protocol

import array_api_compat
import numpy as np

__all__ = [
    "Array",
    "OperationDtype",
    "array_namespace",
    "astype",
    "dtype_name",
    "floating_dtype",
    "full",
    "has_float16",
    "has_float64",
    "library",
    "quiet",
    "require_array",
    "require_integer_words",
    "require_like",
    "stores_bfloat16",
]

OperationDtype = Literal["float64", "float32"]

# NumPy reports overflow and NaN as warnings; other libraries do not. Here both are ordinary values.
quiet = np.errstate(all="ignore")

_FLOATING: Final = ("float64", "float32", "float16", "bfloat16")
_WITHOUT_FLOAT64: Final = {"mps"}  # device types of torch
_NAMESPACES: Final[dict[type, Any]] = {}
_LIBRARIES: Final[dict[type, str]] = {}


class Array(Protocol):  # noqa: PLW1641  (arrays compare elementwise and have no hash)
    """The operators and attributes that the core uses. Functions come from `array_namespace`."""

    @property
    def dtype(self) -> Any: ...
    @property
    def device(self) -> Any: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __neg__(self, /) -> Any: ...
    def __add__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __rsub__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...
    def __rmul__(self, other: Any, /) -> Any: ...
    def __truediv__(self, other: Any, /) -> Any: ...
    def __lt__(self, other: Any, /) -> Any: ...
    def __gt__(self, other: Any, /) -> Any: ...
    def __ge__(self, other: Any, /) -> Any: ...
    def __eq__(self, other: Any, /) -> Any: ...
    def __and__(self, other: Any, /) -> Any: ...
    def __rshift__(self, other: Any, /) -> Any: ...


def array_namespace(x: Array) -> Any:
    """Return the array-API namespace of an array. The lookup is cached by the array's type."""
    namespace = _NAMESPACES.get(type(x))
    if namespace is None:
        namespace = array_api_compat.array_namespace(x)
        if array_api_compat.is_numpy_namespace(namespace):
            namespace = np  # NumPy 2 follows the standard itself
        _NAMESPACES[type(x)] = namespace
    return namespace


def library(x: Array) -> str:
    """Return the name of the array's library: "numpy", "torch", "cupy", "array_api_strict", ..."""
    name = _LIBRARIES.get(type(x))
    if name is None:
        name = _LIBRARIES[type(x)] = array_namespace(x).__name__.removeprefix("array_api_compat.")
    return name


def dtype_name(x: Array) -> str:
    """Return the dtype's name as NumPy writes it, in every library: "float32", "bfloat16", ..."""
    return _name(x.dtype.__class__, x.dtype)


@cache
def _name(_: Any, dtype: Any) -> str:
    """Return the name of a dtype. Its type is part of the key: array-api-strict warns if its dtypes are compared."""
    return str(dtype).rpartition(".")[2]


def astype(x: Any, dtype: str) -> Any:
    """Cast an array, or a NumPy scalar: NumPy's operations return scalars at rank 0, which `np.astype` refuses."""
    if hasattr(x, "astype"):
        return x.astype(dtype)
    xp = array_namespace(x)
    return xp.astype(x, getattr(xp, dtype))


def full(shape: tuple[int, ...], value: float, dtype: str, like: Array) -> Any:
    """Return an array of equal elements in a dtype of the standard, of the library and on the device of `like`."""
    xp = array_namespace(like)
    return xp.full(shape, value, dtype=getattr(xp, dtype), device=like.device)


def stores_bfloat16(x: Array) -> bool:
    """Tell whether the library of `x` has bfloat16, or NumPy's form of it from ml_dtypes."""
    return library(x) in ("torch", "numpy", "cupy")


def has_float16(x: Array) -> bool:
    """Tell whether the library of `x` has float16, which is not in the standard."""
    return hasattr(array_namespace(x), "float16")


def has_float64(x: Array) -> bool:
    """Tell whether the device of `x` has float64. With torch, Apple GPUs have none (ROSE-12.2)."""
    name = library(x)
    if name == "torch":
        return x.device.type not in _WITHOUT_FLOAT64
    if name in ("numpy", "cupy"):
        return True
    return "float64" in array_namespace(x).__array_namespace_info__().dtypes(device=x.device)


def require_array(x: object, argument: str, kind: str = "of a library that follows the array-API standard") -> None:
    """Raise unless `x` is a dense array. Arithmetic on NumPy's masked arrays would drop the masked values."""
    if not array_api_compat.is_array_api_obj(x) or isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{argument} must be an array {kind}, got {type(x).__name__}")
    if array_api_compat.is_torch_array(x) and str(x.layout) != "torch.strided":
        raise TypeError(f"{argument} has the layout {x.layout}; sparse arrays are not allowed")


def floating_dtype(x: Array, argument: str) -> str:
    """Return the name of a dtype that Rose can update (ROSE-1.1), or raise a TypeError that names the argument."""
    require_array(x, argument)
    name = dtype_name(x)
    if name not in _FLOATING or (name == "bfloat16" and not stores_bfloat16(x)):
        raise TypeError(f"{argument} has dtype {name}; allowed are {', '.join(_FLOATING)}")
    return name


def require_like(x: Array, other: Array, names: tuple[str, str], *, any_shape: bool = False) -> None:
    """Raise unless `other` has the library, the shape and the device of `x`. `names` has the names of both arrays."""
    name, others_name = names
    if library(x) != library(other):
        raise TypeError(
            f"{others_name} is an array of {library(other)}, {name} of {library(x)}; they must be of one library"
        )
    if x.shape != other.shape and not any_shape:
        raise ValueError(
            f"{others_name} has shape {tuple(other.shape)}, {name} has {tuple(x.shape)}; they must be equal"
        )
    if x.device != other.device:
        raise ValueError(f"{others_name} is on device {other.device}, {name} on {x.device}; they must be on one device")


def require_integer_words(x: Array, noise: Array, name: str) -> None:
    """Raise unless `noise` is an integer array with the library, shape and device of `x`, the array called `name`."""
    require_array(noise, "noise", "of integers")
    require_like(x, noise, (name, "noise"))
    if not dtype_name(noise).startswith(("int", "uint")):
        raise TypeError(f"noise has dtype {dtype_name(noise)}; allowed are the integer dtypes")
