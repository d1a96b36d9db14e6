"""Parameters that are alike are updated together by the core, and drawn noise ahead: to the bits of each alone."""

from typing import Any

import numpy as np
import pytest
import torch

import rose_core
import rose_numpy
import rose_torch
from rose_core import blocks
from rose_torch import steps
from tests.adapters.models import assert_same_model, core_step, normal, parameter, tensor
from tests.bits import DTYPES, assert_same_bits, host

# One of each rank; scalars and vectors have no gate.
SHAPES: dict[str, tuple[int, ...]] = {"scale": (), "bias": (70,), "weight": (6, 30), "kernel": (5, 2, 3, 3)}
COUNT = 5
RULES: list[dict[str, Any]] = [
    {"lr": 0.1},
    {"lr": 0.1, "compute_dtype": "fp32", "maximize": True},
    {"lr": 0.1, "compute_dtype": "bf16", "stabilize": False},
    {"lr": 0.1, "compute_dtype": None, "centralize": False},
]


def model(dtype: str, first: int) -> dict[str, np.ndarray]:
    """Return arrays of each shape in turn, each with values of its own."""
    return {
        f"{name} {number}": normal(first + number, shape, dtype)
        for number in range(COUNT)
        for name, shape in SHAPES.items()
    }


def stepped(rose: Any, params: dict[str, np.ndarray], grads: dict[str, np.ndarray], **options: Any) -> dict[str, Any]:
    """Return the parameters after a step, without kernels unless these are among the options."""
    options = {"fused": False} | options
    if rose is rose_numpy.Rose:
        held = {name: x.copy() for name, x in params.items()}
        rose(held, **options).step(grads)
        return held
    tensors = {name: parameter(x) for name, x in params.items()}
    for name, grad in grads.items():
        tensors[name].grad = tensor(grad)
    rose(tensors.values(), **options).step()
    return {name: host(x) for name, x in tensors.items()}


roses = pytest.mark.parametrize("rose", [rose_numpy.Rose, rose_torch.Rose], ids=["rose_numpy", "rose_torch"])


@roses
@pytest.mark.parametrize("size", [7, 100, 400, 2**17])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_of_many_is_that_of_each_by_the_core(
    rose: Any, dtype: str, rule: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of a part of one parameter, of one, of several and of all."""
    monkeypatch.setattr(blocks, "block_elements", lambda _: size)
    params, grads = model(dtype, 0), model(dtype, 100)
    seed = 3 if dtype == "bfloat16" and rule.get("compute_dtype") != "bf16" else None
    noise = {"bf16_sr": False} if seed is None else {"sr_seed": seed}
    expected = core_step(params, grads, seed=seed, **{"compute_dtype": "fp64"} | rule)
    assert_same_model(stepped(rose, params, grads, **rule, **noise), expected, rose.__module__.partition(".")[0])


@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("size", [7, 70, 100, 400, 2**17])
def test_drawn_noise_is_drawn_in_the_order_of_the_parameters(
    size: int, fused: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ahead for some of them, while others have too many elements for that, or for all."""
    for module in (blocks, steps):
        monkeypatch.setattr(module, "block_elements", lambda _: size)
    params, grads = model("bfloat16", 0), model("bfloat16", 100)
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.empty(x.shape, dtype=torch.int32).random_(0, 2**16, generator=generator) for x in params.values()]
    expected = core_step(params, grads, lr=0.1, words=[x.numpy() for x in drawn])
    result = stepped(rose_torch.Rose, params, grads, lr=0.1, bf16_sr=torch.Generator().manual_seed(5), fused=fused)
    assert_same_model(result, expected, "rose_torch")


@pytest.mark.parametrize("negated", [0, 1])
def test_a_gradient_whose_negation_is_put_off_beside_one_that_is_not(negated: int) -> None:
    """Most of their slices have exact plain sums, and one of each has not."""
    params, grads = [normal(number, (70, 90)) for number in (0, 1)], [normal(number, (70, 90)) for number in (2, 3)]
    held = [parameter(x) for x in params]
    for number, grad in enumerate(grads):
        grad[5, 7] = 1e-12
        plain = tensor(grad)
        held[number].grad = torch.complex(plain, -plain).conj().imag if number == negated else plain
    assert [param.grad.is_neg() for param in held if param.grad is not None] == [negated == 0, negated == 1]
    rose_torch.Rose(held, lr=0.1, fused=False).step()
    for param, x, grad in zip(held, params, grads, strict=True):
        assert_same_bits(param, rose_core.update(x, grad, lr=0.1), backend="rose_torch")


class Marked(torch.Tensor):
    """A tensor that does all a tensor does, but is not joined with others."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.concat, torch.stack)
        return super().__torch_function__(func, types, args, kwargs)


def test_tensors_of_a_subclass_are_updated_each_alone() -> None:
    params, grads = [normal(number, (7, 9)) for number in (0, 1)], [normal(number, (7, 9)) for number in (2, 3)]
    held = [parameter(x) for x in params]
    for param, grad in zip(held, grads, strict=True):
        param.grad = tensor(grad).as_subclass(Marked)
    rose_torch.Rose(held, lr=0.1).step()
    for param, x, grad in zip(held, params, grads, strict=True):
        assert_same_bits(param, rose_core.update(x, grad, lr=0.1), backend="rose_torch")


@roses
def test_many_that_are_alike_take_the_calls_of_few(rose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = []
    original = blocks.gate
    monkeypatch.setattr(blocks, "gate", lambda *args, **options: gates.append(args) or original(*args, **options))
    params = {str(number): normal(number, (6, 30)) for number in range(40)}
    stepped(rose, params, params, lr=0.1)
    assert len(gates) == 1
