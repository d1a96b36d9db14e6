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
@pytest.mark.parametrize("many", ["param", "grad"])
def test_over_many_of_one_while_the_other_stays(many: str, shape: tuple[int, ...]) -> None:
    """Nothing is written over that only some of the many have."""
    own = dict(zip(("param", "grad"), arrays(torch.float32, *shape), strict=True))

    def step(values: torch.Tensor) -> Any:
        both = own | {many: values}
        return rose_core.update(both["param"], both["grad"], lr=0.0123, stabilize=False)

    ones = torch.stack([own[many], -own[many]])
    for result, one in zip(torch.func.vmap(step)(ones), ones, strict=True):
        assert_same_bits(result, step(one))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (30,), (64, 70)])
def test_functionalized(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """What stands for a tensor there lets NumPy read memory that no value was written to."""

    def step(param: torch.Tensor, grad: torch.Tensor) -> Any:
        return rose_core.update(param, grad, lr=0.0123)

    param, grad = arrays(dtype, *shape) if shape else (x[0] for x in arrays(dtype, 6))
    assert_same_bits(torch.func.functionalize(step)(param, grad), step(param, grad))


@pytest.mark.parametrize("shape", [(30,), (64, 70)])
def test_with_symbols_for_sizes(shape: tuple[int, ...]) -> None:
    def step(param: torch.Tensor, grad: torch.Tensor) -> Any:
        return rose_core.update(param, grad, lr=0.0123, stabilize=False)

    param, grad = arrays(torch.float32, *shape)
    graph = make_fx(step, tracing_mode="symbolic")(param, grad)
    assert_same_bits(graph(param, grad), step(param, grad))
