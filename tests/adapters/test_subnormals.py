"""Steps keep subnormal numbers (ROSE-1.5), also after `torch.set_flush_denormal(True)`, and restore the mode."""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import rose_numpy
import rose_torch
from rose_core import peers, update
from tests.adapters.models import normal, parameter
from tests.bits import assert_same_bits

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the core cannot change the mode on this system"),
    pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor always keeps subnormal numbers"),
]

kernels_or_core = pytest.mark.parametrize("fused", [True, False], ids=["kernels", "core"])


class Case(NamedTuple):
    """A dtype, the magnitudes of a parameter and of its gradient, and a learning rate."""

    dtype: str
    param: float
    grad: float
    lr: float


TINY = Case("float64", 2.0**-1060, 1.0, 2.0**-1060)
cases = pytest.mark.parametrize(
    "case", [TINY, Case("float64", 1.0, 2.0**-1060, 0.5), Case("float32", 2.0**-140, 2.0**-140, 2.0**-140)]
)


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"], autouse=True)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@pytest.fixture
def _flushing() -> Iterator[None]:
    """Treat subnormal numbers as zeros, and check at the end that they still are."""
    torch.set_flush_denormal(True)
    yield
    still_flushes = np.float64(5e-324) * 1.0 == 0.0
    torch.set_flush_denormal(False)
    assert still_flushes


def step_of(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a parameter, its gradient, and the parameter after a step."""
    scales = (np.dtype(case.dtype).type(scale) for scale in (case.param, case.grad))
    param, grad = (normal(seed, (400, 300), case.dtype) * scale for seed, scale in enumerate(scales))
    expected = update(param, grad, lr=case.lr, weight_decay=0.5)
    assert np.any(expected != param)
    return param, grad, expected


@cases
@kernels_or_core
def test_a_step_of_numpy(case: Case, fused: bool, request: pytest.FixtureRequest) -> None:
    param, grad, expected = step_of(case)
    request.getfixturevalue("_flushing")
    rose_numpy.Rose([param], lr=case.lr, weight_decay=0.5, fused=fused).step([grad])
    torch.set_flush_denormal(False)
    assert_same_bits(param, expected, backend="rose_numpy")
    torch.set_flush_denormal(True)


@cases
@kernels_or_core
def test_a_step_of_torch(case: Case, fused: bool, request: pytest.FixtureRequest) -> None:
    array, grad, expected = step_of(case)
    param = parameter(array, grad)
    request.getfixturevalue("_flushing")
    rose_torch.Rose([param], lr=case.lr, weight_decay=0.5, fused=fused).step()
    torch.set_flush_denormal(False)
    assert_same_bits(param, expected, backend="rose_torch")
    torch.set_flush_denormal(True)


@pytest.mark.parametrize("library", [rose_numpy, rose_torch])
def test_a_hessian_and_an_average_of_a_rule(library: Any, request: pytest.FixtureRequest) -> None:
    """All results are subnormal in float64."""
    tiny = normal(0, (400, 300), "float64") * 2.0**-1060
    of_library = np.copy if library is rose_numpy else parameter
    sophia = library.Optimizer([of_library(tiny)], peers.SophiaH(betas=(0.0, 0.5)), lr=0.25)
    free = library.Optimizer([param := of_library(tiny)], peers.ScheduleFree(peers.SGD()), lr=0.25)
    if library is rose_numpy:
        free.step([tiny])
    else:
        param.grad = torch.from_numpy(tiny)
        free.step()
    (expected,) = free.evaluation_params() if library is rose_numpy else free.evaluation_params()[0]
    hessian = of_library(tiny)
    request.getfixturevalue("_flushing")
    sophia.update_hessian([hessian])
    (evaluated,) = free.evaluation_params() if library is rose_numpy else free.evaluation_params()[0]
    torch.set_flush_denormal(False)
    assert_same_bits(sophia.state_dict()["state"][0]["hessian"], 0.0 + 0.5 * tiny)
    assert_same_bits(evaluated, expected)
    torch.set_flush_denormal(True)


@kernels_or_core
def test_a_step_in_backward(fused: bool, request: pytest.FixtureRequest) -> None:
    array, grad, expected = step_of(TINY)
    model = torch.nn.ParameterList([parameter(array)])
    weights = torch.from_numpy(grad)
    request.getfixturevalue("_flushing")
    with rose_torch.attach(model, lr=TINY.lr, weight_decay=0.5, fused=fused) as optimizer:
        model[0].backward(weights)
        optimizer.step()
    torch.set_flush_denormal(False)
    assert_same_bits(model[0], expected, backend="rose_torch attached")
    torch.set_flush_denormal(True)


def test_a_step_that_raises_restores_the_mode(request: pytest.FixtureRequest) -> None:
    param, grad, _ = step_of(TINY)
    optimizer = rose_numpy.Rose([param], lr=0.1)
    request.getfixturevalue("_flushing")
    with pytest.raises(ValueError, match="shape"):
        optimizer.step([grad[1:]])
