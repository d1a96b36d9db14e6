"""The seam to the array libraries: the only module that asks which library an array belongs to.

The modules above it use the array-API standard (https://data-apis.org/array-api/latest/) and these
functions. What is here is what the standard does not give: 16-bit storage, bit casts, and the places
where a library departs from IEEE 754 (ROSE-1.5). Each of those has its reason beside it.
"""

import functools
import sys
from collections.abc import Callable, Hashable
from typing import Any, Final, Literal, Protocol

import array_api_compat
import ml_dtypes
import numpy as np

__all__ = [
    "AddScaledQuotient",
    "Array",
    "OperationDtype",
    "add_scaled_quotient",
    "array_namespace",
    "as_array_beside",
    "as_light_array",
    "bfloat16_from_float32_bits",
    "block_elements",
    "comparable",
    "conversion_into",
    "device",
    "divided",
    "dtype_name",
    "float32_bits",
    "float32_from_bits",
    "floating_dtype",
    "half_words",
    "has_float16",
    "has_float64",
    "has_light_arrays",
    "keep_freed_memory",
    "kind",
    "magnitude_words",
    "magnitude_words_into",
    "narrow",
    "narrows_in_writing",
    "quiet",
    "require_array",
    "require_integer_words",
    "require_same_place",
    "scalar",
    "scaled_quotient_adder",
    "scratch_memory",
    "square_root",
    "to_words",
    "widen",
    "with_one_nan",
    "without_history",
    "word_dtype",
]

FLOATING: Final = ("float64", "float32", "float16", "bfloat16")

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


def _library(x: Array) -> str:
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
    put_off = (x.requires_grad, x.is_neg()) if _library(x) == "torch" else ()  # type: ignore[attr-defined]
    return type(x), x.dtype, x.device, put_off


def require_array(x: object, argument: str, kind: str = "of a library that follows the array-API standard") -> None:
    """Raise unless `x` is an array to compute with; arithmetic on masked arrays would drop the masked values."""
    if not array_api_compat.is_array_api_obj(x) or isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{argument} must be an array {kind}, got {type(x).__name__}")
    if array_api_compat.is_torch_array(x) and str(x.layout) != "torch.strided":
        raise TypeError(f"{argument} has the layout {x.layout}; sparse arrays are not allowed")


def block_elements(x: Array) -> int:
    """Return how many elements of an array of this library and device to work on at a time.

    On a CPU so many that the temporaries of a block stay in the cache, and are chunks that the allocator keeps where
    larger ones would be faulted in anew, page by page; and yet enough work a call. On a GPU so many that launching
    kernels costs nothing.
    """
    if _library(x) == "cupy" or (_library(x) == "torch" and device(x).type != "cpu"):
        return 2**24
    return 2**17


def keep_freed_memory(x: Array) -> None:
    """Have the memory that one block frees kept for the next one.

    NOTE: [the trimmed heap] glibc gives the free end of its heap back to the system where that is more than
    twice the largest chunk, up to 32 MiB, that was ever unmapped. A block frees more than it allocates in one
    piece, so each would fault its pages in anew, and a step take three times as long. To have unmapped such a
    chunk, which is never touched, is enough (https://man7.org/linux/man-pages/man3/mallopt.3.html).
    """
    if block_elements(x) < 2**24:
        _unmap_a_chunk(array_namespace(x), device(x))


@functools.cache
def _unmap_a_chunk(xp: Any, place: Any) -> None:
    xp.empty((2**23 - 2**12,), dtype=xp.float32, device=place)


def as_light_array(x: Any) -> Any:
    """Return an array of few elements in the library whose calls cost least.

    That is NumPy for what lies in the memory of the CPU, which is shared: a call of torch costs twice to thrice as
    much, and a step makes some fifty of them on one value a slice. Subclasses of a tensor, and what stands for one
    while torch traces or transforms a function, have no memory to share, and NumPy has no bfloat16 of torch's.
    """
    if _library(x) != "torch" or device(x).type != "cpu" or dtype_name(x) == "bfloat16":
        return x
    try:
        light = x.numpy()
        if not _is_compiled(x):
            x.untyped_storage().data_ptr()  # what stands for a tensor in `torch.func.functionalize` has none
    except (RuntimeError, TypeError):
        return x
    return light


def _is_compiled(x: Array) -> bool:
    """Tell whether torch compiles what is done with its tensor `x`."""
    return bool(array_namespace(x).compiler.is_compiling())


def has_light_arrays(x: Array) -> bool:
    """Tell whether `as_light_array` makes NumPy's of what `x`, an array of floats, is reduced to."""
    return _library(x) in ("numpy", "torch") and isinstance(as_light_array(_words(x)), np.ndarray)


def as_array_beside(x: Any, other: Array) -> Any:
    """Return an array that may have become light in the library of `other`, where its memory is."""
    if isinstance(x, np.ndarray) and _library(other) == "torch":
        return array_namespace(other).from_numpy(x)
    return x


def floating_dtype(x: Array, argument: str) -> str:
    """Return the name of a dtype that Rose can update (ROSE-1.1), or raise a TypeError that names the argument."""
    require_array(x, argument)
    name = dtype_name(x)
    if name not in FLOATING or (name == "bfloat16" and not _stores_bfloat16(x)):
        raise TypeError(f"{argument} has dtype {name}; allowed are {', '.join(FLOATING)}")
    return name


def require_same_place(x: Array, other: Array, names: tuple[str, str]) -> None:
    """Raise unless `other` has the library, the shape and the device of `x`; `names` say which they are."""
    name, others_name = names
    if _library(x) != _library(other):
        raise TypeError(
            f"{others_name} is an array of {_library(other)}, {name} of {_library(x)}; they must be of one library"
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


def scalar(x: Array, value: float) -> Any:
    """Return a one-element array of the dtype, library and device of `x`."""
    return array_namespace(x).full((1,), value, dtype=x.dtype, device=device(x))


def divided(x: Array, divisor: float) -> Any:
    """Return ``x / divisor``, which torch on CUDA makes a product with the reciprocal unless it is an array."""
    return x / divisor if _library(x) == "numpy" else x / scalar(x, divisor)


def has_float16(x: Array) -> bool:
    """Tell whether the library of `x` has float16, which is not in the standard."""
    return hasattr(array_namespace(x), "float16")


def has_float64(x: Array) -> bool:
    """Tell whether the device of `x` has float64; torch on Apple GPUs has none (ROSE-12.2)."""
    if _library(x) == "torch":
        return bool(device(x).type != "mps")
    if _library(x) in ("numpy", "cupy"):
        return True
    return "float64" in array_namespace(x).__array_namespace_info__().dtypes(device=device(x))


def widen(x: Any, dtype: OperationDtype, *, copy: bool = False) -> Any:
    """Convert an array of any floating dtype to the operation dtype; exact, except float64 to float32.

    `copy` says whether to return an array of its own, which may be written over, even where nothing is converted.
    """
    x = _detached(x)
    stored = dtype_name(x)
    if stored == dtype and not copy:
        return x
    if stored == "bfloat16" and _library(x) != "torch":
        xp = array_namespace(x)
        x, stored, copy = float32_from_bits(xp.astype(x.view(xp.int16), xp.int32) * 65536), "float32", False
    if dtype == "float64" and stored == "float32" and _flushes_float32_subnormals(x):
        return _widen_by_bits(x)
    return _astype(x, dtype, copy=copy)


def scratch_memory(x: Array, elements: int, dtype: str) -> Any:
    """Return memory to convert arrays of the kind of `x` into, None where a conversion makes its own."""
    if _library(x) == "torch":
        possible = not _is_compiled(x) and has_light_arrays(x)
    else:
        possible = _library(x) == "numpy" and dtype_name(x) != "bfloat16"
    xp = array_namespace(x)
    possible = possible and not _flushes_float32_subnormals(x)
    return xp.empty((elements,), dtype=getattr(xp, dtype), device=device(x)) if possible else None


def conversion_into(memory: Any) -> Callable[[Any], Any]:
    """Return what does as `widen` to arrays without autograd history, into memory of their shape."""
    if _library(memory) == "torch":
        return memory.copy_  # type: ignore[no-any-return]

    def convert(x: Any) -> Any:
        np.copyto(memory, x)
        return memory

    return convert


def comparable(x: Array, dtype: OperationDtype) -> Any:
    """Return an array to look for extrema in: as it is stored, where its library compares that well, else widened."""
    if _library(x) == "torch":
        return _resolved(x)
    stored = dtype_name(x) in ("float64", "float32") and not _flushes_float32_subnormals(x)
    return x if stored else widen(x, dtype)


def narrow(x: Array, dtype: Literal["float64", "float32", "float16"]) -> Any:
    """Round an array of an operation dtype to a storage dtype, 16 bits by way of float32 (ROSE-2.3)."""
    if dtype == "float64":
        return widen(x, "float64")
    if dtype_name(x) == "float64" and _flushes_float32_subnormals(x):
        x = _narrow_by_bits(x)
    return _astype(_astype(x, "float32"), dtype)


def narrows_in_writing(target: Array) -> bool:
    """Tell whether to write values to an array like `target` rounds them to nearest as `narrow` does, and no more.

    torch copies in one pass; NumPy would warn of an overflow.
    """
    return _library(target) == "torch" and (dtype_name(target) == "float32" or device(target).type == "cpu")


def float32_bits(x: Any) -> Any:
    """Return the words of a float32 array as int32; the standard has no bit cast, array-api-strict none."""
    xp = array_namespace(x)
    return x.view(xp.int32) if hasattr(x, "view") else _float32_bits_by_arithmetic(x)


def float32_from_bits(bits: Any) -> Any:
    """Return the float32 array whose words are the given int32."""
    xp = array_namespace(bits)
    return bits.view(xp.float32) if hasattr(bits, "view") else _float32_from_bits_by_arithmetic(bits)


def magnitude_words(x: Any) -> Any:
    """Return signed integers of the size of `x`, floats of a library with bit casts, in the order of ``|x|``, 0 last.

    Twice a word has lost its sign. Less one, 0 comes last; less half the range, the order is that of signed words.
    """
    return magnitude_words_into(array_namespace(x).empty_like(_words(x)))(x)


def magnitude_words_into(memory: Any) -> Callable[[Any], Any]:
    """Return what does as `magnitude_words`, into memory of their shape."""
    shift = 2 ** (8 * memory.dtype.itemsize - 1) - 1
    if _library(memory) == "torch":
        xp = array_namespace(memory)
        shifts = xp.full((), shift, dtype=memory.dtype, device=device(memory))
        return lambda x: xp.sub(shifts, _resolved(x).view(memory.dtype), alpha=-2, out=memory)  # in one pass

    def words_of(x: Any) -> Any:
        words = x.view(memory.dtype)
        np.add(words, words, out=memory)
        return np.add(memory, shift, out=memory)

    return words_of


def with_one_nan(x: Any) -> Any:
    """Return the values of a float32 array with the quiet NaN of no payload in the place of every NaN."""
    xp = array_namespace(x)
    if _library(x) == "torch":  # in a seventh of the time
        return xp.nan_to_num(x, nan=float("nan"), posinf=float("inf"), neginf=float("-inf"))
    return xp.where(xp.isnan(x), xp.full((), float("nan"), dtype=x.dtype, device=device(x)), x)


def bfloat16_from_float32_bits(bits: Array) -> Any:
    """Return the bfloat16 array of float32 words whose lower half is ignored.

    A library that has no bfloat16 gets a float32 array of the same values.
    """
    xp = array_namespace(bits)
    if _stores_bfloat16(bits):
        return xp.astype(bits >> 16, xp.int16).view(_bfloat16(bits))
    return float32_from_bits(bits & -65536)


def to_words(x: Array) -> Any:
    """Convert int64 values in [0, 2**32) to a 32-bit integer dtype whose sums wrap.

    That is uint32, but int32 for torch, whose uint32 has no addition and no shift
    (https://docs.pytorch.org/docs/stable/tensor_attributes.html).
    """
    xp = array_namespace(x)
    if _library(x) == "torch":
        return xp.astype(x - ((x >> 31) << 32), xp.int32)
    return xp.astype(x, xp.uint32)


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


def half_words(x: Any) -> Any:
    """Return the halves of 32-bit words in int32, the lower one first, so that the last axis is twice as long."""
    xp = array_namespace(x)
    if hasattr(x, "view") and sys.byteorder == "little":
        return xp.astype(x.view(xp.int16), xp.int32) & 0xFFFF
    halves = xp.stack((x & 0xFFFF, (x >> 16) & 0xFFFF), axis=-1)
    return xp.astype(xp.reshape(halves, (*x.shape[:-1], 2 * x.shape[-1])), xp.int32)


def scaled_quotient_adder(param: Array, grad: Array) -> AddScaledQuotient:
    """Return what adds a scaled quotient best in a step: to find it costs more than to do it to a block.

    On a CPU torch does it in one pass, but its compiler would apply the factor to the quotient. Where torch transforms
    a function it adds nothing in place that stands for many to what does not.
    """
    if _library(param) != "torch":
        return _add_scaled_quotient_in_place
    one_pass = not _is_compiled(param) and has_light_arrays(param) and has_light_arrays(grad)
    return _addcdiv if one_pass else add_scaled_quotient


def _addcdiv(x: Any, factor: float, numerator: Any, denominator: Any) -> Any:
    return x.addcdiv_(numerator, denominator, value=factor)


def square_root(x: Any) -> Any:
    """Return the correctly rounded square root of a float64 array (ROSE-5.2).

    NOTE: [torch's square root] on x86 torch calls MKL's, which is off in the last place for 1.4 % of
    float64 values, so there NumPy's IEEE root is taken; the memory is the CPU's, nothing synchronises.
    """
    xp = array_namespace(x)
    if _library(x) == "torch" and device(x).type == "cpu":
        light = as_light_array(x)
        root = np.sqrt(light) if isinstance(light, np.ndarray) else np.sqrt(np.float64(x.item()))  # of one gate
        return xp.reshape(xp.asarray(root, device=device(x)), x.shape)
    return xp.sqrt(x)


def without_history(x: Any) -> Any:
    """Return the array itself, a tensor without its autograd history."""
    return x.detach() if _library(x) == "torch" and x.requires_grad else x


def _detached(x: Any) -> Any:
    return _resolved(x) if _library(x) == "torch" else x


def _resolved(x: Any) -> Any:
    """Return the torch tensor itself, without autograd history or a negation that is put off (no bit cast then)."""
    return x.detach().resolve_neg() if x.requires_grad or x.is_neg() else x


def word_dtype(x: Array) -> str:
    """Return the name of the signed integers of the size of floats."""
    return f"int{8 * x.dtype.itemsize}"


def _words(x: Any) -> Any:
    x = _detached(x)
    return x.view(getattr(array_namespace(x), word_dtype(x)))


def _astype(x: Array, name: str, *, copy: bool = False) -> Any:
    if dtype_name(x) == name and not copy:
        return x
    xp = array_namespace(x)
    return xp.astype(x, getattr(xp, name), copy=copy)


def _stores_bfloat16(x: Array) -> bool:
    return _library(x) in ("torch", "numpy", "cupy")


def _bfloat16(x: Array) -> Any:
    """Return the library's bfloat16 dtype: torch's own, elsewhere that of ml_dtypes."""
    return array_namespace(x).bfloat16 if _library(x) == "torch" else np.dtype(ml_dtypes.bfloat16)


# NOTE: [float32 subnormals on CuPy] CuPy compiles every kernel with -ftz=true and lets nobody turn it off
# (https://github.com/cupy/cupy/issues/8382, https://github.com/cupy/cupy/issues/9576): float32 subnormals
# read as zero and are written as zero. float64 is not touched, so at compute dtype float64 it is enough to
# cross between the two through their words (ROSE-12.3).
_LEAST_NORMAL: Final = 2.0**-126
_QUANTUM: Final = 2.0**-149
_SIGN_BIT: Final = -(2**31)


def _flushes_float32_subnormals(x: Array) -> bool:
    return _library(x) == "cupy"


def _widen_by_bits(x: Array) -> Any:
    """Convert float32 to float64 where a cast would flush subnormals."""
    xp = array_namespace(x)
    bits = float32_bits(x)
    magnitude = bits & 0x7FFFFFFF
    subnormal = xp.astype(magnitude, xp.float64) * _QUANTUM
    subnormal = xp.where(bits < 0, -subnormal, subnormal)
    return xp.where(magnitude < 0x00800000, subnormal, _astype(x, "float64"))


def _narrow_by_bits(x: Array) -> Any:
    """Round float64 to float32 where a cast would flush subnormals."""
    xp = array_namespace(x)
    tiny = xp.abs(x) < _LEAST_NORMAL
    quanta = xp.round(xp.where(tiny, xp.abs(x), xp.zeros_like(x)) * (1.0 / _QUANTUM))
    bits = xp.astype(quanta, xp.int32)
    bits = xp.where(xp.signbit(x), bits + _SIGN_BIT, bits)
    return float32_from_bits(xp.where(tiny, bits, float32_bits(_astype(x, "float32"))))


# The same for a library that has only the standard's arithmetic. Entry e of the table is the power of two at
# which the biased float32 exponent e begins, so that infinity is 2**128 and NaN is beyond it.
_BINADES: Final = [0.0] + [2.0**e for e in range(-126, 129)]


def _float32_bits_by_arithmetic(x: Array) -> Any:
    xp = array_namespace(x)
    binades = xp.asarray(_BINADES, dtype=xp.float64, device=device(x))
    magnitude = xp.reshape(xp.abs(xp.astype(x, xp.float64)), (-1,))
    magnitude = xp.where(xp.isnan(magnitude), 1.5 * binades[-1], xp.minimum(magnitude, binades[-1]))
    exponent = xp.searchsorted(binades[1:], magnitude, side="right")
    exponent = xp.maximum(exponent, xp.ones_like(exponent))
    significand = xp.astype(magnitude / (xp.take(binades, exponent) * 2.0**-23), xp.int64)
    bits = xp.reshape(significand + (exponent - 1) * 2**23, x.shape)
    return xp.astype(xp.where(xp.signbit(x), bits + _SIGN_BIT, bits), xp.int32)


def _float32_from_bits_by_arithmetic(bits: Array) -> Any:
    xp = array_namespace(bits)
    binades = xp.asarray(_BINADES, dtype=xp.float64, device=device(bits))
    magnitude = xp.reshape(xp.astype(bits, xp.int64) & 0x7FFFFFFF, (-1,))
    exponent, fraction = magnitude >> 23, magnitude & 0x7FFFFF
    significand = xp.where(exponent > 0, fraction + 2**23, fraction)
    scale = xp.take(binades, xp.maximum(exponent, xp.ones_like(exponent))) * 2.0**-23
    value = xp.reshape(xp.astype(significand, xp.float64) * scale, bits.shape)
    value = xp.where(value > binades[-1], xp.full_like(value, float("nan")), value)
    return xp.astype(xp.where(bits < 0, -value, value), xp.float32)
