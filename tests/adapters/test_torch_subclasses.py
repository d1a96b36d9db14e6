"""Tensor subclasses: a step uses the operations that they define, or raises before it begins."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import return_and_correct_aliasing

from rose_torch import Rose
from tests.adapters.models import normal, parameter, tensor
from tests.adapters.refusals import raises
from tests.bits import assert_same_bits

A, B = normal(0, (3, 4)), normal(1, (3, 4))
aten = torch.ops.aten


class Quantized(Tensor):
    """A weight in integers with one scale. Like the quantized weights of torchao, it defines few operations."""

    operations = frozenset(
        {aten.detach.default, aten.clone.default, aten._to_copy.default, aten.mul.Tensor, aten.copy_.default}
    )

    @staticmethod
    def __new__(cls, integers: Tensor, scale: Tensor) -> "Quantized":
        made: Quantized = Tensor._make_wrapper_subclass(cls, integers.shape, dtype=scale.dtype)
        made.integers, made.scale = integers, scale
        return made

    def values(self) -> Tensor:
        return self.integers * self.scale

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in cls.operations:
            raise NotImplementedError(f"{func}")
        if func is aten.mul.Tensor:
            return func(*(x.values() if isinstance(x, Quantized) else x for x in args), **kwargs)
        if func is aten.copy_.default:
            target, source = args
            target.integers.copy_(torch.round(source / target.scale))
            return target
        dtype = kwargs.get("dtype", args[0].scale.dtype)
        made = cls(func(args[0].integers) if not kwargs else args[0].integers.clone(), args[0].scale.to(dtype))
        return return_and_correct_aliasing(func, args, kwargs, made)


class WithoutMultiplication(Quantized):
    """A weight without multiplication."""

    operations = Quantized.operations - {aten.mul.Tensor}


def quantized(kind: type[Quantized]) -> nn.Parameter:
    integers = torch.arange(-6, 6, dtype=torch.int8).reshape(3, 4)
    return nn.Parameter(kind(integers, torch.tensor(0.5)))


@pytest.mark.parametrize("weight_decay", [0.0, 0.125])
@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
def test_a_subclass_with_the_elementwise_operations_is_updated(fused: bool | None, weight_decay: float) -> None:
    held, plain = quantized(Quantized), nn.Parameter(quantized(Quantized).values().detach())
    for param in (held, plain):
        param.grad = tensor(B)
    for param in (held, plain):
        Rose([param], lr=0.75, weight_decay=weight_decay, fused=fused).step()
    assert_same_bits(held.integers, torch.round(plain.detach() / 0.5).to(torch.int8))


@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
def test_a_subclass_without_an_operation_stops_the_whole_step(fused: bool | None) -> None:
    first, last = parameter(A, B), quantized(WithoutMultiplication)
    last.grad = tensor(B)
    optimizer = Rose([first, last], lr=0.1, fused=fused)
    text = (
        "parameter 1 of group 0 is a WithoutMultiplication and its gradient a Tensor, which lack an operation that a "
        "step needs: aten.mul.Tensor"
    )
    with raises(TypeError, text):
        optimizer.step()
    assert_same_bits(first, A)
    assert optimizer.param_groups[0]["step"] == 0
