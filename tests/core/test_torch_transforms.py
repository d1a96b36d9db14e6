"""An update keeps its bits under torch.compile, vmap, functionalize and symbolic tracing."""

from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import rose_core
from tests.bits import assert_same_bits


def arrays(dtype: torch.dtype, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a parameter and a gradient. A plain sum of one row of the gradient is not exact."""
    generator = torch.Generator().manual_seed(3)
    param, grad = torch.randn((2, *shape), generator=generator)
    grad.reshape(-1)[5] = 1e-12
    return param.to(dtype), grad.to(dtype)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("compute", ["fp64", "fp32", "fp16", "bf16"])
def test_torch_compile_keeps_the_bits(dtype: torch.dtype, compute: str) -> None:
    """Dynamo traces NumPy operations into torch operations, and decomposes some of torch's operations."""
    options: dict[str, Any] = {"lr": 0.0123, "compute_dtype": compute}
    torch.compiler.reset()
    compiled = torch.compile(lambda param, grad: rose_core.update(param, grad, **options), backend="eager")
    for shape in ((64, 70), (1000,)):
        param, grad = arrays(dtype, *shape)
        assert_same_bits(compiled(param, grad), rose_core.update(param, grad, **options), what=f"update of {shape}")


@pytest.mark.parametrize("shape", [(30,), (64, 70)])
@pytest.mark.parametrize("batched", ["param", "grad"])
def test_vmap_over_one_argument_keeps_the_bits(batched: str, shape: tuple[int, ...]) -> None:
    """An operation in place would fail: only one of its operands has the batch dimension."""
    arguments = dict(zip(("param", "grad"), arrays(torch.float32, *shape), strict=True))

    def step(values: torch.Tensor) -> Any:
        both = arguments | {batched: values}
        return rose_core.update(both["param"], both["grad"], lr=0.0123, stabilize=False)

    batch = torch.stack([arguments[batched], -arguments[batched]])
    for result, values in zip(torch.func.vmap(step)(batch), batch, strict=True):
        assert_same_bits(result, step(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (30,), (64, 70)])
def test_functionalize_keeps_the_bits(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """NumPy must not read the memory of functional tensors, which has no values."""

    def step(param: torch.Tensor, grad: torch.Tensor) -> Any:
        return rose_core.update(param, grad, lr=0.0123)

    param, grad = arrays(dtype, *shape) if shape else (x[0] for x in arrays(dtype, 6))
    assert_same_bits(torch.func.functionalize(step)(param, grad), step(param, grad))


@pytest.mark.parametrize("shape", [(30,), (64, 70)])
def test_symbolic_tracing_keeps_the_bits(shape: tuple[int, ...]) -> None:
    def step(param: torch.Tensor, grad: torch.Tensor) -> Any:
        return rose_core.update(param, grad, lr=0.0123, stabilize=False)

    param, grad = arrays(torch.float32, *shape)
    graph = make_fx(step, tracing_mode="symbolic")(param, grad)
    assert_same_bits(graph(param, grad), step(param, grad))
