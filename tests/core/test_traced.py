"""A step has its bits when torch traces or transforms the functions it is made of."""

from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import rose_core
from tests.bits import assert_same_bits


def arrays(dtype: torch.dtype, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a parameter and a gradient, of whose rows one has no exact plain sum."""
    generator = torch.Generator().manual_seed(3)
    param, grad = torch.randn((2, *shape), generator=generator)
    grad.reshape(-1)[5] = 1e-12
    return param.to(dtype), grad.to(dtype)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("compute", ["fp64", "fp32", "fp16", "bf16"])
def test_by_the_compiler(dtype: torch.dtype, compute: str) -> None:
    """It applies the factor of `addcdiv` to the quotient, and does NumPy's operations with torch's, bfloat16 or not."""
    options: dict[str, Any] = {"lr": 0.0123, "compute_dtype": compute}
    torch.compiler.reset()
    compiled = torch.compile(lambda param, grad: rose_core.update(param, grad, **options), backend="eager")
    for shape in ((64, 70), (1000,)):
        param, grad = arrays(dtype, *shape)
        assert_same_bits(compiled(param, grad), rose_core.update(param, grad, **options), what=f"update of {shape}")


@pytest.mark.parametrize("shape", [(30,), (64, 70)])
def test_over_many_gradients_of_one_parameter(shape: tuple[int, ...]) -> None:
    param, grad = arrays(torch.float32, *shape)

    def step(grad: torch.Tensor) -> Any:
        return rose_core.update(param, grad, lr=0.0123, stabilize=False)

    grads = torch.stack([grad, -grad])
    for one, own in zip(torch.func.vmap(step)(grads), grads, strict=True):
        assert_same_bits(one, step(own))


@pytest.mark.parametrize("shape", [(30,), (64, 70)])
def test_with_symbols_for_sizes(shape: tuple[int, ...]) -> None:
    def step(param: torch.Tensor, grad: torch.Tensor) -> Any:
        return rose_core.update(param, grad, lr=0.0123, stabilize=False)

    param, grad = arrays(torch.float32, *shape)
    graph = make_fx(step, tracing_mode="symbolic")(param, grad)
    assert_same_bits(graph(param, grad), step(param, grad))
