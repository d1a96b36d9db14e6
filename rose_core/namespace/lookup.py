"""Which library an array belongs to, and what it has."""

from collections.abc import Hashable
from typing import Any, Final, Literal, Protocol

import array_api_compat
import numpy as np

__all__ = [
    "Array",
    "OperationDtype",
    "array_namespace",
    "detached",
    "device",
    "dtype_name",
    "has_float16",
    "has_float64",
    "is_compiled",
    "kind",
    "library",
    "quiet",
    "resolved",
    "scalar",
    "stores_bfloat16",
    "without_history",
]

OperationDtype = Literal["float64", "float32"]

# NumPy reports overflow and NaN as warnings, other libraries do not; here both are ordinary values.
quiet = np.errstate(all="ignore")


class Array(Protocol):  # noqa: PLW1641  (arrays compare elementwise and have no hash)
    """What the core asks of an array's type; its functions come from `array_namespace`."""

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
    def __truediv__(self, other: Any, /) -> Any: ...
    def __lt__(self, other: Any, /) -> Any: ...
    def __gt__(self, other: Any, /) -> Any: ...
    def __ge__(self, other: Any, /) -> Any: ...
    def __eq__(self, other: Any, /) -> Any: ...
    def __and__(self, other: Any, /) -> Any: ...
    def __rshift__(self, other: Any, /) -> Any: ...


_NAMESPACES: Final[dict[type, Any]] = {}


def array_namespace(x: Array) -> Any:
    """Return the array-API namespace of the array, looked up once for its type."""
    namespace = _NAMESPACES.get(type(x))
    if namespace is None:
        namespace = array_api_compat.array_namespace(x)
        if array_api_compat.is_numpy_namespace(namespace):
            namespace = np  # which follows the standard, without a wrapper around each function
        _NAMESPACES[type(x)] = namespace
    return namespace


_LIBRARIES: Final[dict[type, str]] = {}


def library(x: Array) -> str:
    """Return the name of the array's library: "numpy", "torch", "cupy", "array_api_strict", ..."""
    name = _LIBRARIES.get(type(x))
    if name is None:
        name = _LIBRARIES[type(x)] = array_namespace(x).__name__.removeprefix("array_api_compat.")
    return name


def device(x: Array) -> Any:
    """Return the device of an array as its library names it."""
    return x.device


# By type too, since dtypes of two libraries must not be compared.
_DTYPE_NAMES: Final[dict[tuple[type, Any], str]] = {}


def dtype_name(x: Array) -> str:
    """Return the dtype's name as NumPy writes it, whatever the library: "float32", "bfloat16", ..."""
    dtype = x.dtype
    name = _DTYPE_NAMES.get((type(dtype), dtype))
    if name is None:
        name = _DTYPE_NAMES[type(dtype), dtype] = str(dtype).rpartition(".")[2]
    return name


def kind(x: Array) -> Hashable:
    """Return what arrays must have in common, besides their shape, to be worked on as one."""
    put_off = (x.requires_grad, x.is_neg()) if library(x) == "torch" else ()  # type: ignore[attr-defined]
    place = x.device.id if library(x) == "cupy" else x.device  # CuPy's devices have no hash
    return type(x), x.dtype, place, put_off


def stores_bfloat16(x: Array) -> bool:
    """Tell whether the library of `x` has bfloat16, or NumPy's form of it from ml_dtypes."""
    return library(x) in ("torch", "numpy", "cupy")


def has_float16(x: Array) -> bool:
    """Tell whether the library of `x` has float16, which is not in the standard."""
    return hasattr(array_namespace(x), "float16")


def has_float64(x: Array) -> bool:
    """Tell whether the device of `x` has float64; torch on Apple GPUs has none (ROSE-12.2)."""
    if library(x) == "torch":
        return bool(device(x).type != "mps")
    if library(x) in ("numpy", "cupy"):
        return True
    return "float64" in array_namespace(x).__array_namespace_info__().dtypes(device=device(x))


def is_compiled(x: Array) -> bool:
    """Tell whether torch compiles what is done with its tensor `x`."""
    return bool(array_namespace(x).compiler.is_compiling())


def scalar(x: Array, value: float) -> Any:
    """Return a one-element array of the dtype, library and device of `x`."""
    return array_namespace(x).full((1,), value, dtype=x.dtype, device=device(x))


def without_history(x: Any) -> Any:
    """Return the array itself, a tensor without its autograd history."""
    return x.detach() if library(x) == "torch" and x.requires_grad else x


def detached(x: Any) -> Any:
    """Return the array itself, a tensor as `resolved` does."""
    return resolved(x) if library(x) == "torch" else x


def resolved(x: Any) -> Any:
    """Return the tensor itself, without autograd history or a negation that is put off, which has no bit casts."""
    return x.detach().resolve_neg() if x.requires_grad or x.is_neg() else x
