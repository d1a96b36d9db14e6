"""Which arrays share memory, told by their addresses, is what NumPy finds by their bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rose_core.overlap import Memory, sharing
from tests.strategies import examples

BYTES = 64

extents = st.lists(st.tuples(st.integers(0, BYTES), st.integers(0, BYTES)).map(sorted), max_size=6)


def arrays_in(buffer: np.ndarray, spans: list[list[int]]) -> tuple[list[np.ndarray], Memory]:
    """Return views of a buffer, each from one byte to before another, and where they lie."""
    views = [buffer[start:stop] for start, stop in spans]
    return views, (tuple(start for start, _ in spans), tuple(stop - start for start, stop in spans))


@given(spans=extents.filter(bool))
@examples(300)
def test_parameters_that_share_a_byte_with_another(spans: list[list[int]]) -> None:
    views, memory = arrays_in(np.zeros(BYTES), spans)
    meets = [
        place
        for place, one in enumerate(views)
        if any(np.shares_memory(one, other) for other in (*views[:place], *views[place + 1 :]))
    ]
    assert list(sharing(memory, memory).params) == meets


@given(params=extents.filter(bool), grads=extents.filter(bool))
@examples(300)
def test_gradients_that_share_a_byte_with_a_parameter(params: list[list[int]], grads: list[list[int]]) -> None:
    """One that goes around an empty parameter may be told, too."""
    buffer = np.zeros(BYTES)
    own, own_memory = arrays_in(buffer, params)
    others, other_memory = arrays_in(buffer, grads)
    meets = [place for place, grad in enumerate(others) if any(np.shares_memory(grad, param) for param in own)]
    found = sharing(own_memory, other_memory).grads
    assert set(meets) <= set(found)
    if all(start < stop for start, stop in params):
        assert list(found) == meets
