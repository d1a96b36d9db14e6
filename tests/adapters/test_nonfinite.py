"""The option `nonfinite`: a step with an infinity or a NaN in a gradient propagates it, is skipped whole, or raises."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import rose_numpy
import rose_torch
from rose_core import update
from tests.adapters.models import normal, parameter
from tests.adapters.refusals import raises
from tests.bits import DTYPES, assert_same_bits, host

SHAPES = [(4, 6), (5,), ()]
BAD = [float("inf"), float("-inf"), float("nan")]


class Run:
    """An optimizer of either library with its parameters, and a function that steps with NumPy gradients."""

    def __init__(self, dtype: str, **options: Any) -> None:
        self.before = [normal(number, shape, dtype) for number, shape in enumerate(SHAPES)]
        self.optimizer: Any = None
        self.make(options)

    def make(self, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def step(self, grads: list[np.ndarray]) -> None:
        raise NotImplementedError

    def params(self) -> list[np.ndarray]:
        raise NotImplementedError


class NumpyRun(Run):
    """A run of `rose_numpy.Rose`."""

    def make(self, options: dict[str, Any]) -> None:
        self.arrays = [x.copy() for x in self.before]
        self.optimizer = rose_numpy.Rose(self.arrays, lr=0.1, wd_schedule=True, **options)

    def step(self, grads: list[np.ndarray]) -> None:
        self.optimizer.step(grads)

    def params(self) -> list[np.ndarray]:
        return self.arrays


class TorchRun(Run):
    """A run of `rose_torch.Rose`."""

    def make(self, options: dict[str, Any]) -> None:
        self.tensors = [parameter(x) for x in self.before]
        self.optimizer = rose_torch.Rose(self.tensors, lr=0.1, wd_schedule=True, sr_seed=0, **options)

    def step(self, grads: list[np.ndarray]) -> None:
        for tensor, grad in zip(self.tensors, grads, strict=True):
            tensor.grad = parameter(grad).data
        self.optimizer.step()

    def params(self) -> list[np.ndarray]:
        return [host(x) for x in self.tensors]


runs = pytest.mark.parametrize("run_of", [NumpyRun, TorchRun])
dtypes = pytest.mark.parametrize("dtype", DTYPES)
fused = pytest.mark.parametrize("fused", [True, False], ids=["kernels", "core"])


def grads_of(dtype: str, bad: float | None = None, position: int = 0) -> list[np.ndarray]:
    grads = [normal(10 + number, shape, dtype) for number, shape in enumerate(SHAPES)]
    if bad is not None:
        grads[position][(-1,) * grads[position].ndim] = bad
    return grads


@runs
@dtypes
@fused
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("position", range(len(SHAPES)))
def test_a_bad_step_is_skipped_whole(run_of: type[Run], dtype: str, fused: bool, bad: float, position: int) -> None:
    run, plain = run_of(dtype, nonfinite="skip", fused=fused), run_of(dtype, fused=fused)
    run.step(grads_of(dtype, bad, position))
    for got, want in zip(run.params(), run.before, strict=True):
        assert_same_bits(got, want)
    assert run.optimizer.skipped_steps == 1
    assert run.optimizer.param_groups[0]["step"] == 0
    assert "initial_lr" not in run.optimizer.param_groups[0]
    for each in (run, plain):
        each.step(grads_of(dtype))
    for got, want in zip(run.params(), plain.params(), strict=True):
        assert_same_bits(got, want)
    assert run.optimizer.skipped_steps == 1


NAMES: dict[type[Run], Callable[[int], str]] = {
    NumpyRun: lambda position: f"params[{position}]",
    TorchRun: lambda position: f"parameter {position} of group 0",
}


@runs
@pytest.mark.parametrize("position", range(len(SHAPES)))
def test_a_bad_step_raises_and_changes_nothing(run_of: type[Run], position: int) -> None:
    run = run_of("float32", nonfinite="raise")
    expected = (
        f"the gradient of {NAMES[run_of](position)} has an infinity or a NaN, which nonfinite='raise' refuses; allowed "
        "are 'propagate', as the rule does, and 'skip', which leaves such a step out"
    )
    with raises(FloatingPointError, expected):
        run.step(grads_of("float32", BAD[0], position))
    for got, want in zip(run.params(), run.before, strict=True):
        assert_same_bits(got, want)
    assert run.optimizer.param_groups[0]["step"] == 0


@runs
def test_by_default_a_bad_gradient_propagates(run_of: type[Run]) -> None:
    run, grads = run_of("float32"), grads_of("float32", BAD[2])
    run.step(grads)
    for got, param, grad in zip(run.params(), run.before, grads, strict=True):
        assert_same_bits(got, update(param, grad, lr=0.1, lr_reference=0.1))
    assert np.isnan(run.params()[0]).any()


@runs
@pytest.mark.parametrize("value", ["ignore", None, True])
def test_another_value_raises(run_of: type[Run], value: Any) -> None:
    with raises(ValueError, f"nonfinite must be one of 'propagate', 'skip', 'raise', got {value!r}"):
        run_of("float32", nonfinite=value)


@runs
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_copy_skips_too(run_of: type[Run], copied: Callable[[Any], Any]) -> None:
    run = run_of("float32", nonfinite="skip")
    run.step(grads_of("float32", BAD[0]))
    run.optimizer = copied(run.optimizer)
    assert run.optimizer.skipped_steps == 1
    for param, grad in zip(run.optimizer.param_groups[0]["params"], grads_of("float32", BAD[0]), strict=True):
        if isinstance(param, torch.Tensor):
            param.grad = parameter(grad).data
    run.optimizer.step(*([] if run_of is TorchRun else [grads_of("float32", BAD[0])]))
    assert run.optimizer.skipped_steps == 2


def test_attach_needs_propagate() -> None:
    model = torch.nn.Linear(3, 2)
    expected = "nonfinite='skip' needs all gradients before the first update; allowed is 'propagate'"
    with raises(ValueError, expected):
        rose_torch.attach(model, lr=0.1, nonfinite="skip")
    rose_torch.attach(model, lr=0.1).detach()


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_a_traced_step_is_refused(nonfinite: str) -> None:
    param = parameter(normal(0, (3, 4)), np.full((3, 4), np.nan, np.float32))
    before = param.detach().clone()
    expected = (
        f"nonfinite={nonfinite!r} reads the gradients, which have no values where torch traces or transforms a step; "
        "allowed is 'propagate'"
    )
    with FlopCounterMode(display=False), raises(RuntimeError, expected):
        rose_torch.Rose([param], lr=0.1, nonfinite=nonfinite).step()
    assert torch.equal(param, before)


@runs
@pytest.mark.parametrize("option", ["nonfinite", "fused"])
def test_an_option_of_the_constructor_is_no_attribute(run_of: type[Run], option: str) -> None:
    run = run_of("float32")
    with raises(AttributeError, f"{option} is an option of the constructor; pass it to a new optimizer"):
        setattr(run.optimizer, option, "skip")


def test_a_group_cannot_skip_steps() -> None:
    expected = "nonfinite is an option of the optimizer, for a whole step; a param group cannot have it"
    with raises(TypeError, expected):
        rose_torch.Rose([{"params": [parameter(normal(0, (3,)))], "nonfinite": "skip"}], lr=0.1)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_a_gradient_without_elements_is_finite(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.float32)
    optimizer = rose_numpy.Rose([array], lr=0.1, nonfinite="raise")
    optimizer.step([array.copy()])
    assert optimizer.param_groups[0]["step"] == 1
