"""rose_torch.attach updates parameters in backward, with the bits of ordinary steps of Rose."""

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.checkpoint import checkpoint

from rose_torch import AttachedRose, Rose, attach
from tests.adapters.attached import (
    STEPS,
    Model,
    assert_no_hooks,
    assert_same_models,
    backward,
    by_rank,
    groups_of,
    train,
)
from tests.adapters.models import OVERRIDES
from tests.adapters.refusals import snapshot, warns
from tests.bits import assert_same_bits


def assert_same_runs(options: Mapping[str, Any], dtype: torch.dtype, scheduler: Callable[[Rose], Any] | None) -> None:
    model, expected = Model(dtype), Model(dtype)
    attached, ordinary = attach(model, groups=by_rank, **options), Rose(groups_of(expected), **options)
    names = [group["param_names"] for group in attached.param_groups]
    assert names == [group["param_names"] for group in ordinary.param_groups]
    for trained, optimizer in ((model, attached), (expected, ordinary)):
        train(trained, optimizer, scheduler and scheduler(optimizer))
    assert_same_models(model, expected)
    assert attached.state_dict() == ordinary.state_dict()
    assert not torch.equal(model.scale, Model(dtype).scale)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_scheduled_run_has_the_bits_of_rose(dtype: torch.dtype, fused: bool | None) -> None:
    options = {"lr": 0.1, "wd_schedule": True, "sr_seed": 5, "fused": fused}
    rates = [0.1, 0.1, 0.2]
    assert_same_runs(
        options, dtype, lambda o: lr_scheduler.OneCycleLR(o, rates, total_steps=STEPS + 1, cycle_momentum=False)
    )


@pytest.mark.parametrize("option", OVERRIDES)
def test_every_option_has_the_bits_of_rose(option: str) -> None:
    assert_same_runs({"lr": 0.1, "sr_seed": 5} | OVERRIDES[option][0], torch.bfloat16, None)


def test_a_tensor_as_lr_is_read_at_each_step() -> None:
    model, expected = Model(), Model()
    for trained, make in ((model, attach), (expected, lambda model, lr: Rose(model.parameters(), lr))):
        lr = torch.tensor(0.1)
        optimizer = make(trained, lr)
        for step in range(STEPS):
            train(trained, optimizer, steps=range(step, step + 1))
            lr.mul_(0.5)
    assert_same_models(model, expected)


def test_a_gradient_is_freed_before_the_next_one_is_complete() -> None:
    model = Model()
    alive = []

    def count(_: Tensor) -> None:
        alive.append(sum(type(param.grad) is Tensor for param in model.parameters()))

    for param in model.parameters():
        if param.requires_grad:
            param.register_hook(count)
    attach(model, lr=0.1)
    backward(model, 0)
    assert alive == [0] * 7
    assert {param.grad.data_ptr() for param in model.parameters() if param.grad is not None} == {0}


def test_step_does_not_update_parameters_again() -> None:
    model, expected = Model(), Model()
    optimizer = attach(model, lr=0.1)
    backward(model, 0)
    updated = copy.deepcopy(model)
    optimizer.step()
    assert_same_models(model, updated)
    train(expected, Rose(expected.parameters(), lr=0.1), steps=range(1))
    assert_same_models(model, expected)
    assert all(param.grad is None for param in model.parameters())


@pytest.mark.parametrize("fused", [None, False])
def test_layers_that_are_frozen_and_unfrozen_between_steps_have_the_bits_of_rose(fused: bool | None) -> None:
    model, expected = Model(), Model()
    optimizers = attach(model, lr=0.1, fused=fused), Rose(expected.parameters(), lr=0.1, fused=fused)
    for trained, optimizer in zip((model, expected), optimizers, strict=True):
        train(trained, optimizer, steps=range(1))
        trained.frozen.requires_grad_(True)
        trained.reused.requires_grad_(False)
        train(trained, optimizer, steps=range(1, 3))
    assert_same_models(model, expected)
    backward(model, 3)
    assert repr(model.frozen.weight.grad) == "a gradient that rose_torch.attach has used and freed"


def test_gradients_set_by_hand_and_groups_added_later_are_updated_by_step() -> None:
    model, expected = Model(), Model()
    optimizers = attach(model, lr=0.1), Rose(expected.named_parameters(), lr=0.1)
    for trained, optimizer in zip((model, expected), optimizers, strict=True):
        trained.added = nn.Parameter(torch.arange(3.0))
        optimizer.add_param_group({"params": [("added", trained.added)], "lr": 0.5})
        for step in range(3):
            optimizer.zero_grad()
            backward(trained, step)
            trained.added.square().sum().backward(inputs=[trained.added]) if step == 0 else None
            trained.frozen.weight.grad = torch.eye(6)
            optimizer.step()
    assert_same_models(model, expected)


def test_a_closure_runs_backward_once_and_its_loss_is_returned() -> None:
    model, expected = Model(), Model()
    tokens = torch.arange(9)

    def closure(trained: Model) -> Callable[[], Tensor]:
        def evaluate() -> Tensor:
            loss = trained(tokens)
            loss.backward()
            return loss

        return evaluate

    losses = attach(model, lr=0.1).step(closure(model)), Rose(expected.parameters(), lr=0.1).step(closure(expected))
    assert_same_bits(losses[0], losses[1])
    assert_same_models(model, expected)


def test_a_run_resumed_from_a_state_dict_has_the_same_bits() -> None:
    model, expected = Model(torch.bfloat16), Model(torch.bfloat16)
    train(expected, attach(expected, lr=0.1, sr_seed=1))
    first = attach(model, lr=0.1, sr_seed=1)
    train(model, first, steps=range(2))
    resumed = Model(torch.bfloat16)
    resumed.load_state_dict(model.state_dict())
    second = attach(resumed, lr=0.5, sr_seed=2)
    second.load_state_dict(first.state_dict())
    train(resumed, second, steps=range(2, STEPS))
    assert_same_models(resumed, expected)


def test_checkpointing_without_reentrant_has_the_same_bits() -> None:
    model, expected = Model(), Model()
    optimizers = attach(model, lr=0.1), Rose(expected.parameters(), lr=0.1)
    for trained, optimizer in zip((model, expected), optimizers, strict=True):
        layers = nn.Sequential(trained.reused, nn.Tanh(), trained.optional)
        for _ in range(3):
            x = trained.embedding(torch.arange(9))
            for _ in range(2):
                x = checkpoint(layers, x, use_reentrant=False)
            trained.head(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert_same_models(model, expected)


@pytest.mark.parametrize("option", ["lr", "wd_schedule"])
def test_equal_tensors_and_equal_values_of_different_types_make_separate_groups(option: str) -> None:
    """Two tensors may change separately. A wd_schedule of 1.0 is a reference, and True is not."""
    values = {"lr": [torch.tensor(0.1), torch.tensor(0.1)], "wd_schedule": [True, 1.0]}[option]
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    optimizer = attach(model, lr=0.1, groups=lambda name, _: {option: values[int(name[0])]})
    assert [group[option] is value for group, value in zip(optimizer.param_groups, values, strict=True)] == [True] * 2
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]


def test_parameters_of_a_removed_group_are_not_updated() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    optimizer = attach(nn.Sequential(first, second), lr=0.1, groups=lambda name, _: {"lr": 0.1 + float(name[0])})
    del optimizer.param_groups[0]
    before = copy.deepcopy(first)
    second(first(torch.ones(1, 3))).sum().backward()
    optimizer.step()
    assert_same_models(first, before)
    assert type(first.weight.grad) is Tensor
    assert not torch.equal(second.bias, copy.deepcopy(before).bias)
    optimizer.detach()
    assert_no_hooks(first)
    assert_no_hooks(second)


def test_a_gradient_removed_by_another_hook_updates_nothing() -> None:
    model = Model()
    model.scale.register_post_accumulate_grad_hook(lambda param: setattr(param, "grad", None))
    train(model, attach(model, lr=0.1))
    assert_same_bits(model.scale, Model().scale)


def test_a_checkpoint_recomputes_with_updated_parameters() -> None:
    """The notes of attach therefore require a gradient for every use of a parameter in a checkpoint."""

    def gradient_of_input(wrap: Callable[..., Any], *, attached: bool = True) -> Tensor:
        torch.manual_seed(0)
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)
        if attached:
            attach(nn.ModuleList([first, second]), lr=0.1)
        x = torch.ones(1, 3, requires_grad=True)
        second(wrap(lambda x: nn.functional.linear(first(x), second.weight.detach()), x)).sum().backward()
        assert x.grad is not None
        return x.grad

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient_of_input(lambda function, x: function(x))
    again = gradient_of_input(lambda function, x: checkpoint(function, x, use_reentrant=False))
    assert not torch.equal(again, gradient_of_input(lambda function, x: function(x), attached=False))


def test_a_detached_optimizer_steps_like_rose_and_drops_an_unfinished_step() -> None:
    model = Model(torch.bfloat16)
    with attach(model, lr=0.1, sr_seed=0) as optimizer:
        backward(model, 0)
    assert all(param.grad is None for param in model.parameters())
    assert optimizer.param_groups[0]["step"] == 0
    assert_no_hooks(model)
    expected = copy.deepcopy(model)
    train(model, optimizer)
    train(expected, Rose(expected.parameters(), lr=0.1, sr_seed=0))
    assert_same_models(model, expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_copy_is_not_attached(copied: Callable[[Any], Any]) -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    train(model, optimizer, steps=range(1))
    before = snapshot(optimizer)
    model2, optimizer2 = copied((model, optimizer))
    assert_no_hooks(model2)
    train(model2, optimizer2, steps=range(1, 2))
    assert snapshot(optimizer) == before
    train(model, optimizer, steps=range(1, 2))
    assert_same_models(model, model2)


def test_loading_a_state_drops_an_unfinished_step() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    state = optimizer.state_dict()
    backward(model, 0)
    optimizer.load_state_dict(state)
    train(model, optimizer)
    assert optimizer.param_groups[0]["step"] == STEPS


def test_the_warning_about_slices_of_one_element_points_at_the_call() -> None:
    text = "'weight' of shape (2, 1)"
    with pytest.warns(UserWarning, match="weight") as caught:
        attach(nn.Linear(1, 2), lr=0.1)
    assert text in str(caught[0].message)
    with warns(str(caught[0].message), __file__):
        attach(nn.Linear(1, 2), lr=0.1)


def test_attach_returns_a_torch_optimizer() -> None:
    optimizer = attach(Model(), lr=0.1)
    assert isinstance(optimizer, AttachedRose)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert repr(optimizer).startswith("AttachedRose (\nParameter Group 0\n")
