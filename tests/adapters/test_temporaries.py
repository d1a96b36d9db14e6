"""The temporaries of a step of rose_torch do not grow with the parameter."""

import itertools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any, Final

import pytest
import torch
from torch.autograd.profiler import profile

from rose_torch import Rose, attach

# The limits in the README: of a step, and of the values for each slice at a step that looks for very large changes.
LIMIT: Final = 16 * 2**20
BYTES_OF_A_SLICE: Final = 64

# Warnings read the gradients at these steps, among others.
reading_steps = pytest.mark.parametrize("count", [1, 10])


def peak_of_step(shape: tuple[int, ...], dtype: torch.dtype, options: dict[str, Any], count: int | None = None) -> int:
    """Return the peak of the memory allocated during a step of one parameter. `count` chooses the step."""
    param = torch.nn.Parameter(torch.ones(shape, dtype=dtype))
    param.grad = torch.arange(math.prod(shape)).remainder_(1009).to(dtype).reshape(shape)
    optimizer = Rose([param], lr=1e-3, **options)
    return peak_of(optimizer.step if count is None else at(count, optimizer, optimizer.step))


def at(count: int, optimizer: Rose, step: Callable[[], object]) -> Callable[[], object]:
    """Return a function that takes the step of this count again and again."""

    def repeat() -> None:
        optimizer.param_groups[0]["step"] = count - 1
        step()

    return repeat


def peak_of_many(count: int, shape: tuple[int, ...], dtype: torch.dtype, options: dict[str, Any]) -> int:
    """Return the peak of the memory allocated during a step of several parameters of one shape."""
    params = [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for _ in range(count)]
    for number, param in enumerate(params):
        param.grad = torch.arange(math.prod(shape)).remainder_(1009 + number).to(dtype).reshape(shape)
    return peak_of(Rose(params, lr=1e-3, **options).step)


def peak_of(step: Callable[[], object]) -> int:
    """Return the peak memory of torch plus the peak memory of NumPy and Python, measured in separate steps."""
    step()  # allocates what later steps reuse
    by_torch = max(itertools.accumulate(changes_of_memory(step), initial=0))
    tracemalloc.start()
    step()
    _, by_numpy = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return by_torch + by_numpy


def changes_of_memory(step: Callable[[], object]) -> list[int]:
    """Return the bytes of each allocation of torch during a step, negative for deallocations, in order."""
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
    "many rows": (2**19, 8),
    "more rows": (2**20, 4),
    "eight long rows": (8, 2**19),
    "one axis": (2**22,),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("dtype", "options"), OPTIONS.values(), ids=OPTIONS)
def test_temporaries_of_kernels_are_below_the_limit(
    dtype: torch.dtype, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    assert math.prod(shape) * 8 > LIMIT  # one temporary of float64 would exceed the limit
    assert 0 < peak_of_step(shape, dtype, options) < LIMIT


@reading_steps
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("dtype", "options"), OPTIONS.values(), ids=OPTIONS)
def test_a_step_that_reads_gradients_needs_a_few_values_for_each_slice(
    dtype: torch.dtype, options: dict[str, Any], shape: tuple[int, ...], count: int
) -> None:
    slices = shape[0] if len(shape) > 1 else 1
    assert 0 < peak_of_step(shape, dtype, options, count) < LIMIT + BYTES_OF_A_SLICE * slices


@reading_steps
def test_attached_parameters_need_memory_for_about_one_gradient(count: int) -> None:
    model = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024) for _ in range(5)])
    optimizer, gradient = attach(model, lr=1e-3), 2**22

    def step() -> None:
        model(torch.ones(1, 1024)).square().sum().backward()
        optimizer.step()

    assert gradient < peak_of(at(count, optimizer, step)) < 1.1 * gradient  # activations and the workspace are small


@pytest.mark.parametrize(("dtype", "options"), OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("rows", [2**12, pytest.param(2**14, marks=pytest.mark.slow)])
def test_temporaries_of_the_core_are_below_the_limit_for_matrices(
    rows: int, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    assert 0 < peak_of_step((rows, 1024), dtype, {**options, "fused": False}) < LIMIT


def test_temporaries_of_kernels_are_below_the_limit_for_several_tensors_of_many_rows() -> None:
    """A batch of tensors frees its means and ranges before the next batch allocates them."""
    assert 2**22 < peak_of_many(3, (2**19, 8), torch.float32, {}) < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "options"), OPTIONS.values(), ids=OPTIONS)
def test_temporaries_of_kernels_are_below_the_limit_for_20000_tensors(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    assert 0 < peak_of_many(20_000, (4,), dtype, options) < LIMIT
