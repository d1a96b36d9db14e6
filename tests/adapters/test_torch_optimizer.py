"""rose_torch as a torch optimizer: groups, closures, hooks, scalers, memory layouts, and steps with the core's bits."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rose_core
from rose_torch import Rose
from rose_torch.noise import drawn_words
from tests.adapters.models import OVERRIDES, assert_same_model, core_step, grads, model, normal, parameter, tensor
from tests.bits import DTYPES, assert_same_bits
from tests.strategies import COMPUTE_DTYPES, LAYOUTS

Params = dict[str, nn.Parameter]
NOISE = {"sr_seed": 3}


def params_with_grads(dtype: str = "float32", step: int = 0) -> Params:
    gradients = grads(step, dtype)
    return {name: parameter(x, gradients[name]) for name, x in model(dtype).items()}


def set_grads(params: Params, step: int, dtype: str = "float32") -> None:
    for name, grad in grads(step, dtype).items():
        params[name].grad = tensor(grad)


def drawn(generator: torch.Generator | None, params: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the noise words that rose-opt draws for contiguous parameters."""
    shapes = [x.shape for x in params.values()]
    return [torch.empty(s, dtype=torch.int32).random_(0, 2**16, generator=generator).numpy() for s in shapes]


@pytest.mark.parametrize("compute_dtype", COMPUTE_DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_in_every_dtype_equal_the_core(dtype: str, compute_dtype: str | None) -> None:
    rounds = compute_dtype not in ("fp16", "bf16")
    params, expected = params_with_grads(dtype), model(dtype)
    optimizer = Rose(params.values(), lr=0.1, bf16_sr=rounds, compute_dtype=compute_dtype, sr_seed=7)
    for step in range(3):
        set_grads(params, step, dtype)
        optimizer.step()
        seed = 7 if rounds else None
        expected = core_step(expected, grads(step, dtype), seed=seed, step=step, lr=0.1, compute_dtype=compute_dtype)
        assert_same_model(params, expected, "rose_torch")


@pytest.mark.parametrize("given", [False, True], ids=["the default generator", "a generator"])
def test_the_noise_is_drawn_from_the_generator(given: bool) -> None:
    generator = torch.Generator().manual_seed(5) if given else None
    params = params_with_grads("bfloat16")
    torch.manual_seed(5)
    Rose(params.values(), lr=0.1, bf16_sr=generator or True).step()
    words = drawn(torch.Generator().manual_seed(5), model("bfloat16"))
    expected = core_step(model("bfloat16"), grads(dtype="bfloat16"), words=words, lr=0.1)
    assert_same_model(params, expected, "rose_torch")


def test_noise_drawn_in_parts_equals_noise_drawn_at_once() -> None:
    """For parts of few and of many words, which are drawn in different ways. The generators end in the same state."""
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    words = drawn_words(torch.empty(100_000), generators[0])
    ends = [0, 1, 1000, 2023, 3047, 3048, 70_000, 100_000]
    parts = torch.cat([words(start, stop) for start, stop in pairwise(ends)])
    assert torch.equal(parts, torch.empty(100_000, dtype=torch.int32).random_(0, 2**16, generator=generators[1]))
    assert torch.equal(*(generator.get_state() for generator in generators))


@pytest.mark.parametrize("option", OVERRIDES)
def test_an_option_of_a_group_affects_this_group_only(option: str) -> None:
    given, core_options = OVERRIDES[option]
    params, others = params_with_grads("bfloat16"), params_with_grads("bfloat16")
    groups = [{"params": params.values(), **given}, {"params": others.values()}]
    Rose(groups, lr=0.1, **NOISE).step()
    gradients, count = grads(dtype="bfloat16"), len(params)
    expected = core_step(model("bfloat16"), gradients, **({"lr": 0.1, "seed": 3} | core_options))
    assert_same_model(params, expected, "rose_torch")
    unaffected = core_step(model("bfloat16"), gradients, lr=0.1, seed=3, first_index=count)
    assert_same_model(others, unaffected, "rose_torch")


def test_a_group_may_have_another_generator() -> None:
    params, others = params_with_grads("bfloat16"), params_with_grads("bfloat16")
    first, default = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    Rose([{"params": params.values(), "bf16_sr": first}, {"params": others.values()}], lr=0.1, bf16_sr=default).step()
    for number, held in enumerate([params, others], 1):
        words = drawn(torch.Generator().manual_seed(number), model("bfloat16"))
        expected = core_step(model("bfloat16"), grads(dtype="bfloat16"), words=words, lr=0.1)
        assert_same_model(held, expected, "rose_torch")


def test_an_added_group_is_copied_and_continues_the_index_of_the_noise() -> None:
    params, added = params_with_grads("bfloat16"), params_with_grads("bfloat16")
    optimizer = Rose(params.values(), lr=0.1)
    group = {"params": added.values(), "lr": 0.5, "compute_dtype": "float32", "sr_seed": 9}
    given = dict(group)
    optimizer.add_param_group(group)
    assert group == given
    optimizer.step()
    expected = core_step(
        model("bfloat16"), grads(dtype="bfloat16"), seed=9, first_index=5, lr=0.5, compute_dtype="fp32"
    )
    assert_same_model(added, expected, "rose_torch")


def test_a_group_may_be_a_single_tensor() -> None:
    weight = params_with_grads()["weight"]
    Rose([{"params": weight}], lr=0.1).step()
    assert_same_bits(weight, core_step(model(), grads(), lr=0.1)["weight"], backend="rose_torch")


def test_parameters_without_a_gradient_count_in_the_index_of_the_noise() -> None:
    params = params_with_grads("bfloat16")
    params["bias"].grad = None
    params["scale"] = parameter(model("bfloat16")["scale"]).requires_grad_(False)
    Rose(params.values(), lr=0.1, **NOISE).step()
    gradients: dict[str, Any] = grads(dtype="bfloat16") | {"bias": None, "scale": None}
    assert_same_model(params, core_step(model("bfloat16"), gradients, seed=3, lr=0.1), "rose_torch")


@pytest.mark.parametrize("noise", [{}, NOISE], ids=["generator", "sr_seed"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_memory_layout_changes_no_bit(dtype: str, layout: str, noise: dict[str, int]) -> None:
    contiguous = params_with_grads(dtype)
    params = {name: nn.Parameter(LAYOUTS[layout](tensor, x)) for name, x in model(dtype).items()}
    for name, grad in grads(dtype=dtype).items():
        params[name].grad = LAYOUTS[layout](tensor, grad)
    for held in (contiguous, params):
        torch.manual_seed(0)
        Rose(held.values(), lr=0.1, **noise).step()
    assert_same_model(params, contiguous, "rose_torch")


def test_channels_last_has_the_bits_of_contiguous_and_keeps_its_layout() -> None:
    kernels = [parameter(normal(0, (4, 3, 5, 5), "bfloat16"), normal(1, (4, 3, 5, 5), "bfloat16")) for _ in range(2)]
    kernels[1].data = kernels[1].data.to(memory_format=torch.channels_last)
    for kernel in kernels:
        torch.manual_seed(0)
        Rose([kernel], lr=0.1).step()
    assert kernels[1].is_contiguous(memory_format=torch.channels_last)
    assert_same_bits(kernels[1], kernels[0], backend="rose_torch")


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_are_updated_in_place_with_a_new_version_for_autograd(dtype: str, fused: bool) -> None:
    params = params_with_grads(dtype)
    pointers, versions = [p.data_ptr() for p in params.values()], [p._version for p in params.values()]
    Rose(params.values(), lr=0.1, fused=fused).step()
    assert [p.data_ptr() for p in params.values()] == pointers
    changed = [p._version > before for p, before in zip(params.values(), versions, strict=True)]
    assert changed == [p.numel() > 0 for p in params.values()]
    assert all(p.requires_grad and p.is_leaf for p in params.values())


@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_storages_of_a_step_can_still_be_resized(dtype: str, nonfinite: str) -> None:
    param = nn.Parameter(torch.ones(3, 4, dtype=getattr(torch, dtype)))
    param.grad = torch.ones_like(param)
    Rose([param], lr=0.1, fused=False, nonfinite=nonfinite).step()
    param.grad.untyped_storage().resize_(0)
    param.untyped_storage().resize_(0)


def test_a_step_does_not_change_gradients() -> None:
    params = params_with_grads("float64")
    Rose(params.values(), lr=0.1, maximize=True).step()
    assert_same_model({name: param.grad for name, param in params.items()}, grads(dtype="float64"), "rose_torch")


def test_a_closure_runs_with_gradients_enabled_and_step_returns_its_loss() -> None:
    weight = parameter(normal(0, (2, 3)))
    optimizer = Rose([weight], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        assert torch.is_grad_enabled()
        loss = (weight * weight).sum()
        loss.backward()
        return loss

    before = weight.detach().clone()
    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == (before * before).sum().item()
    assert_same_bits(weight, core_step({"w": before}, {"w": 2 * before}, lr=0.1)["w"], backend="rose_torch")


def test_a_step_without_a_closure_returns_none() -> None:
    assert Rose(params_with_grads().values(), lr=0.1).step() is None


def test_zero_grad_removes_the_gradients() -> None:
    params = params_with_grads()
    Rose(params.values(), lr=0.1).zero_grad()
    assert all(param.grad is None for param in params.values())


def test_hooks_run_around_a_step() -> None:
    calls: list[str] = []
    params = params_with_grads()
    optimizer = Rose(params.values(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: calls.append(f"before {params['bias'][0].item() == old}"))
    optimizer.register_step_post_hook(lambda *_: calls.append(f"after {params['bias'][0].item() == old}"))
    old = params["bias"][0].item()
    optimizer.step()
    assert calls == ["before True", "after False"]


def test_the_profiler_shows_a_step_by_name() -> None:
    optimizer = Rose(params_with_grads().values(), lr=0.1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
    assert "Optimizer.step#Rose.step" in {event.key for event in profile.key_averages()}


def test_a_gradient_scaler_skips_steps_that_overflow() -> None:
    weight = parameter(normal(0, (2, 3)))
    optimizer = Rose([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = weight.detach().clone()
    for factor in (float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((weight * weight).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    assert optimizer.param_groups[0]["step"] == 1
    assert scaler.get_scale() == 2.0
    assert_same_bits(weight, core_step({"w": before}, {"w": 2 * before}, lr=0.1)["w"], backend="rose_torch")


def test_rose_does_not_claim_to_support_amp_scaling() -> None:
    # Lightning does not clip gradients for an optimizer with this attribute.
    assert not hasattr(Rose(params_with_grads().values(), lr=0.1), "_step_supports_amp_scaling")


def test_the_representation_shows_the_options_of_each_group() -> None:
    shown = repr(Rose([{"params": params_with_grads().values(), "lr": 0.5}], lr=0.1, compute_dtype=torch.float32))
    assert shown == (
        "Rose (\nParameter Group 0\n    bf16_sr: True\n    centralize: True\n    compute_dtype: fp32\n    lr: 0.5\n"
        "    max_step: None\n    maximize: False\n    sr_seed: None\n    stabilize: True\n    step: 0\n"
        "    wd_schedule: False\n    weight_decay: 0.0001\nnonfinite: propagate\nfused: None\n)"
    )


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 4), (2, 6)),
    "convolution": (lambda: nn.Conv2d(3, 4, 2), (2, 3, 5, 5)),
    "norm": (lambda: nn.LayerNorm(6), (2, 6)),
    "recurrent": (lambda: nn.GRU(6, 4), (5, 2, 6)),
    "attention": (lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0), (5, 2, 6)),
}


@pytest.mark.parametrize(("module", "shape"), MODULES.values(), ids=MODULES)
def test_training_decreases_the_loss_of_a_module(module: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    built, x = module(), torch.randn(shape)
    optimizer = Rose(built.named_parameters(), lr=3e-3)

    def loss() -> torch.Tensor:
        y = built(x)
        return ((y[0] if isinstance(y, tuple) else y) - 1.0).square().mean()

    first = loss().item()
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < first


@pytest.mark.parametrize("negated", [0, 1])
@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
def test_a_lazily_negated_gradient_is_resolved(fused: bool | None, negated: int) -> None:
    params, gradients = [normal(number, (7, 9)) for number in (0, 1)], [normal(number, (7, 9)) for number in (2, 3)]
    held = [parameter(x) for x in params]
    for number, grad in enumerate(gradients):
        plain = tensor(grad)
        held[number].grad = torch.complex(plain, -plain).conj().imag if number == negated else plain
    assert [param.grad.is_neg() for param in held if param.grad is not None] == [negated == 0, negated == 1]
    Rose(held, lr=0.1, fused=fused).step()
    for param, x, grad in zip(held, params, gradients, strict=True):
        assert_same_bits(param, rose_core.update(x, grad, lr=0.1), backend="rose_torch")


class Subclass(torch.Tensor):
    """A tensor of another type."""


def test_a_gradient_of_a_subclass_is_used() -> None:
    x, grad = normal(0, (7, 9)), normal(1, (7, 9))
    param = parameter(x)
    param.grad = tensor(grad).as_subclass(Subclass)
    Rose([param], lr=0.1).step()
    assert_same_bits(param, rose_core.update(x, grad, lr=0.1), backend="rose_torch")
