"""rose_torch.attach: the bits of Rose with updates in backward, and clear errors for what needs all gradients."""

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.checkpoint import checkpoint

from rose_torch import AttachedRose, Rose, attach
from tests.adapters.models import OVERRIDES
from tests.adapters.refusals import bad_options, picture, raises, refuses, warns
from tests.bits import assert_same_bits

STEPS = 4
RELEASED = (
    "rose_torch.attach has used this gradient in backward and freed it: step() must come before the next backward, and "
    "whoever accumulates, clips or unscales gradients needs rose_torch.Rose, which leaves them in memory"
)
TWICE = (
    "backward ran again before step(), but rose_torch.attach needs every gradient complete after one: call step() "
    "first; to accumulate gradients use rose_torch.Rose, and for checkpointing use_reentrant=False"
)


class Model(nn.Module):
    """Has tied weights, a layer that is used thrice, a frozen one, one that is used at times, and a scalar."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.reused = nn.Linear(6, 6)
        self.at_times = nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.head = nn.Linear(6, 11)
        self.head.weight = self.embedding.weight
        self.to(dtype)

    def forward(self, tokens: Tensor, *, with_all: bool = True) -> Tensor:
        x = self.frozen(self.embedding(tokens))
        for _ in range(3):
            x = torch.tanh(self.reused(x))
        if with_all:
            x = x + self.at_times(x)
        loss: Tensor = nn.functional.cross_entropy(self.head(x * self.scale).float(), tokens.roll(1))
        return loss


def backward(model: Model, step: int) -> None:
    tokens = torch.randint(11, (9,), generator=torch.Generator().manual_seed(step))
    model(tokens, with_all=step % 2 == 0).backward()


def by_rank(name: str, param: nn.Parameter) -> dict[str, Any]:
    if name.startswith("reused"):
        return {"lr": 0.05, "centralize": False}
    return {"weight_decay": 0.0} if param.ndim < 2 else {}


def groups_of(model: Model) -> list[dict[str, Any]]:
    """Return the groups that `by_rank` makes, in the order in which attach has them."""
    named = dict(model.named_parameters())
    names = [
        ["embedding.weight", "frozen.weight", "at_times.weight"],
        ["scale", "frozen.bias", "at_times.bias", "head.bias"],
        ["reused.weight", "reused.bias"],
    ]
    order = sorted(names, key=lambda group: min(list(named).index(name) for name in group))
    return [
        {"params": [(n, named[n]) for n in named if n in group], **by_rank(group[0], named[group[0]])}
        for group in order
    ]


def train(model: Model, optimizer: Rose, scheduler: Any = None, steps: range = range(STEPS)) -> None:
    for step in steps:
        optimizer.zero_grad()
        backward(model, step)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def assert_same_models(one: nn.Module, other: nn.Module) -> None:
    for (name, param), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        assert_same_bits(param, expected, backend="rose_torch attached", what=name)


def assert_same_runs(options: Mapping[str, Any], dtype: torch.dtype, scheduler: Callable[[Rose], Any] | None) -> None:
    model, expected = Model(dtype), Model(dtype)
    attached, ordinary = attach(model, groups=by_rank, **options), Rose(groups_of(expected), **options)
    names = [group["param_names"] for group in attached.param_groups]
    assert names == [group["param_names"] for group in ordinary.param_groups]
    for own, optimizer in ((model, attached), (expected, ordinary)):
        train(own, optimizer, scheduler and scheduler(optimizer))
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
    for own, make in ((model, attach), (expected, lambda model, lr: Rose(model.parameters(), lr))):
        lr = torch.tensor(0.1)
        optimizer = make(own, lr)
        for step in range(STEPS):
            train(own, optimizer, steps=range(step, step + 1))
            lr.mul_(0.5)
    assert_same_models(model, expected)


def test_no_gradient_is_alive_when_the_next_one_is_complete() -> None:
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


def test_without_a_step_of_its_own_nothing_is_updated_twice() -> None:
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
def test_layers_that_are_frozen_and_unfrozen_on_the_way_have_the_bits_of_rose(fused: bool | None) -> None:
    model, expected = Model(), Model()
    optimizers = attach(model, lr=0.1, fused=fused), Rose(expected.parameters(), lr=0.1, fused=fused)
    for own, optimizer in zip((model, expected), optimizers, strict=True):
        train(own, optimizer, steps=range(1))
        own.frozen.requires_grad_(True)
        own.reused.requires_grad_(False)
        train(own, optimizer, steps=range(1, 3))
    assert_same_models(model, expected)
    backward(model, 3)
    assert repr(model.frozen.weight.grad) == "a gradient that rose_torch.attach has used and freed"


def test_gradients_set_by_hand_and_groups_added_later_are_updated_by_step() -> None:
    model, expected = Model(), Model()
    optimizers = attach(model, lr=0.1), Rose(expected.named_parameters(), lr=0.1)
    for own, optimizer in zip((model, expected), optimizers, strict=True):
        own.added = nn.Parameter(torch.arange(3.0))
        optimizer.add_param_group({"params": [("added", own.added)], "lr": 0.5})
        for step in range(3):
            optimizer.zero_grad()
            backward(own, step)
            own.added.square().sum().backward(inputs=[own.added]) if step == 0 else None
            own.frozen.weight.grad = torch.eye(6)
            optimizer.step()
    assert_same_models(model, expected)


def test_a_closure_runs_backward_once_and_its_loss_is_returned() -> None:
    model, expected = Model(), Model()
    tokens = torch.arange(9)

    def closure(own: Model) -> Callable[[], Tensor]:
        def evaluate() -> Tensor:
            loss = own(tokens)
            loss.backward()
            return loss

        return evaluate

    losses = attach(model, lr=0.1).step(closure(model)), Rose(expected.parameters(), lr=0.1).step(closure(expected))
    assert_same_bits(losses[0], losses[1])
    assert_same_models(model, expected)


def test_a_run_is_resumed_from_its_state_dict_with_the_same_bits() -> None:
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


def test_checkpointing_that_is_not_reentrant_has_the_same_bits() -> None:
    model, expected = Model(), Model()
    optimizers = attach(model, lr=0.1), Rose(expected.parameters(), lr=0.1)
    for own, optimizer in zip((model, expected), optimizers, strict=True):
        layers = nn.Sequential(own.reused, nn.Tanh(), own.at_times)
        for _ in range(3):
            x = own.embedding(torch.arange(9))
            for _ in range(2):
                x = checkpoint(layers, x, use_reentrant=False)
            own.head(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert_same_models(model, expected)


def test_two_passes_of_reentrant_checkpointing_are_refused() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    x = model.embedding(torch.arange(9))
    loss = checkpoint(model.at_times, checkpoint(model.reused, x, use_reentrant=True), use_reentrant=True).sum()
    with raises(RuntimeError, TWICE):
        loss.backward()
    assert_same_bits(model.reused.weight, Model().reused.weight)
    assert optimizer.param_groups[0]["step"] == 0


def test_accumulating_gradients_is_refused_before_anything_changes() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    backward(model, 1)
    with refuses(optimizer, RuntimeError, RELEASED):
        backward(model, 1)
    with refuses(optimizer, RuntimeError, TWICE):  # of a parameter that the first backward did not reach
        model.at_times(torch.ones(6)).sum().backward()
    optimizer.step()
    train(model, optimizer, steps=range(1, STEPS))


def scaler() -> torch.amp.GradScaler:
    """Return a scaler that has scaled a loss."""
    made = torch.amp.GradScaler("cpu")
    made.scale(torch.ones(()))
    return made


USES: dict[str, Callable[[nn.Module, Rose], Any]] = {
    "clip_grad_norm_": lambda model, _: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
    "clip_grad_norm_ without foreach": lambda model, _: nn.utils.clip_grad_norm_(
        model.parameters(), 1.0, foreach=False
    ),
    "clip_grad_value_": lambda model, _: nn.utils.clip_grad_value_(model.parameters(), 1.0),
    "get_total_norm": lambda model, _: nn.utils.get_total_norm(
        [param.grad for param in model.parameters() if param.grad is not None]
    ),
    "GradScaler.step": lambda _, optimizer: scaler().step(optimizer),
    "GradScaler.unscale_": lambda _, optimizer: scaler().unscale_(optimizer),
    "an ordinary optimizer": lambda model, _: torch.optim.SGD(model.parameters(), 0.1).step(),
    "an ordinary Rose": lambda model, _: Rose(model.parameters(), 0.1).step(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_needs_all_gradients_is_refused(use: Callable[[nn.Module, Rose], Any]) -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    backward(model, 0)
    with refuses(optimizer, RuntimeError, RELEASED):
        use(model, optimizer)
    optimizer.step()


def test_an_option_that_is_wrong_at_backward_stops_the_whole_step() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1, groups=by_rank)
    optimizer.param_groups[-1]["lr"] = float("nan")
    with refuses(optimizer, ValueError, "lr must be a finite number >= 0, got nan"):
        backward(model, 0)
    optimizer.zero_grad()
    optimizer.param_groups[-1]["lr"] = 0.1
    train(model, optimizer)


def test_an_lr_that_changes_between_backward_and_step_is_refused() -> None:
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


def test_a_reference_of_the_decay_that_changes_between_backward_and_step_is_refused() -> None:
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


@pytest.mark.parametrize("option", ["lr", "wd_schedule"])
def test_options_that_only_seem_equal_make_groups_of_their_own(option: str) -> None:
    """Two tensors may change apart, and a schedule of 1 is no schedule of True."""
    values = {"lr": [torch.tensor(0.1), torch.tensor(0.1)], "wd_schedule": [True, 1.0]}[option]
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    optimizer = attach(model, lr=0.1, groups=lambda name, _: {option: values[int(name[0])]})
    assert [group[option] is value for group, value in zip(optimizer.param_groups, values, strict=True)] == [True] * 2
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]


GROUPS: dict[str, tuple[Any, str]] = {
    "a list": ([{"lr": 0.1}], "groups must be a function of a parameter's name and the parameter, got [{'lr': 0.1}]"),
    "that returns None": (
        lambda *_: None,
        "groups('weight', ...) must return a dict of options, of lr, weight_decay, wd_schedule, centralize, stabilize, "
        "bf16_sr, compute_dtype, maximize, sr_seed, initial_lr, max_lr; got None",
    ),
    "that returns another option": (
        lambda *_: {"momentum": 0.9},
        "groups('weight', ...) must return a dict of options, of lr, weight_decay, wd_schedule, centralize, stabilize, "
        "bf16_sr, compute_dtype, maximize, sr_seed, initial_lr, max_lr; got {'momentum': 0.9}",
    ),
}


@pytest.mark.parametrize(("groups", "text"), GROUPS.values(), ids=GROUPS)
def test_groups_that_are_no_function_to_options_are_refused(groups: Any, text: str) -> None:
    with raises(TypeError, text):
        attach(nn.Linear(3, 2), lr=0.1, groups=groups)


def test_parameters_that_leave_the_groups_are_left_alone() -> None:
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


def test_a_gradient_that_another_hook_takes_updates_nothing() -> None:
    model = Model()
    model.scale.register_post_accumulate_grad_hook(lambda param: setattr(param, "grad", None))
    train(model, attach(model, lr=0.1))
    assert_same_bits(model.scale, Model().scale)


def test_step_ends_what_was_begun_without_what_was_refused() -> None:
    """A second backward leaves no gradient, nor does one of a kind that Rose has no use for."""
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


def test_a_group_of_parameters_that_are_attached_elsewhere_is_refused() -> None:
    elsewhere = nn.Linear(3, 2)
    elsewhere.bias.requires_grad_(False)
    attach(elsewhere, lr=0.1)
    optimizer = attach(nn.Linear(3, 2), lr=0.1)
    for name, param in elsewhere.named_parameters():
        with refuses(optimizer, ValueError, f"parameter {name!r} is attached already; detach() its optimizer first"):
            optimizer.add_param_group({"params": [(name, param)]})


def test_a_backward_that_fails_leaves_a_step_that_can_be_ended() -> None:
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


def test_autograd_tells_of_a_parameter_that_it_needs_after_its_update() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    model = nn.ModuleList([first, second])
    attach(model, lr=0.1)
    y = nn.functional.linear(first(torch.ones(1, 3)), second.weight.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        second(y).sum().backward()


def test_what_a_checkpoint_computes_again_sees_updated_parameters() -> None:
    """As the notes of attach say, so that inside of a checkpoint every use of a parameter must have a gradient."""

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


UNORDERED = (
    "param group 0 has bfloat16 parameters and sr_seed=None, so that their noise is drawn in their order, but backward "
    "completes gradients in another; allowed are sr_seed=0 (or any other seed) and bf16_sr=False"
)


@pytest.mark.parametrize("options", [{}, {"bf16_sr": torch.Generator()}], ids=["default", "generator"])
def test_noise_that_is_drawn_in_order_is_refused(options: dict[str, Any]) -> None:
    model = Model(torch.bfloat16)
    with raises(ValueError, UNORDERED):
        attach(model, lr=0.1, **options)
    assert_no_hooks(model)


def test_noise_that_is_to_be_drawn_later_stops_the_whole_step() -> None:
    model = Model(torch.bfloat16)
    optimizer = attach(model, lr=0.1, sr_seed=0)
    optimizer.param_groups[0]["sr_seed"] = None
    with refuses(optimizer, ValueError, UNORDERED):
        backward(model, 0)


def test_bfloat16_parameters_that_are_frozen_draw_no_noise() -> None:
    model = nn.Sequential(nn.Linear(3, 3, dtype=torch.bfloat16).requires_grad_(False), nn.Linear(3, 2))
    attach(model, lr=0.1)
    model[1](model[0](torch.ones(1, 3, dtype=torch.bfloat16)).float()).sum().backward()


def assert_no_hooks(model: nn.Module) -> None:
    before = [param.detach().clone() for param in model.parameters()]
    for param in model.parameters():
        if param.requires_grad:
            (param * param).sum().backward()
            assert type(param.grad) is Tensor
    for param, was in zip(model.parameters(), before, strict=True):
        assert_same_bits(param, was)
        param.grad = None


@bad_options
def test_a_bad_option_attaches_nothing(bad: dict[str, Any], error: type[Exception], text: str) -> None:
    model = Model()
    with raises(error, text):
        attach(model, **({"lr": 0.1} | bad))
    with raises(error, text):
        attach(model, lr=0.1, groups=lambda name, _: bad if name == "head.bias" else {})
    assert_no_hooks(model)


@pytest.fixture
def distributed() -> Iterator[None]:
    """Run with a process group of one."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("distributed")
def test_a_model_that_averages_gradients_later_is_refused() -> None:
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
def test_a_sharded_parameter_is_refused() -> None:
    from torch.distributed.tensor import distribute_module, init_device_mesh

    model = distribute_module(nn.Linear(3, 2), init_device_mesh("cpu", (1,)))
    with raises(ValueError, "parameter 'weight' is a DTensor; rose_torch.Rose updates these, attach does not"):
        attach(model, lr=0.1)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
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


@pytest.mark.parametrize(("model", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_attached_is_refused(model: Callable[[], Any], error: type[Exception], text: str) -> None:
    with raises(error, text):
        attach(model(), lr=0.1)


def test_a_model_is_attached_once() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    with raises(ValueError, "parameter '1.weight' is attached already; detach() its optimizer first"):
        attach(nn.Sequential(nn.Linear(6, 6), model.embedding), lr=0.1)
    optimizer.detach()
    train(model, attach(model, lr=0.1))


def test_a_detached_optimizer_is_an_ordinary_one_and_forgets_the_step_begun() -> None:
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
def test_a_copy_is_attached_to_nothing(copied: Callable[[Any], Any]) -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    train(model, optimizer, steps=range(1))
    before = picture(optimizer)
    model2, optimizer2 = copied((model, optimizer))
    assert_no_hooks(model2)
    train(model2, optimizer2, steps=range(1, 2))
    assert picture(optimizer) == before
    train(model, optimizer, steps=range(1, 2))
    assert_same_models(model, model2)


def test_loading_a_state_forgets_the_step_begun() -> None:
    model = Model()
    optimizer = attach(model, lr=0.1)
    state = optimizer.state_dict()
    backward(model, 0)
    optimizer.load_state_dict(state)
    train(model, optimizer)
    assert optimizer.param_groups[0]["step"] == STEPS


def test_the_warning_of_slices_points_at_the_call() -> None:
    text = "'weight' of shape (2, 1)"
    with pytest.warns(UserWarning, match="weight") as caught:
        attach(nn.Linear(1, 2), lr=0.1)
    assert text in str(caught[0].message)
    with warns(str(caught[0].message), __file__):
        attach(nn.Linear(1, 2), lr=0.1)


def test_it_is_an_optimizer() -> None:
    optimizer = attach(Model(), lr=0.1)
    assert isinstance(optimizer, AttachedRose)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert repr(optimizer).startswith("AttachedRose (\nParameter Group 0\n")
