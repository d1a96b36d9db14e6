"""What the checks of a step found is taken again only while all that it hung on is the same."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from rose_kernels import Kernels, Launch, Threads
from rose_torch import Rose
from tests.bits import assert_same_bits

SHAPES = (6, 4), (5, 8), (8, 5)


class Wrapped(Tensor):
    """A subclass, whose memory need not be all there is to it."""


class Enclosed(Tensor):
    """A subclass that holds another tensor, and has no memory of its own."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Enclosed":
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(cls, lambda x: x.inner, (args, kwargs or {}))
        return tree_map_only(Tensor, cls, func(*args, **kwargs))


def made(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(dtype)
    return params


def outcome(optimizer: Rose) -> list[Tensor] | str:
    """Return the parameters after a step, or what it raises."""
    try:
        optimizer.step()
    except (RuntimeError, TypeError, ValueError) as error:
        return str(error)
    return [param.detach().clone() for group in optimizer.param_groups for param in group["params"]]


def gradient_is(change: Callable[[Tensor], Tensor]) -> Callable[[Rose], None]:
    """Return what gives the second parameter another gradient."""

    def apply(optimizer: Rose) -> None:
        param = optimizer.param_groups[0]["params"][1]
        data, grad = param.data, change(param.grad)
        param.grad = None
        # The two may differ, as after `module.to` of a model that keeps its gradients.
        param.data = torch.empty(grad.shape, dtype=grad.dtype, device=grad.device)
        param.grad = grad
        param.data = data

    return apply


def parameter_is(change: Callable[[Tensor], Tensor]) -> Callable[[Rose], None]:
    """Return what gives the second parameter other memory, and leaves its gradient."""

    def apply(optimizer: Rose) -> None:
        param = optimizer.param_groups[0]["params"][1]
        param.data = change(param.data)

    return apply


def both_are(change: Callable[[Tensor], Tensor]) -> Callable[[Rose], None]:
    def apply(optimizer: Rose) -> None:
        parameter_is(change)(optimizer)
        gradient_is(change)(optimizer)

    return apply


def padded(x: Tensor) -> Tensor:
    """Return the same matrix with gaps between its rows, of which there are none if there were."""
    if not x.is_contiguous():
        return x.contiguous()
    wider = torch.zeros(x.shape[0], 2 * x.shape[1], dtype=x.dtype)
    wider[:, : x.shape[1]] = x
    return wider[:, : x.shape[1]]


def another_parameter(optimizer: Rose) -> None:
    other = torch.nn.Parameter(torch.ones(5, 8))
    other.grad = torch.arange(40.0).reshape(5, 8)
    optimizer.param_groups[0]["params"][1] = other


def without_gradient(position: int) -> Callable[[Rose], None]:
    def apply(optimizer: Rose) -> None:
        optimizer.param_groups[0]["params"][position].grad = None

    return apply


def option(name: str, value: object) -> Callable[[Rose], None]:
    return lambda optimizer: optimizer.param_groups[0].update({name: value})


CHANGES = {
    "nothing": lambda _: None,
    "another parameter": another_parameter,
    "the gradient's type": gradient_is(lambda grad: grad.as_subclass(Wrapped)),
    "the gradient's layout": gradient_is(Tensor.to_sparse),
    "the gradient's sign": gradient_is(torch._neg_view),
    "the parameter's sign": parameter_is(torch._neg_view),
    "the gradient's dtype": gradient_is(Tensor.double),
    "the gradient's shape": gradient_is(lambda grad: grad.reshape(10, 4)),
    "the gradient's strides": gradient_is(padded),
    "the parameter's dtype": parameter_is(Tensor.double),
    "the parameter's shape": parameter_is(lambda data: data.reshape(10, 4)),
    "the parameter's strides": parameter_is(padded),
    "the dtype of both": both_are(Tensor.bfloat16),
    "the shape of both": both_are(lambda x: x.reshape(4, 10)),
    "the first gradient missing": without_gradient(0),
    "the last gradient missing": without_gradient(2),
    "centralize": option("centralize", False),
    "stabilize": option("stabilize", False),
    "compute_dtype": option("compute_dtype", "fp32"),
    "lr": option("lr", 0.5),
    "maximize": option("maximize", True),
}


def only_the_parameter_on_the_cpu(optimizer: Rose) -> None:
    both_are(Tensor.cuda)(optimizer)
    parameter_is(Tensor.cpu)(optimizer)


ON_GPU = {
    "both": both_are(Tensor.cuda),
    "the gradient": only_the_parameter_on_the_cpu,
    "the parameter": parameter_is(Tensor.cuda),
}


@pytest.mark.parametrize("with_gaps", [False, True], ids=["contiguous", "with gaps"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_between_two_steps_is_seen(change: Callable[[Rose], None], with_gaps: bool) -> None:
    assert_seen(change, with_gaps=with_gaps)


@pytest.mark.parametrize("change", [option("bf16_sr", False), option("sr_seed", 5)], ids=["bf16_sr", "sr_seed"])
def test_a_change_of_the_rounding_between_two_steps_is_seen(change: Callable[[Rose], None]) -> None:
    assert_seen(change, with_gaps=False, dtype=torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.parametrize("change", ON_GPU.values(), ids=ON_GPU)
def test_a_move_to_a_gpu_between_two_steps_is_seen(change: Callable[[Rose], None]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    assert_seen(change, with_gaps=False)


def assert_seen(change: Callable[[Rose], None], *, with_gaps: bool, dtype: torch.dtype = torch.float32) -> None:
    """Assert that an optimizer does after a change what another would at its first step, to the bit or the message."""
    optimizer = Rose(made(dtype), lr=0.1, sr_seed=0)
    if with_gaps:
        both_are(padded)(optimizer)
    for _ in range(2):
        optimizer.step()
    change(optimizer)
    fresh = Rose([copied(param) for param in optimizer.param_groups[0]["params"]], lr=0.1, sr_seed=0)
    fresh.param_groups[0].update({key: own for key, own in optimizer.param_groups[0].items() if key != "params"})
    for _ in range(2):  # what is found the first time may be kept for the second
        expected, result = outcome(fresh), outcome(optimizer)
        if isinstance(expected, str):
            assert result == expected
            continue
        for got, want in zip(result, expected, strict=True):
            assert_same_bits(got, want)


def copied(param: torch.nn.Parameter) -> torch.nn.Parameter:
    """Return a parameter with memory of its own and the same gradient."""
    copy_of = torch.nn.Parameter(copy.deepcopy(param.data))
    data, grad = copy_of.data, param.grad
    if grad is not None:
        copy_of.data = torch.empty(grad.shape, dtype=grad.dtype, device=grad.device)
        copy_of.grad = grad
        copy_of.data = data
    return copy_of


def test_a_parameter_in_the_place_of_another_is_checked() -> None:
    optimizer = Rose(made(), lr=0.1)
    optimizer.step()
    another_parameter(optimizer)
    optimizer.param_groups[0]["params"][1]._fsdp_flattened = True
    with pytest.raises(ValueError, match="flattened by FullyShardedDataParallel"):
        optimizer.step()


def test_groups_that_are_taken_away_leave_nothing_to_do() -> None:
    params = made()
    optimizer, before = Rose(params, lr=0.1), [param.detach().clone() for param in params]
    optimizer.step()
    after = [param.detach().clone() for param in params]
    optimizer.param_groups.clear()
    optimizer.step()
    for param, kept, first in zip(params, after, before, strict=True):
        assert_same_bits(param, kept)
        assert not torch.equal(param, first)


def test_a_gradient_that_becomes_a_subclass_is_left_to_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer, counted, run = Rose(made(), lr=0.1, fused=True), [], Kernels.run

    def counting(self: Kernels, requests: Launch, threads: Threads) -> None:
        counted.append(len(requests.kernels))
        run(self, requests, threads)

    monkeypatch.setattr(Kernels, "run", counting)
    optimizer.step()
    gradient_is(lambda grad: grad.as_subclass(Wrapped))(optimizer)
    optimizer.step()
    assert counted == [3, 2]


@pytest.mark.parametrize("shape", [(5, 8), (40,), ()], ids=str)
@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
def test_a_gradient_without_memory_of_its_own_is_updated_with(fused: bool | None, shape: tuple[int, ...]) -> None:
    """A step is whole: it was refused after the first parameter was written."""
    params, expected = made(), made()
    for own in (params, expected):
        own[1].data, own[1].grad = own[1].data.flatten()[: math.prod(shape)].reshape(shape), None
        own[1].grad = torch.linspace(-1.0, 2.0, math.prod(shape)).reshape(shape)
    params[1].grad = Enclosed(params[1].grad)
    Rose(params, lr=0.1, fused=fused).step()
    Rose(expected, lr=0.1, fused=fused).step()
    for got, want in zip(params, expected, strict=True):
        assert_same_bits(got, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_without_memory_of_its_own_in_several_blocks(dtype: torch.dtype) -> None:
    """Its extrema once became NumPy's and its sums stayed tensors, so that the step raised."""
    results = []
    for enclose in (Enclosed, torch.clone):
        generator = torch.Generator().manual_seed(1)
        param, grad = torch.randn((2, 600, 600), generator=generator).to(dtype)
        grad[3, 5] = 2.0**-60
        held = torch.nn.Parameter(param)
        held.grad = enclose(grad)
        Rose([held], lr=0.1, bf16_sr=False, fused=False).step()
        results.append(held.detach())
    assert_same_bits(*results, backend="rose_torch")
