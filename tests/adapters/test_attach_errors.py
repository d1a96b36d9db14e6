"""The errors of rose_torch.attach with their whole text, and the state of the optimizer after them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.checkpoint import checkpoint

from rose_torch import Rose, attach
from tests.adapters.attached import STEPS, Model, assert_no_hooks, backward, by_rank, train
from tests.adapters.refusals import bad_options, raises, refuses
from tests.bits import assert_same_bits

RELEASED = (
    "rose_torch.attach has used this gradient in backward and freed it: step() must come before the next backward, and "
    "whoever accumulates, clips or unscales gradients needs rose_torch.Rose, which leaves them in memory"
)
TWICE = (
    "backward ran again before step(), but rose_torch.attach needs every gradient complete after one: call step() "
    "first; to accumulate gradients use rose_torch.Rose, and for checkpointing use_reentrant=False"
)


def test_two_reentrant_checkpoints_raise() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    x = model.embedding(torch.arange(9))
    loss = checkpoint(model.optional, checkpoint(model.reused, x, use_reentrant=True), use_reentrant=True).sum()
    with raises(RuntimeError, TWICE):
        loss.backward()
    assert_same_bits(model.reused.weight, Model().reused.weight)
    assert optimizer.param_groups[0]["step"] == 0


def test_gradient_accumulation_raises_and_changes_nothing() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    backward(model, 1)
    with refuses(optimizer, RuntimeError, RELEASED):
        backward(model, 1)
    with refuses(optimizer, RuntimeError, TWICE):  # a parameter without a gradient in the first backward
        model.optional(torch.ones(6)).sum().backward()
    optimizer.step()
    train(model, optimizer, steps=range(1, STEPS))


def used_scaler() -> torch.amp.GradScaler:
    """Return a scaler that has scaled a loss."""
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    return scaler


USES: dict[str, Callable[[nn.Module, Rose], Any]] = {
    "clip_grad_norm_": lambda model, _: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
    "clip_grad_norm_ without foreach": lambda model, _: nn.utils.clip_grad_norm_(
        model.parameters(), 1.0, foreach=False
    ),
    "clip_grad_value_": lambda model, _: nn.utils.clip_grad_value_(model.parameters(), 1.0),
    "get_total_norm": lambda model, _: nn.utils.get_total_norm(
        [param.grad for param in model.parameters() if param.grad is not None]
    ),
    "GradScaler.step": lambda _, optimizer: used_scaler().step(optimizer),
    "GradScaler.unscale_": lambda _, optimizer: used_scaler().unscale_(optimizer),
    "an ordinary optimizer": lambda model, _: torch.optim.SGD(model.parameters(), 0.1).step(),
    "an ordinary Rose": lambda model, _: Rose(model.parameters(), 0.1).step(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_uses_of_all_gradients_raise(use: Callable[[nn.Module, Rose], Any]) -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    backward(model, 0)
    with refuses(optimizer, RuntimeError, RELEASED):
        use(model, optimizer)
    optimizer.step()


def test_an_invalid_option_in_backward_stops_the_whole_step() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1, groups=by_rank)
    optimizer.param_groups[-1]["lr"] = float("nan")
    with refuses(optimizer, ValueError, "lr must be a finite number >= 0, got nan"):
        backward(model, 0)
    optimizer.zero_grad()
    optimizer.param_groups[-1]["lr"] = 0.1
    train(model, optimizer)


def test_a_change_of_lr_between_backward_and_step_raises() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    backward(model, 0)
    optimizer.param_groups[0]["lr"] = 0.2
    text = (
        "lr of param group 0 was 0.1 when backward updated parameters, and is 0.2 at step(); "
        "it may change between step() and backward"
    )
    with refuses(optimizer, ValueError, text):
        optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert optimizer.param_groups[0]["step"] == 1


def test_a_change_of_the_reference_lr_between_backward_and_step_raises() -> None:
    model = Model()
    optimizer = attach(model, lr=0.5, weight_decay=0.0009765625, wd_schedule=True)
    lr_scheduler.LinearLR(optimizer, start_factor=0.5)
    backward(model, 0)
    optimizer.param_groups[0]["initial_lr"] = 0.25
    text = (
        "the factor of the decay, of lr and its schedule, of param group 0 was 0.99951171875 when backward updated "
        "parameters, and is 0.9990234375 at step(); it may change between step() and backward"
    )
    with refuses(optimizer, ValueError, text):
        optimizer.step()


GROUPS: dict[str, tuple[Any, str]] = {
    "a list": ([{"lr": 0.1}], "groups must be a function of a parameter's name and the parameter, got [{'lr': 0.1}]"),
    "a function that returns None": (
        lambda *_: None,
        "groups('weight', ...) must return a dict of options, of lr, weight_decay, wd_schedule, centralize, stabilize, "
        "bf16_sr, compute_dtype, maximize, sr_seed, max_step, initial_lr, max_lr; got None",
    ),
    "a function that returns an unknown option": (
        lambda *_: {"momentum": 0.9},
        "groups('weight', ...) must return a dict of options, of lr, weight_decay, wd_schedule, centralize, stabilize, "
        "bf16_sr, compute_dtype, maximize, sr_seed, max_step, initial_lr, max_lr; got {'momentum': 0.9}",
    ),
}


@pytest.mark.parametrize(("groups", "text"), GROUPS.values(), ids=GROUPS)
def test_invalid_groups_raise(groups: Any, text: str) -> None:
    with raises(TypeError, text):
        attach(nn.Linear(3, 2), lr=0.1, groups=groups)


def test_step_ends_a_step_after_an_error_in_backward() -> None:
    """The refused gradient is gone: of a second backward, or of a sparse layer."""
    model = nn.ModuleList([nn.Linear(3, 3), nn.Embedding(4, 3)])
    optimizer = attach(model, lr=0.1)
    model[0](torch.ones(1, 3)).sum().backward()
    with raises(RuntimeError, TWICE):
        model[1](torch.tensor([1])).sum().backward()
    model[1].sparse = True
    optimizer.step()
    text = "Rose needs dense gradients, the gradient of parameter '1.weight' has layout torch.sparse_coo"
    with refuses(optimizer, RuntimeError, text):
        model[1](torch.tensor([1])).sum().backward()
    optimizer.step()
    assert optimizer.param_groups[0]["step"] == 2


def test_step_ends_a_step_after_a_failed_backward() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)

    def fail(_: Tensor) -> None:
        raise ZeroDivisionError

    hook = model.embedding.weight.register_hook(fail)
    with pytest.raises(ZeroDivisionError):
        backward(model, 0)
    assert_same_bits(model.embedding.weight, Model().embedding.weight)
    with pytest.raises(AssertionError):
        assert_same_bits(model.head.bias, Model().head.bias)
    hook.remove()
    optimizer.step()
    assert optimizer.param_groups[0]["step"] == 1
    train(model, optimizer)


def test_adding_parameters_of_another_attached_optimizer_raises() -> None:
    elsewhere = nn.Linear(3, 2)
    elsewhere.bias.requires_grad_(False)
    attach(elsewhere, lr=0.1)
    optimizer = attach(nn.Linear(3, 2), lr=0.1)
    for name, param in elsewhere.named_parameters():
        with refuses(optimizer, ValueError, f"parameter {name!r} is attached already; detach() its optimizer first"):
            optimizer.add_param_group({"params": [(name, param)]})


def test_autograd_raises_if_it_needs_an_updated_parameter() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    model = nn.ModuleList([first, second])
    attach(model, lr=0.1)
    y = nn.functional.linear(first(torch.ones(1, 3)), second.weight.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        second(y).sum().backward()


DRAWN_NOISE = (
    "param group 0 has bfloat16 parameters and sr_seed=None, so that their noise is drawn in their order, but backward "
    "completes gradients in another; allowed are sr_seed=0 (or any other seed) and bf16_sr=False"
)


@pytest.mark.parametrize("options", [{}, {"bf16_sr": torch.Generator()}], ids=["default", "generator"])
def test_noise_from_a_generator_raises(options: dict[str, Any]) -> None:
    model = Model(torch.bfloat16)
    with raises(ValueError, DRAWN_NOISE):
        attach(model, lr=0.1, **options)
    assert_no_hooks(model)


def test_noise_from_a_generator_stops_a_later_step() -> None:
    model = Model(torch.bfloat16)
    optimizer = attach(model, lr=0.1, sr_seed=0)
    optimizer.param_groups[0]["sr_seed"] = None
    with refuses(optimizer, ValueError, DRAWN_NOISE):
        backward(model, 0)


def test_frozen_bfloat16_parameters_need_no_seed() -> None:
    model = nn.Sequential(nn.Linear(3, 3, dtype=torch.bfloat16).requires_grad_(False), nn.Linear(3, 2))
    attach(model, lr=0.1)
    model[1](model[0](torch.ones(1, 3, dtype=torch.bfloat16)).float()).sum().backward()


@bad_options
def test_an_invalid_option_attaches_nothing(bad: dict[str, Any], error: type[Exception], text: str) -> None:
    model = Model()
    with raises(error, text):
        attach(model, **({"lr": 0.1} | bad))
    with raises(error, text):
        attach(model, lr=0.1, groups=lambda name, _: bad if name == "head.bias" else {})
    assert_no_hooks(model)


@pytest.fixture
def distributed() -> Iterator[None]:
    """Run with a process group of one process."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("distributed")
def test_a_distributed_data_parallel_model_raises() -> None:
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 2))
    text = (
        "model must not be distributed: DistributedDataParallel{} averages gradients that would be used before; "
        "use rose_torch.Rose"
    )
    with raises(ValueError, text.format("")):
        attach(model, lr=0.1)
    with raises(ValueError, text.format(", in '0',")):
        attach(nn.Sequential(model), lr=0.1)


@pytest.mark.usefixtures("distributed")
def test_a_sharded_parameter_raises() -> None:
    from torch.distributed.tensor import distribute_module, init_device_mesh

    model = distribute_module(nn.Linear(3, 2), init_device_mesh("cpu", (1,)))
    with raises(ValueError, "parameter 'weight' is a DTensor; rose_torch.Rose updates these, attach does not"):
        attach(model, lr=0.1)


INVALID_MODELS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "parameters": (
        lambda: nn.Linear(3, 2).parameters(),
        TypeError,
        "model must be a torch.nn.Module, got generator",
    ),
    "sparse gradients": (
        lambda: nn.Sequential(nn.Embedding(3, 2, sparse=True)),
        ValueError,
        "module '0' has sparse=True; Rose needs dense gradients, allowed is sparse=False",
    ),
    "complex parameters": (
        lambda: nn.Linear(3, 2, dtype=torch.complex64),
        TypeError,
        "parameter 'weight' has dtype complex64; allowed are float64, float32, float16, bfloat16",
    ),
    "no parameters": (nn.Tanh, ValueError, "optimizer got an empty parameter list"),
}


@pytest.mark.parametrize(("model", "error", "text"), INVALID_MODELS.values(), ids=INVALID_MODELS)
def test_invalid_models_raise(model: Callable[[], Any], error: type[Exception], text: str) -> None:
    with raises(error, text):
        attach(model(), lr=0.1)


def test_attaching_a_parameter_twice_raises() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    with raises(ValueError, "parameter '1.weight' is attached already; detach() its optimizer first"):
        attach(nn.Sequential(nn.Linear(6, 6), model.embedding), lr=0.1)
    optimizer.detach()
    train(model, attach(model, lr=0.1))
