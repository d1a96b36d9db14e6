"""Tensors whose memory does not hold their values: zero tensors, freed storage, and the tensors of tracers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from rose_torch import Rose, attach
from tests.adapters.models import normal, parameter, tensor
from tests.adapters.refusals import raises
from tests.bits import assert_same_bits

kernels_or_core = pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
A, B = normal(0, (3, 4)), normal(1, (3, 4))

SHAPES = [(3, 4), (5,), (), (200, 300)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def stepped(param: Tensor, grad: Tensor, **options: Any) -> Tensor:
    """Return a copy of a parameter after a plain step."""
    copy = nn.Parameter(param.detach().clone())
    copy.grad = grad.clone()
    Rose([copy], lr=0.1, **options).step()
    return copy.detach()


@kernels_or_core
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_zero_tensor_of_autograd_is_a_gradient_of_zeros(
    shape: tuple[int, ...], dtype: torch.dtype, fused: bool | None
) -> None:
    param = nn.Parameter(torch.randn(shape).to(dtype))
    torch.sgn(param).sum().backward()
    assert param.grad is not None
    assert param.grad._is_zerotensor()
    expected = stepped(param, torch.zeros_like(param), fused=fused, sr_seed=0)
    Rose([param], lr=0.1, fused=fused, sr_seed=0).step()
    assert_same_bits(param, expected)
    assert param.grad._is_zerotensor()


def test_a_zero_tensor_is_a_gradient_of_zeros_for_attach() -> None:
    model = nn.Linear(4, 3)
    expected = stepped(model.weight, torch.zeros(3, 4))
    optimizer = attach(model, lr=0.1)
    (torch.sgn(model.weight).sum() + model.bias.sum()).backward()
    optimizer.step()
    assert_same_bits(model.weight, expected)


@kernels_or_core
@pytest.mark.parametrize("of_grad", [False, True], ids=["parameter", "gradient"])
def test_freed_storage_stops_the_whole_step(of_grad: bool, fused: bool | None) -> None:
    params = parameter(A, B), parameter(B, A)
    optimizer = Rose(params, lr=0.1, fused=fused)
    freed = params[1].grad if of_grad else params[1]
    assert freed is not None
    freed.data = freed.data.clone()  # in memory that torch can free
    freed.untyped_storage().resize_(0)
    label = "the gradient of parameter 1 of group 0" if of_grad else "parameter 1 of group 0"
    with raises(RuntimeError, f"{label} has no memory: its storage was freed"):
        optimizer.step()
    assert_same_bits(params[0], A)


@kernels_or_core
def test_a_parameter_on_the_meta_device_stops_the_whole_step(fused: bool | None) -> None:
    params = parameter(A, B), nn.Parameter(torch.ones(3, 4, device="meta"))
    params[1].grad = torch.ones_like(params[1])
    optimizer = Rose(params, lr=0.1, fused=fused)
    with raises(RuntimeError, "parameter 1 of group 0 is on the meta device, which has no values"):
        optimizer.step()
    assert_same_bits(params[0], A)


@kernels_or_core
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_functionalized_step_has_the_bits_of_a_plain_one(dtype: torch.dtype, fused: bool | None) -> None:
    def step(param: Tensor, grad: Tensor) -> Tensor:
        param.grad = grad
        Rose([param], lr=0.1, fused=fused, sr_seed=0).step()
        return param * 1

    param, grad = tensor(A).to(dtype), tensor(B).to(dtype)
    expected = stepped(param, grad, sr_seed=0)
    result = torch.func.functionalize(step)(param, grad)
    assert_same_bits(result, expected)
    assert_same_bits(param, expected)


@kernels_or_core
def test_a_functionalized_step_whose_gradients_share_memory_with_parameters(fused: bool | None) -> None:
    def step(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a.grad, b.grad = b.view_as(b), a.view_as(a)
        Rose([a, b], lr=0.1, fused=fused).step()
        return a * 1, b * 1

    a, b = tensor(A), tensor(B)
    expected = stepped(a, b), stepped(b, a)
    for result, want in zip(torch.func.functionalize(step)(a, b), expected, strict=True):
        assert_same_bits(result, want)


@kernels_or_core
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_a_traced_step_takes_a_step_when_it_runs(mode: str, fused: bool | None) -> None:
    def step(param: Tensor, grad: Tensor) -> Tensor:
        param.grad = grad
        Rose([param], lr=0.1, fused=fused).step()
        return param

    expected = stepped(tensor(A), tensor(B))
    graph = make_fx(step, tracing_mode=mode)(tensor(A), tensor(B))
    param = tensor(A)
    assert_same_bits(graph(param, tensor(B)), expected)
    assert_same_bits(param, expected)


@kernels_or_core
@pytest.mark.parametrize("shape", [(3, 4), (30, 40)], ids=str)
def test_a_traced_step_draws_its_noise_when_it_runs(shape: tuple[int, int], fused: bool | None) -> None:
    def step(param: Tensor, grad: Tensor) -> Tensor:
        param.grad = grad
        Rose([param], lr=0.1, fused=fused).step()
        return param

    param, grad = (tensor(normal(seed, shape)).to(torch.bfloat16) for seed in (0, 1))
    graph = make_fx(step)(param.clone(), grad)
    torch.manual_seed(1)
    expected = stepped(param, grad)
    torch.manual_seed(1)
    assert_same_bits(graph(param, grad), expected)


def outside(transform: Callable[[Callable[[Tensor], Tensor]], Any], optimizer: Rose) -> Callable[[], Any]:
    """Return a call of a transformed function that takes a step of an optimizer created outside of it."""

    def function(x: Tensor) -> Tensor:
        optimizer.step()
        return x + 1

    return lambda: transform(function)(torch.ones(2))


@kernels_or_core
@pytest.mark.parametrize("transform", [torch.func.functionalize, make_fx], ids=["torch.func.functionalize", "make_fx"])
def test_a_parameter_from_outside_the_transformed_function_stops_the_whole_step(
    transform: Callable[..., Any], fused: bool | None, request: pytest.FixtureRequest
) -> None:
    param = parameter(A, B)
    optimizer = Rose([param], lr=0.1, fused=fused)
    name = request.node.callspec.id.partition("-")[0]
    text = (
        f"parameter 0 of group 0 was made outside the function that {name} transforms, so its update would be lost; "
        "pass it to this function as an argument"
    )
    with raises(RuntimeError, text):
        outside(transform, optimizer)()
    assert_same_bits(param, A)
    assert optimizer.param_groups[0]["step"] == 0


@kernels_or_core
@pytest.mark.parametrize("options", [{}, {"sr_seed": 0}, {"bf16_sr": False}], ids=["drawn", "portable", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("error")
def test_a_step_of_fake_tensors_works_without_values(
    dtype: torch.dtype, options: dict[str, Any], fused: bool | None
) -> None:
    """Memory estimators of torch take such steps."""
    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(400, 3, dtype=dtype), nn.Conv1d(3, 2, 1, dtype=dtype))
        optimizer = Rose(model.parameters(), lr=0.1, fused=fused, **options)
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        optimizer.step()
        optimizer.step()
        shapes = [tuple(param.shape) for param in model.parameters()]
    assert shapes == [(3, 400), (3,), (2, 3, 1), (2,)]
    assert optimizer.param_groups[0]["step"] == 2
