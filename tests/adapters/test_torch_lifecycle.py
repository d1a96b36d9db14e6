"""Optimizers, parameters and gradients are freed with their last reference, without the garbage collector."""

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rose_torch import AttachedRose, Rose, attach
from tests.adapters.models import normal, parameter
from tests.bits import assert_same_bits

kernels_or_core = pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
SHAPE = (3, 4)


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """Disable the garbage collector. The first optimizer loads modules with reference cycles, so it comes before."""
    Rose([parameter(normal(0, SHAPE))], lr=0.1)
    gc.disable()
    yield
    gc.enable()


def with_gradients(count: int) -> list[nn.Parameter]:
    return [parameter(normal(number, SHAPE), normal(10 + number, SHAPE)) for number in range(count)]


def backward(model: nn.Module) -> None:
    model(torch.ones(2, 4)).square().sum().backward()


@kernels_or_core
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("options", [{}, {"sr_seed": 0}], ids=["drawn noise", "portable noise"])
def test_an_optimizer_is_freed_with_its_last_reference(fused: bool | None, steps: int, options: dict[str, Any]) -> None:
    params = [parameter(normal(number, SHAPE, "bfloat16"), normal(9, SHAPE, "bfloat16")) for number in range(2)]
    optimizer = Rose(params, lr=0.1, fused=fused, **options)
    for _ in range(steps):
        optimizer.step()
    references = [weakref.ref(x) for x in (optimizer, *params, *(param.grad for param in params))]
    del optimizer, params
    assert [reference() for reference in references] == [None] * 5


REMOVALS: dict[str, Callable[[Rose], Any]] = {
    "a popped group": lambda optimizer: optimizer.param_groups.pop(),
    "a pruned parameter": lambda optimizer: optimizer.param_groups[1]["params"].clear(),
    "a replaced parameter": lambda optimizer: optimizer.param_groups[1].update(params=with_gradients(1)),
    "a parameter replaced in the list": lambda optimizer: optimizer.param_groups[1]["params"].__setitem__(
        0, with_gradients(1)[0]
    ),
}


@kernels_or_core
@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
def test_a_parameter_removed_from_the_groups_is_freed(remove: Callable[[Rose], Any], fused: bool | None) -> None:
    params = with_gradients(2)
    optimizer = Rose([{"params": params[:1]}, {"params": params[1:]}], lr=0.1, fused=fused)
    optimizer.step()
    references = weakref.ref(params[1]), weakref.ref(params[1].grad)
    remove(optimizer)
    optimizer.step()
    del params
    assert [reference() for reference in references] == [None, None]


@pytest.mark.parametrize("steps", [0, 2])
def test_an_attached_model_and_its_optimizer_are_freed_with_their_last_references(steps: int) -> None:
    model = nn.Linear(4, 3)
    optimizer = attach(model, lr=0.1)
    for _ in range(steps):
        backward(model)
        optimizer.step()
    references = weakref.ref(model), weakref.ref(optimizer), weakref.ref(model.weight)
    del model, optimizer
    assert [reference() for reference in references] == [None, None, None]


def test_an_attached_model_keeps_its_optimizer_alive() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    reference = weakref.ref(attach(model, lr=0.1))
    before = model[0].weight.detach().clone()
    backward(model)
    assert reference() is not None
    assert not torch.equal(model[0].weight, before)


def test_a_model_may_be_attached_again_after_detach() -> None:
    model = nn.Linear(4, 3)
    attach(model, lr=0.1).detach()
    optimizer = attach(model, lr=0.1)
    backward(model)
    optimizer.step()
    assert optimizer.param_groups[0]["step"] == 1


def test_a_parameter_removed_from_an_attached_optimizer_may_be_attached_again_and_is_freed() -> None:
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)
    optimizer = attach(model, lr=0.1, groups=lambda name, _: {"lr": 0.2} if name == "bias" else {})
    optimizer.param_groups.pop()
    backward(model)
    optimizer.step()
    other.bias = model.bias
    attach(other, lr=0.1).detach()
    reference = weakref.ref(model.bias)
    del model.bias, other
    assert reference() is None


def test_a_copy_of_an_attached_model_is_not_attached() -> None:
    model = nn.Linear(4, 3)
    optimizer = attach(model, lr=0.1)
    copied = copy.deepcopy(model)
    before = copied.weight.detach().clone()
    backward(copied)
    assert torch.equal(copied.weight, before)
    assert isinstance(copied.weight.grad, Tensor)
    optimizer.detach()


@pytest.fixture
def _swapping() -> Iterator[None]:
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.usefixtures("_swapping")
def test_an_attached_model_may_swap_its_parameters() -> None:
    """torch.utils.swap_tensors removes the hooks from autograd, so `step` updates the parameters in the first step."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    expected = nn.Linear(4, 3)
    expected.load_state_dict(model.state_dict())
    optimizer, plain = attach(model, lr=0.1), Rose(expected.parameters(), lr=0.1)
    for convert in (lambda m: m.double(), lambda m: m.load_state_dict(m.state_dict()), lambda m: m.float()):
        for module in (model, expected):
            convert(module)
        for _ in range(2):
            for module, stepping in ((model, optimizer), (expected, plain)):
                module(torch.ones(2, 4, dtype=module.weight.dtype)).square().sum().backward()
                stepping.step()
                stepping.zero_grad()
            assert_same_bits(model.weight, expected.weight)
    backward(model)
    assert "used and freed" in repr(model.weight.grad)  # the hook runs again


def test_a_frozen_discriminator_of_a_gan_is_not_updated() -> None:
    torch.manual_seed(0)
    generator, discriminator = nn.Linear(4, 4), nn.Linear(4, 1)
    optimizers: list[AttachedRose] = [attach(generator, lr=0.1), attach(discriminator, lr=0.1)]
    before = discriminator.weight.detach().clone()
    discriminator.requires_grad_(False)
    discriminator(generator(torch.ones(2, 4))).square().sum().backward()
    optimizers[0].step()
    discriminator.requires_grad_(True)
    assert torch.equal(discriminator.weight, before)
    discriminator(generator(torch.ones(2, 4)).detach()).square().sum().backward()
    optimizers[1].step()
    assert not torch.equal(discriminator.weight, before)
