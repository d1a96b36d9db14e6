"""rose_torch caches the results of its checks. After any change it steps like a new optimizer."""

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


class Subclass(Tensor):
    """A tensor of another type."""


class Wrapper(Tensor):
    """A tensor that wraps another tensor, and has no memory."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Wrapper":
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(cls, lambda x: x.inner, (args, kwargs or {}))
        return tree_map_only(Tensor, cls, func(*args, **kwargs))


def new_params(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(dtype)
    return params


def outcome(optimizer: Rose) -> list[Tensor] | str:
    """Return the parameters after a step, or the text of its error."""
    try:
        optimizer.step()
    except (RuntimeError, TypeError, ValueError) as error:
        return str(error)
    return [param.detach().clone() for group in optimizer.param_groups for param in group["params"]]


def grad_becomes(change: Callable[[Tensor], Tensor]) -> Callable[[Rose], None]:
    """Return a function that changes the gradient of the second parameter."""

    def apply(optimizer: Rose) -> None:
        param = optimizer.param_groups[0]["params"][1]
        data, grad = param.data, change(param.grad)
        param.grad = None
        # Their dtypes may differ, as after `module.to` in a model that keeps its gradients.
        param.data = torch.empty(grad.shape, dtype=grad.dtype, device=grad.device)
        param.grad = grad
        param.data = data

    return apply


def param_becomes(change: Callable[[Tensor], Tensor]) -> Callable[[Rose], None]:
    """Return a function that changes the second parameter, and not its gradient."""

    def apply(optimizer: Rose) -> None:
        param = optimizer.param_groups[0]["params"][1]
        param.data = change(param.data)

    return apply


def both_become(change: Callable[[Tensor], Tensor]) -> Callable[[Rose], None]:
    def apply(optimizer: Rose) -> None:
        param_becomes(change)(optimizer)
        grad_becomes(change)(optimizer)

    return apply


def padded(x: Tensor) -> Tensor:
    """Return the same matrix with gaps between its rows, or without them if it has gaps."""
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
    "the gradient's type": grad_becomes(lambda grad: grad.as_subclass(Subclass)),
    "the gradient's layout": grad_becomes(Tensor.to_sparse),
    "a lazily negated gradient": grad_becomes(torch._neg_view),
    "a lazily negated parameter": param_becomes(torch._neg_view),
    "the gradient's dtype": grad_becomes(Tensor.double),
    "the gradient's shape": grad_becomes(lambda grad: grad.reshape(10, 4)),
    "the gradient's strides": grad_becomes(padded),
    "the parameter's dtype": param_becomes(Tensor.double),
    "the parameter's shape": param_becomes(lambda data: data.reshape(10, 4)),
    "the parameter's strides": param_becomes(padded),
    "the dtype of both": both_become(Tensor.bfloat16),
    "the shape of both": both_become(lambda x: x.reshape(4, 10)),
    "the first gradient missing": without_gradient(0),
    "the last gradient missing": without_gradient(2),
    "centralize": option("centralize", False),
    "stabilize": option("stabilize", False),
    "compute_dtype": option("compute_dtype", "fp32"),
    "lr": option("lr", 0.5),
    "maximize": option("maximize", True),
}


def only_the_parameter_on_the_cpu(optimizer: Rose) -> None:
    both_become(Tensor.cuda)(optimizer)
    param_becomes(Tensor.cpu)(optimizer)


ON_GPU = {
    "both": both_become(Tensor.cuda),
    "the gradient": only_the_parameter_on_the_cpu,
    "the parameter": param_becomes(Tensor.cuda),
}


@pytest.mark.parametrize("with_gaps", [False, True], ids=["contiguous", "with gaps"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_between_two_steps_takes_effect(change: Callable[[Rose], None], with_gaps: bool) -> None:
    assert_steps_like_a_new_optimizer(change, with_gaps=with_gaps)


@pytest.mark.parametrize("change", [option("bf16_sr", False), option("sr_seed", 5)], ids=["bf16_sr", "sr_seed"])
def test_a_change_of_the_rounding_between_two_steps_takes_effect(change: Callable[[Rose], None]) -> None:
    assert_steps_like_a_new_optimizer(change, with_gaps=False, dtype=torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.parametrize("change", ON_GPU.values(), ids=ON_GPU)
def test_a_move_to_a_gpu_between_two_steps_takes_effect(change: Callable[[Rose], None]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    assert_steps_like_a_new_optimizer(change, with_gaps=False)


def assert_steps_like_a_new_optimizer(
    change: Callable[[Rose], None], *, with_gaps: bool, dtype: torch.dtype = torch.float32
) -> None:
    """Assert that after a change the optimizer has the results or the error of a new optimizer."""
    optimizer = Rose(new_params(dtype), lr=0.1, sr_seed=0)
    if with_gaps:
        both_become(padded)(optimizer)
    for _ in range(2):
        optimizer.step()
    change(optimizer)
    fresh = Rose([copied(param) for param in optimizer.param_groups[0]["params"]], lr=0.1, sr_seed=0)
    fresh.param_groups[0].update({key: entry for key, entry in optimizer.param_groups[0].items() if key != "params"})
    for _ in range(2):  # the second step uses the cache
        expected, result = outcome(fresh), outcome(optimizer)
        if isinstance(expected, str):
            assert result == expected
            continue
        for got, want in zip(result, expected, strict=True):
            assert_same_bits(got, want)


def copied(param: torch.nn.Parameter) -> torch.nn.Parameter:
    """Return a copy of the parameter with the same gradient."""
    copy_of = torch.nn.Parameter(copy.deepcopy(param.data))
    data, grad = copy_of.data, param.grad
    if grad is not None:
        copy_of.data = torch.empty(grad.shape, dtype=grad.dtype, device=grad.device)
        copy_of.grad = grad
        copy_of.data = data
    return copy_of


def test_a_parameter_that_replaces_another_is_checked() -> None:
    optimizer = Rose(new_params(), lr=0.1)
    optimizer.step()
    another_parameter(optimizer)
    optimizer.param_groups[0]["params"][1]._fsdp_flattened = True
    with pytest.raises(ValueError, match="flattened by FullyShardedDataParallel"):
        optimizer.step()


def test_removed_groups_are_not_updated() -> None:
    params = new_params()
    optimizer, before = Rose(params, lr=0.1), [param.detach().clone() for param in params]
    optimizer.step()
    after = [param.detach().clone() for param in params]
    optimizer.param_groups.clear()
    optimizer.step()
    for param, kept, first in zip(params, after, before, strict=True):
        assert_same_bits(param, kept)
        assert not torch.equal(param, first)


def test_the_core_updates_with_a_gradient_of_a_subclass(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer, counted, run = Rose(new_params(), lr=0.1, fused=True), [], Kernels.run

    def counting(self: Kernels, launch: Launch, threads: Threads) -> None:
        counted.append(len(launch.kernels))
        run(self, launch, threads)

    monkeypatch.setattr(Kernels, "run", counting)
    optimizer.step()
    grad_becomes(lambda grad: grad.as_subclass(Subclass))(optimizer)
    optimizer.step()
    assert counted == [3, 2]


@pytest.mark.parametrize("shape", [(5, 8), (40,), ()], ids=str)
@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
def test_a_gradient_that_wraps_another_tensor_is_used(fused: bool | None, shape: tuple[int, ...]) -> None:
    """Such a gradient once raised after the first parameter was updated."""
    params, expected = new_params(), new_params()
    for _, param, _ in (params, expected):
        param.data, param.grad = param.data.flatten()[: math.prod(shape)].reshape(shape), None
        param.grad = torch.linspace(-1.0, 2.0, math.prod(shape)).reshape(shape)
    params[1].grad = Wrapper(params[1].grad)
    Rose(params, lr=0.1, fused=fused).step()
    Rose(expected, lr=0.1, fused=fused).step()
    for got, want in zip(params, expected, strict=True):
        assert_same_bits(got, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_large_gradient_that_wraps_another_tensor_is_used(dtype: torch.dtype) -> None:
    """It has several chunks. Their extrema once were NumPy arrays and their sums tensors, and the step raised."""
    results = []
    for wrap in (Wrapper, torch.clone):
        generator = torch.Generator().manual_seed(1)
        param, grad = torch.randn((2, 600, 600), generator=generator).to(dtype)
        grad[3, 5] = 2.0**-60
        held = torch.nn.Parameter(param)
        held.grad = wrap(grad)
        Rose([held], lr=0.1, bf16_sr=False, fused=False).step()
        results.append(held.detach())
    assert_same_bits(*results, backend="rose_torch")
