"""Memory that is shared: gradients in a parameter's memory, parameters whose own elements overlap, other devices."""

from collections.abc import Callable, Iterator
from typing import Any

import array_api_strict
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
from tests.bits import assert_same_bits, assert_within_ulps

A, B = normal(0, (3, 4)), normal(1, (3, 4))
OVERLAP = "has elements that share memory, so it cannot be updated in place"


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[:], lambda x: x.T.T], ids=["itself", "a view", "twice"])
def test_gradients_that_are_the_other_parameter_are_those_from_before_the_step(view: Callable) -> None:
    """As those of a bilinear loss are: the second one must not see the first one's update."""
    expected = rose_core.update(A, B, lr=0.1), rose_core.update(B, A, lr=0.1)
    arrays = A.copy(), B.copy()
    rose_numpy.Rose(arrays, lr=0.1).step([view(arrays[1]), view(arrays[0])])
    tensors = parameter(A), parameter(B)
    tensors[0].grad, tensors[1].grad = view(tensors[1].data), view(tensors[0].data)
    rose_torch.Rose(tensors, lr=0.1).step()
    for array, param, want in zip(arrays, tensors, expected, strict=True):
        assert_same_bits(array, want, backend="rose_numpy")
        assert_same_bits(param, want, backend="rose_torch")


def test_parameters_that_are_parts_of_one_buffer_are_updated_apart() -> None:
    buffer = np.stack([A, B], axis=1)
    rose_numpy.Rose([buffer[:, 0], buffer[:, 1]], lr=0.1).step([B, A])
    expected = [rose_core.update(A, B, lr=0.1), rose_core.update(B, A, lr=0.1)]
    assert_same_bits(buffer, np.stack(expected, axis=1), backend="rose_numpy")


@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("shift", [0, 3, 6])
def test_parameters_that_share_memory_are_updated_one_after_the_other(shift: int, fused: bool | None) -> None:
    """As upstream does: the second begins with what the first has left."""
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
def test_threads_do_not_meet_in_parameters_that_share_memory() -> None:
    """They did, and what was left of 20 windows that slide along one array was another thing after each step."""
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
def test_parameters_that_share_memory_are_updated_in_turn_though_one_draws_noise(
    drawing: int, fused: bool | None
) -> None:
    buffer, grads = normal(0, (9,), "bfloat16"), [normal(1, (6,), "bfloat16"), normal(2, (6,), "bfloat16")]
    noise = torch.empty(6, dtype=torch.int32).random_(0, 2**16, generator=torch.Generator().manual_seed(5)).numpy()
    expected = buffer.copy()
    for number, (first, grad) in enumerate(zip((0, 3), grads, strict=True)):
        own = noise if number == drawing else None
        expected[first : first + 6] = rose_core.update(
            expected[first : first + 6], grad, lr=0.1, weight_decay=5.0, noise=own
        )
    shared = tensor(buffer)
    params = [torch.nn.Parameter(shared[:6]), torch.nn.Parameter(shared[3:])]
    for param, grad in zip(params, grads, strict=True):
        param.grad = tensor(grad)
    roundings = [torch.Generator().manual_seed(5) if number == drawing else False for number in (0, 1)]
    groups = [{"params": [param], "bf16_sr": own} for param, own in zip(params, roundings, strict=True)]
    rose_torch.Rose(groups, lr=0.1, weight_decay=5.0, fused=fused).step()
    assert_same_bits(shared, expected, backend="rose_torch")


@pytest.mark.parametrize("fused", [None, False])
def test_a_gradient_in_memory_that_no_array_owns_is_that_from_before_the_step(fused: bool | None) -> None:
    """Views of a buffer have no owner in common that NumPy would tell of."""
    buffer = bytearray(A.tobytes())
    params = np.frombuffer(buffer, A.dtype).reshape(A.shape), B.copy()
    rose_numpy.Rose(params, lr=0.1, fused=fused).step([B, np.frombuffer(buffer, A.dtype).reshape(A.shape)])
    for param, want in zip(params, [rose_core.update(A, B, lr=0.1), rose_core.update(B, A, lr=0.1)], strict=True):
        assert_same_bits(param, want, backend="rose_numpy")


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_gradient_may_be_a_scalar_of_numpy(dtype: type[np.floating[Any]], fused: bool | None) -> None:
    """As sums of arrays are, which are no arrays and have no address of elements."""
    param, grad = np.asarray(2.0, dtype), np.asarray([-1.0, -2.0], dtype).sum()
    assert not isinstance(grad, np.ndarray)
    rose_numpy.Rose([param], lr=0.5, weight_decay=0.0, fused=fused).step([grad])
    assert_same_bits(param, np.asarray(2.5, dtype), backend="rose_numpy")


@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("view", [lambda x: x[:, ::2], lambda x: x[::2, ::2], lambda x: x[:, ::-2].T])
def test_every_other_column_of_an_odd_number_is_updated(view: Callable[[Any], Any], fused: bool | None) -> None:
    """It was refused: the gap behind a row's last element was taken for a part of the row."""
    buffer, grad = normal(0, (4, 7)), normal(1, view(normal(0, (4, 7))).shape)
    expected = buffer.copy()
    view(expected)[...] = rose_core.update(view(buffer).copy(), grad, lr=0.1)
    array = buffer.copy()
    rose_numpy.Rose([view(array)], lr=0.1, fused=fused).step([grad])
    assert_same_bits(array, expected, backend="rose_numpy")
    if min(view(array).strides) > 0:  # torch has no others
        shared = tensor(buffer)
        param = torch.nn.Parameter(view(shared))
        param.grad = tensor(grad)
        rose_torch.Rose([param], lr=0.1, fused=fused).step()
        assert_same_bits(shared, expected, backend="rose_torch")


OVERLAPPING = {
    "sliding window": np.lib.stride_tricks.sliding_window_view(np.arange(6.0), 3, writeable=True),
    "half a stride": np.lib.stride_tricks.as_strided(np.arange(6.0), (3, 2), (4, 8)),
}


@pytest.mark.parametrize("array", OVERLAPPING.values(), ids=OVERLAPPING)
def test_an_array_whose_elements_overlap_is_refused(array: np.ndarray) -> None:
    with raises(ValueError, f"params[0] {OVERLAP}"):
        rose_numpy.Rose([array], lr=0.1)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_with_gaps_or_negative_strides_is_taken(order: str) -> None:
    held = np.zeros((6, 10), order=order)
    for view in (held[::2, ::3], held[::-1, 1:], held[:0], held[:, :1].T):
        rose_numpy.Rose([view], lr=0.1, centralize=False).step([np.ones(view.shape)])


def last_after(first: nn.Parameter, last: nn.Parameter) -> rose_torch.Rose:
    for param in (first, last):
        param.grad = torch.ones(param.shape)
    return rose_torch.Rose([first, last], lr=0.1)


def test_a_tensor_whose_elements_overlap_stops_the_whole_step() -> None:
    optimizer = last_after(parameter(A), nn.Parameter(torch.arange(5.0).as_strided((3, 3), (1, 1))))
    with refuses(optimizer, RuntimeError, f"parameter 1 of group 0 {OVERLAP}"):
        optimizer.step()


def test_a_tensor_of_inference_mode_stops_the_whole_step() -> None:
    with torch.inference_mode():
        last = nn.Parameter(torch.ones(2, 3), requires_grad=False)
    optimizer = rose_torch.Rose([parameter(A, B), last], lr=0.1)
    with torch.inference_mode():
        last.grad = torch.ones(2, 3)
    text = "parameter 1 of group 0 was made in inference mode, so it cannot be updated in place"
    with refuses(optimizer, RuntimeError, text):
        optimizer.step()


@pytest.mark.parametrize("rose", [rose_numpy.Rose, rose_torch.Rose], ids=["numpy", "torch"])
def test_a_step_count_that_is_none_stops_the_whole_step(rose: type) -> None:
    optimizer = rose([A.copy() if rose is rose_numpy.Rose else parameter(A, B)], lr=0.1)
    optimizer.param_groups[0]["step"] = "x"
    with refuses(optimizer, TypeError, "step must be an integer in [0, 2**32), got 'x'"):
        optimizer.step(*([[B]] if rose is rose_numpy.Rose else []))


sizes = pytest.mark.parametrize("shape", [(), (5,), A.shape], ids=str)


@sizes
def test_a_default_device_of_torch_has_no_say(shape: tuple[int, ...]) -> None:
    a, b = normal(0, shape), normal(1, shape)
    param, grad = tensor(a), tensor(b)
    with torch.device("meta"):
        result = rose_core.update(param, grad, lr=0.1)
        statistics = rose_core.slice_statistics(grad)
    assert_same_bits(result, rose_core.update(a, b, lr=0.1), backend="torch-1-thread")
    assert {value.device.type for value in statistics if value is not None} <= {"cpu"}


@sizes
@pytest.mark.parametrize("compute_dtype", ["fp64", "bf16"])
def test_a_negation_that_torch_puts_off_is_done(shape: tuple[int, ...], compute_dtype: str) -> None:
    a, b = normal(0, shape), normal(1, shape)
    grad = torch.complex(tensor(a), tensor(b)).conj().imag
    assert grad.is_neg()
    result = rose_core.update(tensor(a), grad, lr=0.1, compute_dtype=compute_dtype)
    expected = rose_core.update(a, -b, lr=0.1, compute_dtype=compute_dtype)
    assert_same_bits(result, expected, backend="torch-1-thread")


@sizes
def test_autograd_does_not_follow_an_update(shape: tuple[int, ...]) -> None:
    a, b = normal(0, shape), normal(1, shape)
    param, grad = tensor(a).requires_grad_(), tensor(b).requires_grad_()
    result = rose_core.update(param, grad, lr=0.1)
    assert not result.requires_grad
    assert_same_bits(result.detach(), rose_core.update(a, b, lr=0.1), backend="torch-1-thread")


def test_a_device_without_float64_is_told_by_the_standard() -> None:
    """ROSE-12.2: the compute dtype float64 is refused by name, and float32 works, though not to the last bit."""
    device = array_api_strict.Device("no_float64")
    x = array_api_strict.asarray(A, dtype=array_api_strict.float32, device=device)
    with pytest.raises(ValueError, match=r'^compute_dtype="fp64" needs float64.*use compute_dtype="fp32"'):
        rose_core.update(x, x, lr=0.1)
    result = rose_core.update(x, x, lr=0.1, compute_dtype="fp32")
    exact = rose_core.update(A, A, lr=0.1, compute_dtype="fp32")
    back = result.to_device(array_api_strict.Device("CPU_DEVICE"))
    # A mean of 4 values and one of 3, in float32 instead of float64: a rounding or two of each.
    assert_within_ulps(back, exact, limit=4, magnitude=np.maximum(np.abs(A), np.abs(exact)), backend="without float64")
