"""Which arrays share memory, told by their addresses, is what NumPy finds by their bytes."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rose_core.overlap import Memory, lie_apart, overlapping
from tests.strategies import examples

BYTES = 64

extents = st.lists(st.tuples(st.integers(0, BYTES), st.integers(0, BYTES)).map(sorted), max_size=6)


def arrays_in(buffer: np.ndarray, spans: list[list[int]]) -> tuple[list[np.ndarray], Memory]:
    """Return views of a buffer, each from one byte to before another, and where they lie."""
    views = [buffer[start:stop] for start, stop in spans]
    return views, (tuple(start for start, _ in spans), tuple(stop - start for start, stop in spans))


@given(spans=extents)
@examples(300)
def test_arrays_lie_apart_unless_two_share_a_byte(spans: list[list[int]]) -> None:
    views, memory = arrays_in(np.zeros(BYTES), spans)
    assert lie_apart(memory) == (not any(np.shares_memory(one, other) for one, other in combinations(views, 2)))


@given(params=extents.filter(bool), grads=extents.filter(bool))
@examples(300)
def test_gradients_that_share_a_byte_with_a_parameter(params: list[list[int]], grads: list[list[int]]) -> None:
    """One that goes around an empty parameter may be told, too."""
    buffer = np.zeros(BYTES)
    own, own_memory = arrays_in(buffer, params)
    others, other_memory = arrays_in(buffer, grads)
    meets = [place for place, grad in enumerate(others) if any(np.shares_memory(grad, param) for param in own)]
    found = overlapping(own_memory, other_memory)
    assert set(meets) <= set(found)
    if all(start < stop for start, stop in params):
        assert list(found) == meets
