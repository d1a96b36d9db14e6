"""The memory that a step of rose_torch takes and gives back does not grow with the parameter."""

import itertools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

import pytest
import torch
from torch.autograd.profiler import profile

import rose_core
from rose_torch import Rose

# What the README says of both, the kernels and the core.
LIMIT: Final = 16 * 2**20


def peak_of_step(shape: tuple[int, ...], dtype: torch.dtype, options: dict[str, Any]) -> int:
    """Return the most that is allocated at once during a step of a parameter."""
    param = torch.nn.Parameter(torch.ones(shape, dtype=dtype))
    param.grad = torch.arange(math.prod(shape)).remainder_(1009).to(dtype).reshape(shape)
    return peak_of(Rose([param], lr=1e-3, **options).step)


def peak_of_alike(count: int, shape: tuple[int, ...], dtype: torch.dtype, options: dict[str, Any]) -> int:
    """Return the most that is allocated at once during a step of parameters of one shape."""
    params = [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for _ in range(count)]
    for number, param in enumerate(params):
        param.grad = torch.arange(math.prod(shape)).remainder_(1009 + number).to(dtype).reshape(shape)
    return peak_of(Rose(params, lr=1e-3, **options).step)


def peak_of(step: Callable[[], object]) -> int:
    """Return the most that is allocated at once, by torch and by NumPy and Python, each in a step of its own."""
    step()  # what is kept from then on is made
    by_torch = max(itertools.accumulate(changes_of_memory(step), initial=0))
    tracemalloc.start()
    step()
    _, by_numpy = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return by_torch + by_numpy


def changes_of_memory(step: Callable[[], object]) -> list[int]:
    """Return how many bytes torch takes and, below 0, gives back during a step, one after another."""
    with profile(profile_memory=True) as profiled:
        step()
    changes = [event for event in profiled.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())]


OPTIONS: Final = {
    "float32": (torch.float32, {}),
    "bfloat16 with portable noise": (torch.bfloat16, {"sr_seed": 0}),
    "bfloat16 with drawn noise": (torch.bfloat16, {}),
}
SHAPES: Final = {
    "rows of 1024": (2**12, 1024),
    "the most rows that kernels keep": (2**19, 8),
    "the most rows that the core keeps": (2**18, 16),
    "more rows": (2**20, 4),
    "eight long rows": (8, 2**19),
    "one axis": (2**22,),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("dtype", "options"), OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
def test_a_step_takes_less_than_a_constant(
    fused: bool | None, dtype: torch.dtype, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    assert math.prod(shape) * 8 > LIMIT  # which a single temporary of float64 would be beyond
    assert 0 < peak_of_step(shape, dtype, {**options, "fused": fused}) < LIMIT


@pytest.mark.parametrize(("dtype", "options"), OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("shape", "count"), [((2**11, 512), 8), ((2**15, 8), 16), ((64, 64), 500), ((1000,), 500)])
def test_a_step_of_many_that_are_alike_takes_no_more(
    dtype: torch.dtype, options: dict[str, Any], shape: tuple[int, ...], count: int
) -> None:
    assert 0 < peak_of_alike(count, shape, dtype, {**options, "fused": False}) < LIMIT


def test_kernels_take_no_more_for_several_of_many_rows() -> None:
    """They once had the means and ranges of a wave of tensors still when they took memory for those of the next."""
    assert 2**22 < peak_of_alike(3, (2**19, 8), torch.float32, {}) < LIMIT


@pytest.mark.parametrize(("dtype", "options"), OPTIONS.values(), ids=OPTIONS)
def test_nor_does_one_of_very_many(dtype: torch.dtype, options: dict[str, Any]) -> None:
    assert 0 < peak_of_alike(20_000, (4,), dtype, {**options, "fused": False}) < LIMIT


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("shape", [(2**13, 1024), (2**10, 2**13)], ids=["plain sums", "folds"])
def test_blocks_take_nothing_of_their_size(shape: tuple[int, int], maximize: bool) -> None:
    """What is kept of them would come to lie between, and the step's memory grow, though all of it were free.

    A step takes three pieces for all its blocks: two to widen to, and one for magnitude words or for a fold. Larger is
    the chunk of NOTE [the trimmed heap], which a process takes once.
    """
    param = torch.nn.Parameter(torch.ones(shape))
    param.grad = torch.arange(math.prod(shape)).remainder_(1009).to(torch.float32).reshape(shape)
    changes = changes_of_memory(Rose([param], lr=1e-3, fused=False, maximize=maximize).step)
    assert sum(2**17 <= change < 2**24 for change in changes) == 3


def test_an_update_takes_its_result_twice_besides() -> None:
    """In blocks and joined; it once took blocks of float64 besides."""
    param = torch.ones((2**11, 2**11))
    assert peak_of(lambda: rose_core.update(param, param, lr=0.1)) < 2 * 4 * param.numel() + LIMIT // 2
