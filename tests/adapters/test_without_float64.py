"""On a device without float64, the compute dtype fp64 raises, and fp32 is close to exact (ROSE-12.2)."""

from typing import Any

import array_api_strict
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import rose_core
import rose_torch
from rose_core.namespace import arrays
from rose_torch import Rose
from tests.adapters.models import core_step, normal, parameter, valid_groups
from tests.adapters.refusals import raises, refuses
from tests.bits import assert_within_ulps

TEXT = (
    'compute_dtype="fp64" needs float64, which device {} does not have; use compute_dtype="fp32", whose results are '
    "not bit-exact there"
)


class NoFloat64(TorchDispatchMode):
    """A device without float64, like MPS."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        assert getattr(result, "dtype", None) != torch.float64, f"{func} made a float64 tensor"
        return result


@pytest.fixture
def no_float64(monkeypatch: pytest.MonkeyPatch) -> NoFloat64:
    """Let the core treat the CPU as a device without float64, and return a mode that raises for float64 tensors."""
    monkeypatch.setattr(arrays, "_WITHOUT_FLOAT64", {"cpu"})
    return NoFloat64()


def test_a_torch_step_at_fp64_raises(no_float64: NoFloat64) -> None:
    optimizer = Rose(valid_groups(), lr=0.1)
    with refuses(optimizer, ValueError, TEXT.format("cpu")), no_float64:
        optimizer.step()


@pytest.mark.usefixtures("no_float64")
def test_a_diagnosis_at_fp64_raises() -> None:
    with raises(ValueError, TEXT.format("cpu")):
        rose_torch.diagnose(Rose(valid_groups(), lr=0.1))


@pytest.mark.parametrize("shape", [(64, 100), (8, 3, 3, 3), (1000,), (), (3, 4096)], ids=str)
def test_a_torch_step_at_fp32_is_within_4_ulps(shape: tuple[int, ...], no_float64: NoFloat64) -> None:
    lr = 0.1
    param = parameter(normal(0, shape), normal(1, shape))
    exact = core_step({"p": normal(0, shape)}, {"p": normal(1, shape)}, lr=lr, compute_dtype="fp32")["p"]
    with no_float64:
        Rose([param], lr=lr, compute_dtype="fp32").step()
    # Sums in float32 are off by a few ulps, and so are the mean, the denominator and the step. The step of a centered
    # slice is at most lr. The limit is therefore in ulps of the larger of lr and the result.
    magnitude = np.maximum(np.abs(exact), np.float32(lr))
    assert_within_ulps(param, exact, limit=4, magnitude=magnitude, backend="torch without float64")


def test_the_device_of_a_library_that_follows_the_standard_is_recognized() -> None:
    device, values = array_api_strict.Device("no_float64"), normal(0, (3, 4))
    x = array_api_strict.asarray(values, dtype=array_api_strict.float32, device=device)
    with raises(ValueError, TEXT.format(device)):
        rose_core.update(x, x, lr=0.1)
    result = rose_core.update(x, x, lr=0.1, compute_dtype="fp32")
    exact = rose_core.update(values, values, lr=0.1, compute_dtype="fp32")
    on_cpu = result.to_device(array_api_strict.Device("CPU_DEVICE"))
    # The mean of 4 values and the mean of 3 are computed in float32 instead of float64. Each is off by an ulp or two.
    magnitude = np.maximum(np.abs(values), np.abs(exact))
    assert_within_ulps(on_cpu, exact, limit=4, magnitude=magnitude, backend="without float64")
