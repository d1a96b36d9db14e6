"""Defects of rose-opt 1.0.2: each is present in rose-opt and absent in rose_torch."""

import copy
import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import rose_opt
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.optim.lr_scheduler import LambdaLR

from rose_core import rule
from rose_core.rounding import to_storage
from rose_torch import Rose
from tests.adapters.models import normal, parameter
from tests.bits import from_words, raw_words

Optimizer = Callable[..., Any]


def weight(dtype: str = "float32", shape: tuple[int, ...] = (4, 6)) -> nn.Parameter:
    return parameter(normal(0, shape, dtype), normal(1, shape, dtype))


def raises(error: type[Exception], action: Callable[[], Any]) -> bool:
    """Tell whether the action raises this error. Any other error fails the test."""
    try:
        action()
    except error:
        return True
    return False


def same(x: torch.Tensor, y: torch.Tensor) -> bool:
    return bool((raw_words(x) == raw_words(y)).all())


def nan_of_cuda_becomes_zero(rose: Optimizer) -> bool:
    # Arithmetic on CUDA returns the NaN 0x7fffffff. Here it is inserted.
    nan = from_words([0x7FFFFFFF] * 2, "float32")
    held = weight("bfloat16", (2,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rule, "to_storage", lambda _, dtype, noise: to_storage(nan, dtype, noise))
        patch.setattr(torch.Tensor, "addcdiv_", lambda x, *_, **__: x.copy_(torch.from_numpy(nan)))
        # Not by kernels, where nothing can be inserted. Their tests have this NaN as a gradient.
        by_core = {"fused": False, "max_step": float("inf")} if rose is Rose else {}  # infinity: no warning is computed
        rose([held], lr=0.1, compute_dtype="fp32", **by_core).step()
    return not bool(held.isnan().all())


def a_copy_cannot_step(rose: Optimizer) -> bool:
    copied = copy.deepcopy(rose([weight("bfloat16")], lr=0.1))
    held = copied.param_groups[0]["params"][0]
    held.grad = torch.ones_like(held)
    return raises(AttributeError, copied.step)


def a_resumed_run_draws_other_noise(rose: Optimizer) -> bool:
    first, resumed = (rose([weight("bfloat16")], lr=0.1, bf16_sr=torch.Generator().manual_seed(1)) for _ in range(2))
    first.step()
    resumed.load_state_dict(first.state_dict())
    resumed.param_groups[0]["params"][0].data.copy_(first.param_groups[0]["params"][0])
    for optimizer in (first, resumed):
        optimizer.step()
    return not same(first.param_groups[0]["params"][0], resumed.param_groups[0]["params"][0])


def after_reading_the_state(rose: Optimizer) -> tuple[nn.Linear, Any]:
    """Return a module and its optimizer, after its state is read before the first step."""
    module = nn.Linear(3, 2)
    optimizer = rose(module.parameters(), lr=0.1)
    get_optimizer_state_dict(module, optimizer)
    return module, optimizer


def reading_the_state_stops_a_scheduled_run(rose: Optimizer) -> bool:
    _, optimizer = after_reading_the_state(rose)
    LambdaLR(optimizer, lambda _: 1.0)
    return bool(optimizer.param_groups[0]["lr"] == 0.0)


def reading_the_state_breaks_the_decay(rose: Optimizer) -> bool:
    module, optimizer = after_reading_the_state(rose)
    optimizer.param_groups[0]["wd_schedule"] = True
    module.weight.grad = torch.ones(2, 3)
    return raises(ZeroDivisionError, optimizer.step)


def a_sparse_gradient_leaves_a_step_half_done(rose: Optimizer) -> bool:
    first, embedding = weight(), nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    before = first.detach().clone()
    assert raises(RuntimeError, rose([first, embedding.weight], lr=0.1).step)
    return not same(first, before)


def complex_parameters_lose_their_imaginary_part(rose: Optimizer) -> bool:
    held = nn.Parameter(torch.tensor([1.0 + 2.0j, 3.0 - 1.0j]))
    held.grad = torch.ones_like(held)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Casting complex values to real")
        return not raises(TypeError, rose([held], lr=0.1).step) and not held.imag.any()


def lr_of_nan_is_accepted(rose: Optimizer) -> bool:
    return not raises(ValueError, lambda: rose([weight()], lr=float("nan")))


def an_empty_vector_raises(rose: Optimizer) -> bool:
    return raises(RuntimeError, rose([weight(shape=(0,))], lr=0.1).step)


def an_empty_matrix_raises(rose: Optimizer) -> bool:
    return raises(IndexError, rose([weight(shape=(3, 0))], lr=0.1).step)


def an_integer_wd_schedule_acts_as_true(rose: Optimizer) -> bool:
    one, true = weight(), weight()
    rose([one], lr=0.1, weight_decay=0.5, wd_schedule=1).step()
    rose([true], lr=0.1, weight_decay=0.5, wd_schedule=True).step()
    return same(one, true)


def initial_lr_is_the_tensor_lr_itself(rose: Optimizer) -> bool:
    lr = torch.tensor(0.1)
    optimizer = rose([weight()], lr=lr)
    optimizer.step()
    return optimizer.param_groups[0]["initial_lr"] is lr


def a_string_as_compute_dtype_of_a_group_fails_at_its_step(rose: Optimizer) -> bool:
    return raises(TypeError, rose([{"params": [weight()], "compute_dtype": "fp32"}], lr=0.1).step)


def the_generator_of_a_group_is_ignored(rose: Optimizer) -> bool:
    stepped = []
    for seed in (1, 2):
        stepped.append(weight("bfloat16"))
        torch.manual_seed(seed)
        rose([{"params": stepped[-1:], "bf16_sr": torch.Generator().manual_seed(0)}], lr=0.1).step()
    return not same(*stepped)


def noise_depends_on_the_memory_format(rose: Optimizer) -> bool:
    kernels = [weight("bfloat16", (4, 3, 2, 2)) for _ in range(2)]
    kernels[1].data = kernels[1].data.to(memory_format=torch.channels_last)
    for kernel in kernels:
        torch.manual_seed(0)
        rose([kernel], lr=0.1).step()
    return not same(*kernels)


def json_cannot_hold_the_state(rose: Optimizer) -> bool:
    return raises(TypeError, lambda: json.dumps(rose([weight()], lr=0.1).state_dict()))


def a_state_without_a_key_loads(rose: Optimizer) -> bool:
    optimizer = rose([weight()], lr=0.1)
    state = optimizer.state_dict()
    del state["param_groups"][0]["stabilize"]
    return not raises(ValueError, lambda: optimizer.load_state_dict(state)) and raises(KeyError, optimizer.step)


DEFECTS: tuple[Callable[[Optimizer], bool], ...] = (
    nan_of_cuda_becomes_zero,
    a_copy_cannot_step,
    a_resumed_run_draws_other_noise,
    reading_the_state_stops_a_scheduled_run,
    reading_the_state_breaks_the_decay,
    a_sparse_gradient_leaves_a_step_half_done,
    complex_parameters_lose_their_imaginary_part,
    lr_of_nan_is_accepted,
    an_empty_vector_raises,
    an_empty_matrix_raises,
    an_integer_wd_schedule_acts_as_true,
    initial_lr_is_the_tensor_lr_itself,
    a_string_as_compute_dtype_of_a_group_fails_at_its_step,
    the_generator_of_a_group_is_ignored,
    noise_depends_on_the_memory_format,
    json_cannot_hold_the_state,
    a_state_without_a_key_loads,
)
defects = pytest.mark.parametrize("has_defect", DEFECTS, ids=lambda defect: defect.__name__.replace("_", " "))


@defects
def test_rose_torch_does_not_have_the_defect(has_defect: Callable[[Optimizer], bool]) -> None:
    assert not has_defect(Rose)


@defects
def test_rose_opt_has_the_defect(has_defect: Callable[[Optimizer], bool]) -> None:
    """Proof that the test above can fail."""
    assert has_defect(rose_opt.Rose)
