"""The seam to the libraries: its bit casts, its conversions of subnormals, and that no other module is a seam."""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rose_core
import rose_core.hyperparameters
from rose_core import namespace
from rose_core.namespace import arrays, bits, floats
from rose_core.rounding import _to_float16_by_arithmetic
from tests.backends import Backend, backends
from tests.bits import assert_same_bits, from_words, raw_words
from tests.strategies import EDGES, EXTREMES, fill, with_negatives

FLOAT32_EDGES = from_words(with_negatives((*EDGES["float32"], *EXTREMES["float32"]), "float32"), "float32")
FLOAT64_EDGES = from_words(with_negatives((*EDGES["float64"], *EXTREMES["float64"]), "float64"), "float64")


def every_upper_half() -> np.ndarray:
    """Return float32 words with every upper half, and lower halves at and around the ties of 16-bit dtypes."""
    lows = np.asarray([*range(0, 2**16, 0x1000), 1, 0xFFF, 0x1001, 0x7FFF, 0x8001, 0xFFFF], np.uint32)
    return (np.arange(2**16, dtype=np.uint32)[:, None] << 16 | lows).ravel()


@backends
def test_bit_casts_by_arithmetic_equal_bit_casts_by_view(backend: Backend) -> None:
    """The bits of NaN may differ (ROSE-12.1)."""
    words = every_upper_half()
    if backend.flushes:  # arithmetic flushes subnormals
        words = words[((words >> 23) & 0xFF != 0) | (words << 1 == 0)]
    x = from_words(words, "float32")
    with np.errstate(all="ignore"):
        words_back = bits._float32_bits_by_arithmetic(backend.array(x))
        back = bits._float32_from_bits_by_arithmetic(backend.array(words.view(np.int32)))
    assert_same_bits(from_words(raw_words(words_back), "float32"), x, backend=backend.name)
    assert_same_bits(back, x, backend=backend.name)


@backends
def test_bit_casts_keep_the_shape(backend: Backend) -> None:
    for shape in ((), (0, 3), (2, 1, 3)):
        x = backend.array(np.ones(shape, np.float32))
        for to_bits, to_float in (
            (namespace.float32_bits, namespace.float32_from_bits),
            (bits._float32_bits_by_arithmetic, bits._float32_from_bits_by_arithmetic),
        ):
            assert_same_bits(to_float(to_bits(x)), np.ones(shape, np.float32), backend=backend.name)


@backends
def test_rounding_to_float16_by_arithmetic_equals_the_cast(backend: Backend) -> None:
    """The words contain every float16 value, and both neighbours of every tie."""
    x = from_words(every_upper_half(), "float32")
    with np.errstate(all="ignore"):
        expected = x.astype(np.float16)
        actual = _to_float16_by_arithmetic(backend.array(x))
    assert_same_bits(actual, expected.astype(np.float32), backend=backend.name)
    assert set(raw_words(expected[~np.isnan(x)]).tolist()) == {*range(0x7C01), *range(0x8000, 0xFC01)}


CASTS: dict[str, tuple[Callable[[Any], Any], np.ndarray, type]] = {
    "to float64": (floats._widen_by_bits, FLOAT32_EDGES, np.float64),
    "to float64, subnormals": (
        floats._widen_by_bits,
        fill("subnormal", np.random.default_rng(0), (5000,), "float32"),
        np.float64,
    ),
    "to float32": (floats._narrow_by_bits, FLOAT64_EDGES, np.float32),
    "to float32, random words": (
        floats._narrow_by_bits,
        fill("words", np.random.default_rng(1), (5000,), "float64"),
        np.float32,
    ),
    "to float32, subnormals and their ties": (
        floats._narrow_by_bits,
        np.ldexp(np.random.default_rng(2).integers(-(2**25), 2**25, 5000).astype(np.float64), -151),
        np.float32,
    ),
}


@backends
@pytest.mark.parametrize("name", CASTS)
def test_a_cast_by_bits_equals_the_cast(backend: Backend, name: str) -> None:
    cast, x, dtype = CASTS[name]
    with np.errstate(all="ignore"):
        assert_same_bits(cast(backend.array(x)), x.astype(dtype), backend=backend.name)


@pytest.fixture
def flushed() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Return a function that runs another function while this thread flushes subnormals, also in NumPy."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no mode that flushes subnormals")
    torch.set_flush_denormal(False)

    def run(function: Callable[[], Any]) -> Any:
        torch.set_flush_denormal(True)
        try:
            return function()
        finally:
            torch.set_flush_denormal(False)

    yield run
    torch.set_flush_denormal(False)


def _tiny_step() -> Callable[[], np.ndarray]:
    """Return a step whose parameter, gradient and result have float32 subnormals."""
    rng = np.random.default_rng(0)
    param, grad = (fill("subnormal", rng, (20, 30), "float32") for _ in range(2))
    return lambda: rose_core.update(param, grad, lr=1e-42, weight_decay=0.1, compute_dtype="fp64")


def test_float32_subnormals_are_not_flushed_at_compute_dtype_float64(
    flushed: Callable[[Callable[[], Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ROSE-12.3, with NumPy as CuPy. See NOTE [float32 subnormals on CuPy] in namespace/floats.py."""
    step = _tiny_step()
    expected = step()
    assert np.count_nonzero(expected)
    monkeypatch.setattr(floats, "_FLUSHING", {"numpy"})
    assert_same_bits(step(), expected)
    assert_same_bits(flushed(step), expected)


def test_casts_flush_float32_subnormals(flushed: Callable[[Callable[[], Any]], Any]) -> None:
    """Proof that the test above can fail."""
    step = _tiny_step()
    assert np.count_nonzero(raw_words(step()) != raw_words(flushed(step))) > 500


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_conversions_to_float64_and_back_do_not_flush(
    dtype: str, flushed: Callable[[Callable[[], Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floats, "_FLUSHING", {"numpy"})
    x = from_words(with_negatives((*EDGES[dtype], *EXTREMES[dtype]), dtype), dtype)
    with np.errstate(all="ignore"):
        expected = x.astype(np.float64)
        wide = flushed(lambda: namespace.convert(x, "float64"))
        back = flushed(lambda: namespace.convert(wide, "float32"))
    assert_same_bits(wide, expected)
    assert_same_bits(back, x.astype(np.float32))


NO_FLOAT64 = (
    'compute_dtype="fp64" needs float64, which device meta does not have; use compute_dtype="fp32", whose results are '
    "not bit-exact there"
)


def test_fp64_raises_on_apple_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """ROSE-12.2. The device "meta" stands for "mps", which this machine lacks."""
    x = torch.ones(2, device="meta")
    assert namespace.has_float64(x)
    monkeypatch.setattr(arrays, "_WITHOUT_FLOAT64", {"meta"})
    with pytest.raises(ValueError, match=rf"\A{re.escape(NO_FLOAT64)}\Z"):
        rose_core.update(x, x, lr=0.1)


def _questions(source: str) -> set[str]:
    """Return the imports of libraries and the questions about an array's library, which only the seam may have."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            if name == "library" or (name.startswith("is_") and name.endswith(("_array", "_namespace", "_obj"))):
                found.add(name)
    return found - sys.stdlib_module_names - {"rose_core"}


CORE = Path(rose_core.__file__).parent
SEAM = sorted((CORE / "namespace").glob("*.py"))
OTHERS = sorted(set(CORE.rglob("*.py")) - set(SEAM))


@pytest.mark.parametrize("path", OTHERS, ids=[path.name for path in OTHERS])
def test_no_other_module_asks_which_library_an_array_belongs_to(path: Path) -> None:
    """Other modules import NumPy only, for words on the host, `errstate` and number types."""
    assert _questions(path.read_text(encoding="utf-8")) <= {"numpy"}


def test_the_seam_asks_which_library_an_array_belongs_to() -> None:
    """Proof that the test above can fail."""
    found = set.union(*(_questions(path.read_text(encoding="utf-8")) for path in SEAM))
    assert {"array_api_compat", "ml_dtypes", "is_torch_array", "library"} <= found
