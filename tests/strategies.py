"""Test data: edge values picked by hand, kinds of random values, memory layouts and options."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import array_api_compat
import array_api_strict
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from hypothesis.extra.array_api import make_strategies_namespace

from tests.bits import DTYPES, from_words

__all__ = [
    "COMPUTE_DTYPES",
    "EDGES",
    "EXTREMES",
    "KINDS",
    "LAYOUTS",
    "TINY_KINDS",
    "UpdateCase",
    "axes",
    "examples",
    "fill",
    "floats_of",
    "generators",
    "shapes",
    "update_cases",
    "with_negatives",
]

COMPUTE_DTYPES: Final = ("fp64", "fp32", "fp16", "bf16", None)

_STANDARD = make_strategies_namespace(array_api_strict)

# Words of finite values, by dtype. All are positive or 0; `with_negatives` adds the others.
EDGES: Final = {
    "float64": (
        *(0x0000000000000000, 0x0000000000000001, 0x000FFFFFFFFFFFFF, 0x0010000000000000),  # 0, subnormals, 2**-1022
        *(0x3690000000000000, 0x3690000000000001, 0x36A0000000000000),  # 2**-150, a tie of float32; next; 2**-149
        *(0x380FFFFFC0000000, 0x380FFFFFE0000000, 0x3810000000000000),  # float32's largest subnormal; a tie; 2**-126
        *(0x3E60000000000000, 0x3E60000000000001, 0x3E70000000000000),  # 2**-25, a tie of float16; next; 2**-24
        *(0x3FEFFFFFFFFFFFFF, 0x3FF0000000000000, 0x3FF0000000000001, 0x4008000000000000),  # around 1; 3
        *(0x3FF0000010000000, 0x3FF0000030000000),  # ties of float32 values
        *(0x3FF0020000000001, 0x3FF0100000000001),  # their float32 is a tie of 16-bit values (ROSE-2.3)
        *(0x40EFFC0000000000, 0x40EFFDFFFFFFFFFF, 0x40EFFE0000000000),  # float16's largest; below a tie; the tie
    ),
    "float32": (
        *(0x00000000, 0x00000001, 0x00000002, 0x000002CA, 0x007FFFFF, 0x00800000, 0x00800001),  # 2ca is 1e-42
        *(0x33000000, 0x33000001, 0x33800000, 0x387FC000, 0x387FE000, 0x38800000),  # float16's subnormals, their ties
        *(0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x40400000, 0x4B800000),  # around 1; 3; 2**24
        *(0x3F801000, 0x3F803000, 0x3F808000, 0x3F818000),  # ties of float16 and of bfloat16 values
        *(0x477FE000, 0x477FEFFF, 0x477FF000),  # float16's largest; below the tie with infinity; the tie
    ),
    "float16": (0x0000, 0x0001, 0x0002, 0x03FF, 0x0400, 0x0401, 0x3BFF, 0x3C00, 0x3C01, 0x4200, 0x6400),
    "bfloat16": (0x0000, 0x0001, 0x007F, 0x0080, 0x0081, 0x3380, 0x3F7F, 0x3F80, 0x3F81, 0x4040, 0x477F, 0x4780),
}

# Words of values that overflow or are not finite. A single one can decide all results of a tensor.
EXTREMES: Final = {
    # 1e38; float32's largest, its tie with infinity; the largest, infinity; NaN: quiet, signalling
    "float64": (
        *(0x47D2CED32A16A1B1, 0x47EFFFFFE0000000, 0x47EFFFFFF0000000),
        *(0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0x7FF8000000000000, 0x7FF0000000000001),
    ),
    # 1e38; bfloat16's largest, its tie with infinity; the largest, infinity; NaN: quiet, signalling, CUDA's
    "float32": (0x7E967699, 0x7F7F0000, 0x7F7F8000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x7F800001, 0x7FFFFFFF),
    "float16": (0x7BFF, 0x7C00, 0x7E00, 0x7C01),
    "bfloat16": (0x7F7F, 0x7F80, 0x7FC0, 0x7F81),
}

_EXPONENT_BITS: Final = {"float64": 11, "float32": 8, "float16": 5, "bfloat16": 8}


def examples(count: int) -> settings:
    """Run a property on this number of examples, scaled up in the thorough profile."""
    return settings(max_examples=count * settings.default.max_examples // 100)


def with_negatives(words: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return the words of these values and of the negative values."""
    array = np.asarray(words, DTYPES[dtype][1])
    return np.concatenate([array, array | _sign(dtype)])


def _sign(dtype: str) -> np.unsignedinteger:
    word = DTYPES[dtype][1]
    return word.type(1 << (8 * word.itemsize - 1))


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return normal values. Slices have different scales."""
    scale = 2.0 ** rng.integers(-8, 6, shape[:1] + (1,) * (len(shape) - 1))
    return (rng.standard_normal(shape) * scale).astype(DTYPES[dtype][0])


def _eighths(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return multiples of 1/8, many of them equal, with exact zeros and ties."""
    return np.asarray(rng.integers(-16, 17, shape) / 8).astype(DTYPES[dtype][0])


def _negative(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return -np.abs(_normal(rng, shape, dtype))


def _constant(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return slices whose elements are all equal."""
    one = _normal(rng, shape[:1] + (1,) * (len(shape) - 1), dtype)
    return np.ascontiguousarray(np.broadcast_to(one, shape))


def _zeros(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return from_words(rng.choice(with_negatives((0,), dtype), shape), dtype)


def _words(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return random bit patterns: NaN, infinities, subnormals, every magnitude."""
    word = DTYPES[dtype][1]
    return from_words(rng.integers(0, np.iinfo(word).max, shape, dtype=word, endpoint=True), dtype)


def _below_two(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return random magnitudes below 2: bit patterns with the highest bit of the exponent cleared."""
    word = DTYPES[dtype][1]
    return from_words(_words(rng, shape, dtype).view(word) & ~(_sign(dtype) >> word.type(1)), dtype)


def _subnormal(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    word = DTYPES[dtype][1]
    fraction = word.type((1 << (8 * word.itemsize - 1 - _EXPONENT_BITS[dtype])) - 1)
    return from_words(_words(rng, shape, dtype).view(word) & (fraction | _sign(dtype)), dtype)


def _edges(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return from_words(rng.choice(with_negatives(EDGES[dtype], dtype), shape), dtype)


def _extremes(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return edge values and a few extremes."""
    extremes = from_words(rng.choice(with_negatives(EXTREMES[dtype], dtype), shape), dtype)
    return np.where(rng.random(shape) < 0.02, extremes, _edges(rng, shape, dtype))


KINDS: Final[dict[str, Callable[[np.random.Generator, tuple[int, ...], str], np.ndarray]]] = {
    "normal": _normal,
    "eighths": _eighths,
    "negative": _negative,
    "constant": _constant,
    "zeros": _zeros,
    "words": _words,
    "below-two": _below_two,
    "subnormal": _subnormal,
    "edges": _edges,
    "extremes": _extremes,
}

# A device that flushes float32 subnormals takes these kinds at compute dtype float64 only (ROSE-12.3).
TINY_KINDS: Final = frozenset({"words", "below-two", "subnormal", "edges", "extremes"})


def fill(kind: str, rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return an array of this kind, dtype and shape."""
    with np.errstate(all="ignore"):
        return np.asarray(KINDS[kind](rng, shape, dtype)).reshape(shape)


def _contiguous(array: Callable[[np.ndarray], Any], x: np.ndarray) -> Any:
    return array(np.ascontiguousarray(x).reshape(x.shape))


def _permuted(array: Callable[[np.ndarray], Any], x: np.ndarray, memory_order: tuple[int, ...]) -> Any:
    """Return `x` in memory whose axes have this order."""
    held = _contiguous(array, np.transpose(x, memory_order))
    return array_api_compat.array_namespace(held).permute_dims(held, tuple(int(i) for i in np.argsort(memory_order)))


def _transposed(array: Callable[[np.ndarray], Any], x: np.ndarray) -> Any:
    return _permuted(array, x, tuple(reversed(range(x.ndim))))


def _channels_last(array: Callable[[np.ndarray], Any], x: np.ndarray) -> Any:
    """Return `x` in the layout that torch calls channels_last: axis 1 is innermost."""
    order = tuple(range(x.ndim))
    return _permuted(array, x, order[:1] + order[2:] + order[1:2])


def _strided(array: Callable[[np.ndarray], Any], x: np.ndarray) -> Any:
    """Return `x` with a stride of 2. The elements between are the complements of its bits."""
    bits = np.dtype(f"u{x.dtype.itemsize}")
    others = np.invert(np.ascontiguousarray(x).view(bits)).view(x.dtype).reshape(x.shape)
    return array(np.stack([x, others], axis=-1))[..., 0]


def _flipped(array: Callable[[np.ndarray], Any], x: np.ndarray) -> Any:
    """Return `x` as a view with a negative stride, if the library has negative strides."""
    if x.ndim == 0:
        return array(x)
    held = _contiguous(array, np.flip(x, 0))
    return array_api_compat.array_namespace(held).flip(held, axis=0)


LAYOUTS: Final[dict[str, Callable[[Callable[[np.ndarray], Any], np.ndarray], Any]]] = {
    "contiguous": _contiguous,
    "transposed": _transposed,
    "channels-last": _channels_last,
    "strided": _strided,
    "flipped": _flipped,
}


@dataclass(frozen=True)
class UpdateCase:
    """The arguments of an update, with NumPy arrays, and the memory layout to pass them in."""

    param: np.ndarray
    grad: np.ndarray
    noise: np.ndarray | None
    options: dict[str, Any]
    layout: str = "contiguous"


def generators() -> st.SearchStrategy[np.random.Generator]:
    """Draw random generators. Hypothesis does not shrink the values they return."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


def shapes(min_rank: int = 0, *, min_side: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    """Draw shapes up to rank 5. Some have one long axis."""
    small = _STANDARD.array_shapes(min_dims=min_rank, max_dims=5, min_side=min_side, max_side=5)
    long = [(257,), (1, 1031), (1031, 1), (13, 7, 11), (2, 64, 3, 3)]
    return small | st.sampled_from([shape for shape in long if len(shape) >= min_rank])


def axes(rank: int) -> st.SearchStrategy[Any]:
    """Draw axes in every form: None, an integer or a tuple, counted from either end."""
    tuples = _STANDARD.valid_tuple_axes(rank)
    return st.none() | tuples | (st.integers(-rank, rank - 1) if rank else st.none())


def floats_of(dtype: str, shape: tuple[int, ...], *, tiny: bool = True) -> st.SearchStrategy[np.ndarray]:
    """Draw arrays of random values of one kind. Small arrays are also drawn element by element."""
    kinds = [kind for kind in KINDS if tiny or kind not in TINY_KINDS]
    random = st.builds(fill, st.sampled_from(kinds), generators(), st.just(shape), st.just(dtype))
    if not tiny or np.prod(shape) > 64:
        return random
    word = DTYPES[dtype][1]
    picked = with_negatives(EDGES[dtype] + EXTREMES[dtype], dtype)
    elements = st.sampled_from([int(w) for w in picked]) | st.integers(0, int(np.iinfo(word).max))
    return random | nps.arrays(word, shape, elements=elements).map(lambda words: from_words(words, dtype))


def _options(*, tiny: bool) -> st.SearchStrategy[dict[str, Any]]:
    rates = [0.0, 1.0, 1e-3, 0.1]
    lr = st.sampled_from([*rates, 1e-45, 1e30]) | st.floats(0.0, 1e3) if tiny else st.sampled_from(rates)
    return st.fixed_dictionaries(
        {
            "lr": lr,
            "weight_decay": st.sampled_from([None, 0.0, 1e-4, 0.3, 2000.0]),
            "lr_reference": st.sampled_from([None, 1e-3, 0.7]),
            "centralize": st.booleans(),
            "stabilize": st.booleans(),
            "maximize": st.booleans(),
            "max_step": st.sampled_from([None, None, 1.0, 0.3, 1e-3, 7.0, float("inf")]),
        }
    )


@st.composite
def update_cases(
    draw: st.DrawFn,
    dtypes: tuple[str, ...],
    *,
    grad_dtypes: tuple[str, ...] | None = None,
    computes: tuple[str | None, ...] = COMPUTE_DTYPES,
    flushes: bool = False,
) -> UpdateCase:
    """Draw an update for a library with these dtypes, which may flush float32 subnormals."""
    param_dtype, grad_dtype = draw(st.sampled_from(dtypes)), draw(st.sampled_from(grad_dtypes or dtypes))
    with_noise = param_dtype == "bfloat16" and draw(st.booleans())
    compute = draw(st.sampled_from([c for c in computes if not with_noise or c not in ("fp16", "bf16")]))
    tiny = not flushes or compute == "fp64"
    shape = draw(shapes())
    noise = None
    if with_noise:
        noise = draw(generators()).integers(0, 2**16, shape).astype(draw(st.sampled_from(["int32", "int64"])))
    return UpdateCase(
        param=draw(floats_of(param_dtype, shape, tiny=tiny)),
        grad=draw(floats_of(grad_dtype, shape, tiny=tiny)),
        noise=None if noise is None else np.asarray(noise),
        options=draw(_options(tiny=tiny)) | {"compute_dtype": compute},
        layout=draw(st.sampled_from(list(LAYOUTS))),
    )
