"""The queues hold every ticket once, and a thread's lane is the same part of a tensor in every phase."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rose_kernels import Layout
from rose_kernels.parallel import schedule, tables
from tests.kernels.stepping import layout_of_arrays
from tests.strategies import examples

SHAPES = [(), (7,), (3, 5), (40, 30), (4, 1000), (1, 5000), (9000, 1)]


def layout(shape: tuple[int, ...]) -> Layout:
    array = np.empty(shape, np.float32)
    own = layout_of_arrays(array, array, in_c_order=False, centralize=True, stabilize=True)
    assert own is not None
    return own


@given(shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=8), lanes=st.integers(1, 9))
@examples(200)
def test_queues(shapes: list[tuple[int, ...]], lanes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("BLOCK", 100), ("BUNDLE", 50), ("GATE_ROWS", 200)):
            patch.setattr(schedule, name, size)
        (wave,) = schedule.waves([layout(shape) for shape in shapes])
    tickets, queues = schedule.in_queues(wave.tickets, lanes)
    assert sorted(tickets.tolist()) == sorted(wave.tickets.tolist())
    assert len(queues) == lanes * tables.LANE
    lane_of = defaultdict(set)
    taken = []
    for lane, own in enumerate(queues.reshape(lanes, -1, 2).tolist()):
        for phase, (first, end) in enumerate(own):
            taken += range(first, end)
            assert (tickets["phase"][first:end] == phase).all()
            assert tickets[first:end].tolist() == sorted(tickets[first:end].tolist()), "not in order"
            for ticket in tickets[first:end]:
                if phase in (tables.EXTREMA, tables.FOLD, tables.UPDATE):
                    lane_of[ticket["tensor"], ticket["start"]].add(lane)
    assert taken == list(range(len(tickets)))
    assert all(len(of_block) == 1 for of_block in lane_of.values()), "what a thread has read another one updates"


@pytest.mark.parametrize("lanes", [1, 2, 5, 8])
def test_the_lanes_of_a_large_tensor_are_as_long(lanes: int) -> None:
    (wave,) = schedule.waves([layout((4000, 1000))])
    _, queues = schedule.in_queues(wave.tickets, lanes)
    first, end = queues.reshape(lanes, -1, 2)[:, tables.UPDATE].T
    assert np.ptp(end - first) <= 1
