"""Where there are no kernels, small tensors are updated as NumPy arrays: to the bits of what torch makes of them."""

from typing import Any

import pytest
import torch

from rose_torch import Rose, small
from rose_torch.small import are_small, as_numpy
from tests.adapters.models import grads, model, normal, parameter, tensor
from tests.bits import DTYPES, assert_same_bits
from tests.strategies import COMPUTE_DTYPES, LAYOUTS

NOISE = {"portable": {"sr_seed": 3}, "drawn": {}, "none": {"bf16_sr": False}}


def stepped(dtype: str, layout: str, limit: int, **options: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return parameters of many shapes after three steps without kernels, and their last gradients."""
    lay_out = LAYOUTS[layout]
    params = [torch.nn.Parameter(lay_out(tensor, x)) for x in model(dtype).values()]
    torch.manual_seed(4)
    optimizer = Rose(params, lr=0.1, fused=False, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small, "_SMALL", limit)
        for step in range(3):
            for param, grad in zip(params, grads(step, dtype).values(), strict=True):
                param.grad = lay_out(tensor, grad)
            assert all(are_small([param]) == (limit > 0) for param in params if param.numel() > 0)
            before = [param._version for param in params]
            optimizer.step()
            assert all(param._version > version for param, version in zip(params, before, strict=True))
    return params, [param.grad for param in params if param.grad is not None]


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compute_dtype", COMPUTE_DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_tensors_have_the_bits_of_large_ones(
    dtype: str, compute_dtype: str | None, layout: str, noise: str
) -> None:
    if noise != "none" and (dtype != "bfloat16" or compute_dtype in ("fp16", "bf16")):
        options: dict[str, Any] = {"bf16_sr": False, "maximize": True}
    else:
        options = NOISE[noise]
    runs = [stepped(dtype, layout, limit, compute_dtype=compute_dtype, **options) for limit in (0, 2**15)]
    for expected, got in zip(*runs, strict=True):
        for one, other in zip(expected, got, strict=True):
            assert_same_bits(other, one, backend="rose_torch", what=f"{dtype} {compute_dtype} {layout} {noise}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_has_the_memory_of_its_tensor(dtype: str) -> None:
    param = parameter(normal(0, (3, 4), dtype))
    as_numpy(param)[1, 2] = 7
    assert float(param.detach()[1, 2]) == 7


def test_what_is_not_small_or_not_plain_stays_a_tensor() -> None:
    assert are_small([torch.ones(2**14)] * 2)
    assert not are_small([torch.ones(2**14), torch.ones(2**14 + 1)])
    assert not are_small([torch.ones(2), torch.ones(2, device="meta")])
    assert not are_small([torch.ones(2).to_sparse()])
    assert not are_small([torch.ones(2, dtype=torch.complex64).conj().imag])  # negated lazily
