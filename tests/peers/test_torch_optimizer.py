"""The optimizer of torch keeps the contracts of `torch.optim.Optimizer`."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch

from rose_core import peers
from rose_torch import Optimizer
from tests.bits import assert_same_bits


def linear(seed: int = 0) -> torch.nn.Linear:
    torch.manual_seed(seed)
    return torch.nn.Linear(5, 3)


def loss_of(model: torch.nn.Module) -> torch.Tensor:
    return model(torch.linspace(-1, 1, 20).reshape(4, 5)).square().mean()


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def assert_same_model(actual: torch.nn.Module, expected: torch.nn.Module) -> None:
    for mine, its in zip(actual.parameters(), expected.parameters(), strict=True):
        assert_same_bits(mine, its)


def test_a_closure_is_called_with_gradients_enabled() -> None:
    model = linear()
    optimizer = Optimizer(model.parameters(), peers.Adam(), lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    before = loss_of(model).item()
    assert optimizer.step(closure).item() == before
    assert loss_of(model).item() < before


def test_a_scheduler_drives_lr() -> None:
    models = linear(), linear()
    optimizers = [Optimizer(model.parameters(), peers.Adam(), lr=0.1) for model in models]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizers[0], lambda step: 1.0 / (1 + step))
    for step in range(4):
        optimizers[1].param_groups[0]["lr"] = 0.1 / (1 + step)
        for model, optimizer in zip(models, optimizers, strict=True):
            train(model, optimizer, 1)
        scheduler.step()
    assert_same_model(*models)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("state_dtype", [None, "bfloat16", "float64"])
def test_states_keep_their_dtype_through_torch_save(dtype: torch.dtype, state_dtype: Any) -> None:
    rule = peers.AdamW(state_dtype=state_dtype)
    model = linear().to(dtype)
    optimizer = Optimizer(model.parameters(), rule, lr=0.1)
    x = torch.ones(4, 5, dtype=dtype)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()

    step(model, optimizer)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    resumed = copy.deepcopy(model)
    other = Optimizer(resumed.parameters(), rule, lr=0.5)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    expected = torch.float32 if state_dtype is None else getattr(torch, state_dtype)
    assert all(state["exp_avg"].dtype == expected for state in other.state.values())
    assert other.param_groups[0]["lr"] == 0.1
    for each in ((model, optimizer), (resumed, other)):
        step(*each)
    assert_same_model(resumed, model)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_continues_alike(duplicate: Any) -> None:
    model = linear()
    optimizer = Optimizer(model.parameters(), peers.Adam(), lr=0.1)
    train(model, optimizer, 2)
    other, copied = duplicate((model, optimizer))
    train(model, optimizer, 2)
    train(other, copied, 2)
    assert_same_model(other, model)


def test_a_loaded_state_shares_no_memory_with_the_saved_one() -> None:
    model = linear()
    optimizer = Optimizer(model.parameters(), peers.Adam(), lr=0.1)
    train(model, optimizer, 1)
    state = copy.deepcopy(optimizer.state_dict())
    saved = copy.deepcopy(state)
    optimizer.load_state_dict(state)
    train(model, optimizer, 1)
    assert_same_bits(state["state"][0]["exp_avg"], saved["state"][0]["exp_avg"])


def test_hooks_of_states_and_of_steps_run() -> None:
    model = linear()
    optimizer = Optimizer(model.parameters(), peers.Adam(), lr=0.1)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append("step"))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "extra": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, state: seen.append(state.pop("extra")))
    train(model, optimizer, 1)
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert seen == ["step", 1]


def test_lr_may_be_a_tensor() -> None:
    models = linear(), linear()
    rates = 0.125, torch.tensor(0.125)
    optimizers = [Optimizer(model.parameters(), peers.Adam(), lr=lr) for model, lr in zip(models, rates, strict=True)]
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, 2)
    assert_same_model(*models)


def test_a_sparse_gradient_is_refused() -> None:
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = Optimizer(embedding.parameters(), peers.Adam(), lr=0.1)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="dense gradients"):
        optimizer.step()


def test_no_step_is_taken_with_options_removed_by_hand() -> None:
    model = linear()
    optimizer = Optimizer(model.parameters(), peers.Adam(), lr=0.1)
    del optimizer.param_groups[0]["rule"]
    loss_of(model).backward()
    with pytest.raises(ValueError, match="group 0 lacks rule"):
        optimizer.step()


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_module_gets_its_state_at_the_first_step() -> None:
    model = torch.nn.LazyLinear(2)
    optimizer = Optimizer(model.parameters(), peers.Signum(), lr=0.5)
    model(torch.ones(1, 3)).sum().backward()
    before = model.weight.detach().clone()
    optimizer.step()
    assert_same_bits(model.weight, before - 0.5)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_has_the_bits_of_an_eager_one() -> None:
    """The step is not traced: a compiler would contract its arithmetic, and make a constant of its number."""
    models = linear(), linear()
    optimizers = [Optimizer(model.parameters(), peers.Adam(), lr=0.1) for model in models]
    compiled = torch.compile(optimizers[0].step, backend="eager")
    for _ in range(3):
        for model, optimizer, step in zip(models, optimizers, (compiled, optimizers[1].step), strict=True):
            optimizer.zero_grad()
            loss_of(model).backward()
            step()
    assert_same_model(*models)
