"""Overlaps and spans of arrays, computed from addresses and strides, agree with NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rose_numpy.addresses import addresses_of
from rose_plan import has_repeated_elements, shared_memory, span_of
from tests.strategies import examples

BYTES = 64

extents = st.lists(st.tuples(st.integers(0, BYTES), st.integers(0, BYTES)).map(sorted), max_size=6)


Memory = tuple[np.ndarray, np.ndarray]


def arrays_in(buffer: np.ndarray, ranges: list[list[int]]) -> tuple[list[np.ndarray], Memory]:
    """Return views of a buffer, each over a range of bytes, and their addresses and spans."""
    views = [buffer[start:stop] for start, stop in ranges]
    starts, lengths = [start for start, _ in ranges], [stop - start for start, stop in ranges]
    return views, (np.asarray(starts), np.stack([np.zeros_like(lengths), lengths], axis=1))


@given(ranges=extents.filter(bool))
@examples(300)
def test_shared_memory_finds_parameters_that_share_a_byte(ranges: list[list[int]]) -> None:
    views, memory = arrays_in(np.zeros(BYTES), ranges)
    shared = [
        index
        for index, view in enumerate(views)
        if any(np.shares_memory(view, other) for other in (*views[:index], *views[index + 1 :]))
    ]
    assert list(shared_memory(*memory, *memory).params) == shared


@given(params=extents.filter(bool), grads=extents.filter(bool))
@examples(300)
def test_shared_memory_finds_gradients_that_share_a_byte_with_a_parameter(
    params: list[list[int]], grads: list[list[int]]
) -> None:
    """It may also find a gradient that surrounds an empty parameter."""
    buffer = np.zeros(BYTES)
    views, memory = arrays_in(buffer, params)
    others, other_memory = arrays_in(buffer, grads)
    shared = [index for index, grad in enumerate(others) if any(np.shares_memory(grad, param) for param in views)]
    found = shared_memory(*memory, *other_memory).grads
    assert set(shared) <= set(found)
    if all(start < stop for start, stop in params):
        assert list(found) == shared


@given(data=st.data(), shape=st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple))
@examples(300)
def test_has_repeated_elements_is_false_for_slices(data: st.DataObject, shape: tuple[int, ...]) -> None:
    """It may be true for strides that interleave without sharing an element."""
    strides = data.draw(st.tuples(*[st.integers(0, 6)] * len(shape)))
    positions = np.tensordot(strides, np.indices(shape), 1)  # the position of each element in memory
    if len(np.unique(positions)) < positions.size:
        assert has_repeated_elements(shape, strides)
    steps = data.draw(st.tuples(*[st.integers(1, 3)] * len(shape)))
    view = np.zeros(tuple(n + 1 for n in shape), np.int8)[tuple(slice(None, None, step) for step in steps)]
    assert not has_repeated_elements(view.T.shape, view.T.strides)


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C order": lambda x: x,
    "transposed": lambda x: x.T,
    "gaps": lambda x: x[1::2, ::3],
    "reversed": lambda x: x[::-1, ::-2],
    "reversed and transposed": lambda x: x[2:, ::-1].T,
    "a row": lambda x: x[4],
    "repeated": lambda x: np.broadcast_to(x[:1, ::-1], (3, 10)),
    "one element": lambda x: x[3:4, 2:3],
    "a scalar": lambda x: x[5, 9, ...],
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_spans_equal_the_byte_bounds_of_numpy(view: Callable[[np.ndarray], np.ndarray]) -> None:
    array = view(np.zeros((6, 10)))
    (address,), (offset, length) = addresses_of([array]), span_of(array.shape, array.strides, array.itemsize)
    first, end = np.lib.array_utils.byte_bounds(array)
    assert (address + offset, length) == (first, end - first if array.size else 0)
