"""rose_torch refuses what it cannot update, by full text, and takes a step whole or not at all."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rose_core.namespace import arrays
from rose_torch import Rose
from tests.adapters.models import core_step, grads, model, normal, parameter
from tests.adapters.refusals import FLOATING, bad_options, raises, refuses, strong_decays, warns, weak_decays
from tests.bits import assert_within_ulps

TWO_SOURCES = "and a torch.Generator as bf16_sr are two sources of the same noise; allowed is one of them"


def with_grad(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Parameter:
    param = nn.Parameter(torch.ones(shape, device=device).to(dtype), requires_grad=dtype.is_floating_point)
    param.grad = torch.ones(shape, device=device).to(dtype)
    return param


def good_groups() -> list[dict[str, Any]]:
    """Return groups whose parameters could all be updated, with both sources of noise."""
    noisy, plain = ([parameter(x, grads(0, d)[n]) for n, x in model(d).items()] for d in ("bfloat16", "float32"))
    return [{"params": noisy, "bf16_sr": torch.Generator().manual_seed(1)}, {"params": plain}]


def sparse() -> nn.Parameter:
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 3])).sum().backward()
    return embedding.weight


def of_a_wider_gradient() -> nn.Parameter:
    param = nn.Parameter(torch.ones(2, 3))
    param.grad = torch.ones(2, 3)
    param.grad.data = torch.ones(3, 3)
    return param


def expanded() -> nn.Parameter:
    param = nn.Parameter(torch.ones(1, 3).expand(2, 3))
    param.grad = torch.ones(2, 3)
    return param


LAST = "parameter 0 of group 2"
BAD_PARAMS: dict[str, tuple[Callable[[], nn.Parameter], dict[str, Any], type[Exception], str]] = {
    "sparse": (
        sparse,
        {},
        RuntimeError,
        f"Rose needs dense gradients, the gradient of {LAST} has layout torch.sparse_coo",
    ),
    "complex": (lambda: with_grad((2,), torch.complex64), {}, TypeError, f"{LAST} has dtype complex64; {FLOATING}"),
    "integer": (lambda: with_grad((2,), torch.int64), {}, TypeError, f"{LAST} has dtype int64; {FLOATING}"),
    "8 bits": (
        lambda: with_grad((2,), torch.float8_e4m3fn),
        {},
        TypeError,
        f"{LAST} has dtype float8_e4m3fn; {FLOATING}",
    ),
    "a gradient of another shape": (
        of_a_wider_gradient,
        {},
        ValueError,
        f"the gradient of {LAST} has shape (3, 3), {LAST} has (2, 3); they must be equal",
    ),
    "an expanded parameter": (
        expanded,
        {},
        RuntimeError,
        f"{LAST} has elements that share memory, so it cannot be updated in place",
    ),
    "a generator of another device": (
        lambda: with_grad((2,), torch.bfloat16, "meta"),
        {"bf16_sr": torch.Generator()},
        ValueError,
        f"bf16_sr is a generator on device cpu, {LAST} is on meta",
    ),
}


@pytest.mark.parametrize(("param", "options", "error", "text"), BAD_PARAMS.values(), ids=BAD_PARAMS)
def test_a_bad_last_parameter_stops_the_whole_step(
    param: Callable[[], nn.Parameter], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose([*good_groups(), {"params": [param()], **options}], lr=0.1)
    with refuses(optimizer, error, text):
        optimizer.step()


@bad_options
def test_a_bad_option_in_the_last_group_stops_the_whole_step(
    bad: dict[str, Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose(good_groups(), lr=0.1)
    optimizer.param_groups[-1].update(bad)
    with refuses(optimizer, error, text):
        optimizer.step()


BAD_LATER: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a tensor lr of NaN": (
        {"lr": torch.tensor(float("nan"))},
        ValueError,
        "lr must be a finite number >= 0, got tensor(nan)",
    ),
    "a tensor lr of two elements": (
        {"lr": torch.tensor([0.5, 0.25])},
        TypeError,
        "lr must be a finite number >= 0, got tensor([0.5000, 0.2500])",
    ),
    "a bad max_lr": (
        {"wd_schedule": True, "max_lr": -1.0},
        ValueError,
        "max_lr must be a finite number >= 0, got -1.0",
    ),
    "two sources of noise": ({"sr_seed": 1, "bf16_sr": torch.Generator()}, ValueError, f"sr_seed=1 {TWO_SOURCES}"),
}


@pytest.mark.parametrize(("bad", "error", "text"), BAD_LATER.values(), ids=BAD_LATER)
def test_what_was_changed_for_the_worse_later_stops_the_whole_step(
    bad: dict[str, Any], error: type[Exception], text: str
) -> None:
    optimizer = Rose(good_groups(), lr=0.1)
    optimizer.param_groups[-1].update(bad)
    with refuses(optimizer, error, text):
        optimizer.step()


@pytest.mark.parametrize("step", [-1, 2**32])
def test_a_count_that_the_noise_does_not_reach_stops_the_whole_step(step: int) -> None:
    optimizer = Rose([*good_groups(), {"params": [with_grad((2,), torch.bfloat16)], "sr_seed": 0}], lr=0.1)
    optimizer.param_groups[-1]["step"] = step
    with refuses(optimizer, ValueError, f"step must be an integer in [0, 2**32), got {step}"):
        optimizer.step()


def test_a_closure_that_raises_changes_nothing() -> None:
    def closure() -> float:
        raise RuntimeError("no loss")

    optimizer = Rose(good_groups(), lr=0.1)
    with refuses(optimizer, RuntimeError, "no loss"):
        optimizer.step(closure)


@bad_options
def test_bad_options_are_refused_by_the_constructor(bad: dict[str, Any], error: type[Exception], text: str) -> None:
    with raises(error, text):
        Rose([parameter(normal(0, (2,)))], **({"lr": 0.1} | bad))


@bad_options
def test_a_bad_option_of_an_added_group_adds_nothing(bad: dict[str, Any], error: type[Exception], text: str) -> None:
    optimizer = Rose(good_groups(), lr=0.1)
    with refuses(optimizer, error, text):
        optimizer.add_param_group({"params": [parameter(normal(0, (2,)))], **bad})


def test_two_sources_of_noise_are_refused() -> None:
    with raises(ValueError, f"sr_seed=0 {TWO_SOURCES}"):
        Rose([parameter(normal(0, (2,)))], lr=0.1, bf16_sr=torch.Generator(), sr_seed=0)


def test_what_is_no_group_is_refused() -> None:
    optimizer = Rose(good_groups(), lr=0.1)
    with refuses(optimizer, TypeError, "param_group must be a dict, got list"):
        optimizer.add_param_group([parameter(normal(0, (2,)))])  # type: ignore[arg-type]


def test_a_parameter_in_two_groups_is_refused() -> None:
    optimizer = Rose(good_groups(), lr=0.1)
    with refuses(optimizer, ValueError, "some parameters appear in more than one parameter group"):
        optimizer.add_param_group({"params": optimizer.param_groups[0]["params"]})


def test_messages_name_a_named_parameter() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 3])).sum().backward()
    optimizer = Rose(embedding.named_parameters(), lr=0.1)
    text = "Rose needs dense gradients, the gradient of parameter 'weight' has layout torch.sparse_coo"
    with refuses(optimizer, RuntimeError, text):
        optimizer.step()


FIXED = (
    "slices of one element are their own mean, so centralize=True leaves nothing of their gradient; "
    "put them in a group with centralize=False"
)


def test_slices_of_one_element_warn_once_and_name_the_parameters() -> None:
    module = nn.ModuleDict({"down": nn.Linear(1, 3), "1x1": nn.Conv2d(1, 4, 1), "up": nn.Linear(3, 1)})
    text = f"parameter 'down.weight' of shape (3, 1), parameter '1x1.weight' of shape (4, 1, 1, 1): {FIXED}"
    with warns(text, __file__):
        Rose(module.named_parameters(), lr=0.1)


def test_slices_of_one_element_in_an_added_group_warn_at_the_line_that_adds_it() -> None:
    optimizer = Rose(good_groups(), lr=0.1)
    with warns(f"parameter 0 of group 2 of shape (3, 1): {FIXED}", __file__):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3, 1))]})


def test_slices_of_one_element_do_not_warn_without_centering() -> None:
    Rose([{"params": [nn.Parameter(torch.ones(3, 1))], "centralize": False}], lr=0.1)


def test_slices_of_one_element_in_several_groups_warn_once() -> None:
    groups = [{"params": [("a", nn.Parameter(torch.ones(3, 1)))]}, {"params": [("b", nn.Parameter(torch.ones(2, 1)))]}]
    with warns(f"parameter 'a' of shape (3, 1), parameter 'b' of shape (2, 1): {FIXED}", __file__):
        Rose(groups, lr=0.1)


def test_copies_and_loaded_states_do_not_warn_again() -> None:
    params = [nn.Parameter(torch.ones(3, 1))]
    with warns(f"parameter 0 of group 0 of shape (3, 1): {FIXED}", __file__):
        optimizer = Rose(params, lr=0.1)
    copy.deepcopy(optimizer).load_state_dict(optimizer.state_dict())


@strong_decays
def test_a_strong_coupled_decay_warns_once_and_says_what_to_pass(options: dict[str, Any], text: str) -> None:
    with warns(f"group 0, group 1: {text}", __file__):
        optimizer = Rose([{"params": [parameter(normal(0, (n,)))]} for n in (2, 3)], **options)
    with warns(f"group 2: {text}", __file__):
        optimizer.add_param_group({"params": [parameter(normal(0, (4,)))]})


@weak_decays
def test_other_decays_do_not_warn(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Rose([parameter(normal(0, (2,)))], **options)


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make torch believe that this is one of two ranks."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)


DRIFT = (
    "bf16_sr draws rounding noise from each rank's own generator: unless all are seeded alike, replicas of a "
    "parameter drift apart; sr_seed=0 gives every rank the same noise"
)


@pytest.mark.usefixtures("two_ranks")
@pytest.mark.parametrize("bf16_sr", [True, torch.Generator()], ids=["the default generator", "a generator"])
def test_noise_of_each_ranks_own_is_warned_of_once(bf16_sr: Any) -> None:
    optimizer = Rose([with_grad((2,), torch.bfloat16)], lr=0.1, bf16_sr=bf16_sr)
    with pytest.warns(UserWarning, match=rf"\A{DRIFT}\Z"):
        optimizer.step()
    optimizer.step()


SAME_ON_EVERY_RANK: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "sr_seed": (torch.bfloat16, {"sr_seed": 0}),
    "no bf16_sr": (torch.bfloat16, {"bf16_sr": False}),
    "float32": (torch.float32, {}),
}


@pytest.mark.usefixtures("two_ranks")
@pytest.mark.parametrize(("dtype", "options"), SAME_ON_EVERY_RANK.values(), ids=SAME_ON_EVERY_RANK)
def test_noise_that_is_the_same_on_every_rank_is_not_warned_of(dtype: torch.dtype, options: dict[str, Any]) -> None:
    Rose([with_grad((2,), dtype)], lr=0.1, **options).step()


class NoFloat64(TorchDispatchMode):
    """A device that has no float64, as MPS."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        assert getattr(result, "dtype", None) != torch.float64, f"{func} made a float64 tensor"
        return result


@pytest.fixture
def no_float64(monkeypatch: pytest.MonkeyPatch) -> NoFloat64:
    """Make the core take the CPU for a device without float64, and hold it to that."""
    monkeypatch.setattr(arrays, "_WITHOUT_FLOAT64", {"cpu"})
    return NoFloat64()


def test_a_device_without_float64_is_told_to_use_fp32(no_float64: NoFloat64) -> None:
    optimizer = Rose(good_groups(), lr=0.1)
    text = (
        'compute_dtype="fp64" needs float64, which device cpu does not have; use compute_dtype="fp32", whose results '
        "are not bit-exact there"
    )
    with refuses(optimizer, ValueError, text), no_float64:
        optimizer.step()


@pytest.mark.parametrize("shape", [(64, 100), (8, 3, 3, 3), (1000,), (), (3, 4096)], ids=str)
def test_a_device_without_float64_is_close_at_fp32(shape: tuple[int, ...], no_float64: NoFloat64) -> None:
    lr = 0.1
    param = parameter(normal(0, shape), normal(1, shape))
    exact = core_step({"p": normal(0, shape)}, {"p": normal(1, shape)}, lr=lr, compute_dtype="fp32")["p"]
    with no_float64:
        Rose([param], lr=lr, compute_dtype="fp32").step()
    # What is summed in float32 is off by a few units in its last place, and so are the mean, the denominator
    # and the step; the step of a centred slice is at most lr, so these are units of the larger of it and the result.
    magnitude = np.maximum(np.abs(exact), np.float32(lr))
    assert_within_ulps(param, exact, limit=4, magnitude=magnitude, backend="torch without float64")
