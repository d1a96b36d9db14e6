"""What is widened into memory that is used again has the bits of what is widened into its own."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rose_core
from rose_core.namespace import has_light_arrays, magnitude_words, widen
from rose_core.scratch import Scratch
from tests.backends import Backend, backends
from tests.bits import assert_same_bits, host
from tests.strategies import KINDS, LAYOUTS, TINY_KINDS, examples, fill, generators

OPERATIONS: tuple[Literal["float64", "float32"], ...] = ("float64", "float32")


@backends
@given(
    data=st.data(),
    rng=generators(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    operation=st.sampled_from(OPERATIONS),
    copy=st.booleans(),
)
@examples(60)
def test_one_array_after_another(
    backend: Backend, data: st.DataObject, rng: np.random.Generator, layout: str, operation: Any, copy: bool
) -> None:
    dtype = data.draw(st.sampled_from([name for name in backend.dtypes if name != "float64" or operation == name]))
    kind = data.draw(st.sampled_from(sorted(set(KINDS) - (TINY_KINDS if backend.flushes else set()))))
    scratch = Scratch(40)
    for shape in ((4, 10), (4, 10), (3, 2, 5), (4, 10), (40, 1)):
        x = LAYOUTS[layout](backend.array, fill(kind, rng, shape, dtype))
        before = host(x).copy()
        with np.errstate(all="ignore"):
            result = scratch.widen(x, operation, copy=copy)
            assert_same_bits(result, widen(x, operation), backend=backend.name, what=f"{dtype} {layout}")
            if copy:
                result += 1.0
        if has_light_arrays(x):
            assert_same_bits(scratch.magnitude_words(x), magnitude_words(x), backend=backend.name, what=layout)
        assert_same_bits(x, before, what="what was read")


@backends
@given(rng=generators(), operation=st.sampled_from(OPERATIONS))
@examples(30)
def test_sums_in_two_places(backend: Backend, rng: np.random.Generator, operation: str) -> None:
    scratch = Scratch(40)
    for shape in ((4, 10), (4, 10), (2, 5)):
        x, y = (fill("normal", rng, own, operation) for own in (shape, (shape[0], 1)))
        first = scratch.add(backend.array(x), backend.array(y), place=0)
        second = scratch.add(first, backend.array(y), place=1)
        assert_same_bits(first, x + y, backend=backend.name)
        assert_same_bits(second, (x + y) + y, backend=backend.name)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_blocks_of_the_cpu_lie_in_one_place(library: str, dtype: str) -> None:
    import torch

    scratch, x = Scratch(10), np.ones((2, 5), dtype)
    ones = [x, x] if library == "numpy" else [torch.from_numpy(x), torch.from_numpy(x)]
    for made in (lambda one: scratch.widen(one, "float64"), scratch.magnitude_words):
        first, second = (host(made(one)) for one in ones)
        assert np.shares_memory(first, second)


@backends
def test_what_an_update_returns_lies_in_memory_of_its_own(backend: Backend) -> None:
    """A parameter of the operation dtype, in more blocks than one."""
    rng = np.random.default_rng(3)
    for dtype, compute in (("float64", "fp64"), ("float32", "fp32")):
        if dtype not in backend.dtypes:
            continue
        param, grad = fill("normal", rng, (300, 1000), dtype), fill("normal", rng, (300, 1000), dtype)
        options: dict[str, Any] = {"lr": 0.1, "stabilize": False, "compute_dtype": compute}
        result = rose_core.update(backend.array(param), backend.array(grad), **options)
        rows = [rose_core.update(param[i : i + 50], grad[i : i + 50], **options) for i in range(0, 300, 50)]
        assert_same_bits(result, np.concatenate(rows), backend=backend.name)
