"""Each task is in one queue, and each queue has the same part of a tensor in every phase."""

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
    found = layout_of_arrays(array, array, in_c_order=False, centralize=True, stabilize=True)
    assert found is not None
    return found


@given(shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=8), count=st.integers(1, 9))
@examples(200)
def test_each_task_is_in_one_queue_and_a_block_in_the_same_queue_in_every_phase(
    shapes: list[tuple[int, ...]], count: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("BLOCK", 100), ("BUNDLE", 50), ("GATE_ROWS", 200)):
            patch.setattr(schedule, name, size)
        (batch,) = schedule.batches([layout(shape) for shape in shapes])
    tasks, queues = schedule.into_queues(batch.tasks, count)
    assert sorted(tasks.tolist()) == sorted(batch.tasks.tolist())
    assert len(queues) == count * tables.QUEUE_SIZE
    queue_of = defaultdict(set)
    taken = []
    for queue, sections in enumerate(queues.reshape(count, -1, 2).tolist()):
        for phase, (first, end) in enumerate(sections):
            taken += range(first, end)
            assert (tasks["phase"][first:end] == phase).all()
            assert tasks[first:end].tolist() == sorted(tasks[first:end].tolist()), "not in order"
            for task in tasks[first:end]:
                if phase in (tables.MEASURE, tables.FOLD, tables.UPDATE):
                    queue_of[task["tensor"], task["start"]].add(queue)
    assert taken == list(range(len(tasks)))
    assert all(len(of_block) == 1 for of_block in queue_of.values()), "one thread reads a block, another updates it"


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_queues_of_a_large_tensor_are_equally_long(count: int) -> None:
    (batch,) = schedule.batches([layout((4000, 1000))])
    _, queues = schedule.into_queues(batch.tasks, count)
    first, end = queues.reshape(count, -1, 2)[:, tables.UPDATE].T
    assert np.ptp(end - first) <= 1
