"""Arrays that share memory: gradients with parameters, parameters with parameters, and elements of one array."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rose_core
import rose_numpy
import rose_torch
from rose_kernels import set_num_threads
from tests.adapters.models import normal, parameter, tensor
from tests.adapters.refusals import raises, refuses
from tests.bits import assert_same_bits

A, B = normal(0, (3, 4)), normal(1, (3, 4))
REPEATED = "has elements that share memory, so it cannot be updated in place"


@pytest.mark.parametrize(
    "view", [lambda x: x, lambda x: x[:], lambda x: x.T.T], ids=["the parameter", "a view", "a view of a view"]
)
def test_gradients_that_share_memory_with_parameters_have_their_values_from_before_the_step(view: Callable) -> None:
    """In a bilinear loss each gradient is the other parameter. The first update must not change the second gradient."""
    expected = rose_core.update(A, B, lr=0.1), rose_core.update(B, A, lr=0.1)
    arrays = A.copy(), B.copy()
    rose_numpy.Rose(arrays, lr=0.1).step([view(arrays[1]), view(arrays[0])])
    tensors = parameter(A), parameter(B)
    tensors[0].grad, tensors[1].grad = view(tensors[1].data), view(tensors[0].data)
    rose_torch.Rose(tensors, lr=0.1).step()
    for array, param, want in zip(arrays, tensors, expected, strict=True):
        assert_same_bits(array, want, backend="rose_numpy")
        assert_same_bits(param, want, backend="rose_torch")


def test_parameters_that_interleave_in_one_buffer_have_the_bits_of_separate_ones() -> None:
    buffer = np.stack([A, B], axis=1)
    rose_numpy.Rose([buffer[:, 0], buffer[:, 1]], lr=0.1).step([B, A])
    expected = [rose_core.update(A, B, lr=0.1), rose_core.update(B, A, lr=0.1)]
    assert_same_bits(buffer, np.stack(expected, axis=1), backend="rose_numpy")


@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("shift", [0, 3, 6])
def test_parameters_that_share_memory_are_updated_in_order(shift: int, fused: bool | None) -> None:
    """As in upstream, the second update starts from the result of the first."""
    buffer, grads = normal(0, (shift + 6,)), [normal(1, (6,)), normal(2, (6,))]
    expected = buffer.copy()
    for first, grad in zip((0, shift), grads, strict=True):
        expected[first : first + 6] = rose_core.update(expected[first : first + 6], grad, lr=0.1)
    array, shared = buffer.copy(), tensor(buffer)
    rose_numpy.Rose([array[:6], array[shift:]], lr=0.1, fused=fused).step(grads)
    assert_same_bits(array, expected, backend="rose_numpy")
    params = [torch.nn.Parameter(shared[:6]), torch.nn.Parameter(shared[shift:])]
    for param, grad in zip(params, grads, strict=True):
        param.grad = tensor(grad)
    rose_torch.Rose(params, lr=0.1, fused=fused).step()
    assert_same_bits(shared, expected, backend="rose_torch")


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    set_num_threads(4)
    yield
    torch.set_num_threads(before)
    set_num_threads(None)


@pytest.mark.usefixtures("four_threads")
def test_threads_do_not_update_shared_memory_at_the_same_time() -> None:
    """20 windows slide along one array. Threads once updated them at the same time, and each run had another result."""
    windows = [slice(50 * number, 50 * number + 100) for number in range(20)]
    buffer, grads = normal(0, (1050, 300)), [normal(1 + number, (100, 300)) for number in range(20)]
    expected = buffer.copy()
    for window, grad in zip(windows, grads, strict=True):
        expected[window] = rose_core.update(expected[window], grad, lr=0.1, weight_decay=5.0)
    array, shared = buffer.copy(), tensor(buffer)
    rose_numpy.Rose([array[window] for window in windows], lr=0.1, weight_decay=5.0).step(grads)
    assert_same_bits(array, expected, backend="rose_numpy")
    params = [torch.nn.Parameter(shared[window]) for window in windows]
    for param, grad in zip(params, grads, strict=True):
        param.grad = tensor(grad)
    rose_torch.Rose(params, lr=0.1, weight_decay=5.0).step()
    assert_same_bits(shared, expected, backend="rose_torch")


@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("drawing", [0, 1])
def test_parameters_that_share_memory_are_updated_in_order_if_one_draws_noise(drawing: int, fused: bool | None) -> None:
    buffer, grads = normal(0, (9,), "bfloat16"), [normal(1, (6,), "bfloat16"), normal(2, (6,), "bfloat16")]
    noise = torch.empty(6, dtype=torch.int32).random_(0, 2**16, generator=torch.Generator().manual_seed(5)).numpy()
    expected = buffer.copy()
    for number, (first, grad) in enumerate(zip((0, 3), grads, strict=True)):
        words = noise if number == drawing else None
        expected[first : first + 6] = rose_core.update(
            expected[first : first + 6], grad, lr=0.1, weight_decay=5.0, noise=words
        )
    shared = tensor(buffer)
    params = [torch.nn.Parameter(shared[:6]), torch.nn.Parameter(shared[3:])]
    for param, grad in zip(params, grads, strict=True):
        param.grad = tensor(grad)
    sources = [torch.Generator().manual_seed(5) if number == drawing else False for number in (0, 1)]
    groups = [{"params": [param], "bf16_sr": source} for param, source in zip(params, sources, strict=True)]
    rose_torch.Rose(groups, lr=0.1, weight_decay=5.0, fused=fused).step()
    assert_same_bits(shared, expected, backend="rose_torch")


@pytest.mark.parametrize("fused", [None, False])
def test_arrays_over_one_foreign_buffer_are_known_to_share_memory(fused: bool | None) -> None:
    """Such arrays have no `base` in common."""
    buffer = bytearray(A.tobytes())
    params = np.frombuffer(buffer, A.dtype).reshape(A.shape), B.copy()
    rose_numpy.Rose(params, lr=0.1, fused=fused).step([B, np.frombuffer(buffer, A.dtype).reshape(A.shape)])
    for param, want in zip(params, [rose_core.update(A, B, lr=0.1), rose_core.update(B, A, lr=0.1)], strict=True):
        assert_same_bits(param, want, backend="rose_numpy")


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_gradient_may_be_a_numpy_scalar(dtype: type[np.floating[Any]], fused: bool | None) -> None:
    """A sum over all axes is a scalar. It is not an array, and has no address."""
    param, grad = np.asarray(2.0, dtype), np.asarray([-1.0, -2.0], dtype).sum()
    assert not isinstance(grad, np.ndarray)
    rose_numpy.Rose([param], lr=0.5, weight_decay=0.0, fused=fused).step([grad])
    assert_same_bits(param, np.asarray(2.5, dtype), backend="rose_numpy")


@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("view", [lambda x: x[:, ::2], lambda x: x[::2, ::2], lambda x: x[:, ::-2].T])
def test_every_second_column_of_an_odd_number_is_updated(view: Callable[[Any], Any], fused: bool | None) -> None:
    """These views once raised: the gap after the last element of a row was counted as part of the row."""
    buffer, grad = normal(0, (4, 7)), normal(1, view(normal(0, (4, 7))).shape)
    expected = buffer.copy()
    view(expected)[...] = rose_core.update(view(buffer).copy(), grad, lr=0.1)
    array = buffer.copy()
    rose_numpy.Rose([view(array)], lr=0.1, fused=fused).step([grad])
    assert_same_bits(array, expected, backend="rose_numpy")
    if min(view(array).strides) > 0:  # torch has no negative strides
        shared = tensor(buffer)
        param = torch.nn.Parameter(view(shared))
        param.grad = tensor(grad)
        rose_torch.Rose([param], lr=0.1, fused=fused).step()
        assert_same_bits(shared, expected, backend="rose_torch")


REPEATING = {
    "sliding window": np.lib.stride_tricks.sliding_window_view(np.arange(6.0), 3, writeable=True),
    "half a stride": np.lib.stride_tricks.as_strided(np.arange(6.0), (3, 2), (4, 8)),
}


@pytest.mark.parametrize("array", REPEATING.values(), ids=REPEATING)
def test_an_array_whose_elements_share_memory_raises(array: np.ndarray) -> None:
    with raises(ValueError, f"params[0] {REPEATED}"):
        rose_numpy.Rose([array], lr=0.1)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_with_gaps_or_negative_strides_is_updated(order: str) -> None:
    held = np.zeros((6, 10), order=order)
    for view in (held[::2, ::3], held[::-1, 1:], held[:0], held[:, :1].T):
        rose_numpy.Rose([view], lr=0.1, centralize=False).step([np.ones(view.shape)])


def test_a_tensor_whose_elements_share_memory_stops_the_whole_step() -> None:
    params = [parameter(A), nn.Parameter(torch.arange(5.0).as_strided((3, 3), (1, 1)))]
    for param in params:
        param.grad = torch.ones(param.shape)
    optimizer = rose_torch.Rose(params, lr=0.1)
    with refuses(optimizer, RuntimeError, f"parameter 1 of group 0 {REPEATED}"):
        optimizer.step()
