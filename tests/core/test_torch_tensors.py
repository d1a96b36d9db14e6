"""Autograd history, lazy negation and a default device of torch change no bit of an update."""

import numpy as np
import pytest
import torch

import rose_core
from tests.adapters.models import normal, tensor
from tests.bits import assert_same_bits
from tests.strategies import (
    fill,
)

sizes = pytest.mark.parametrize("shape", [(), (5,), (3, 4)], ids=str)


@sizes
def test_a_default_device_is_ignored(shape: tuple[int, ...]) -> None:
    a, b = normal(0, shape), normal(1, shape)
    param, grad = tensor(a), tensor(b)
    with torch.device("meta"):
        result = rose_core.update(param, grad, lr=0.1)
        statistics = rose_core.slice_statistics(grad)
    assert_same_bits(result, rose_core.update(a, b, lr=0.1), backend="torch-1-thread")
    assert {value.device.type for value in statistics if value is not None} <= {"cpu"}


@sizes
@pytest.mark.parametrize("compute_dtype", ["fp64", "bf16"])
def test_a_lazy_negation_is_resolved(shape: tuple[int, ...], compute_dtype: str) -> None:
    a, b = normal(0, shape), normal(1, shape)
    grad = torch.complex(tensor(a), tensor(b)).conj().imag
    assert grad.is_neg()
    result = rose_core.update(tensor(a), grad, lr=0.1, compute_dtype=compute_dtype)
    expected = rose_core.update(a, -b, lr=0.1, compute_dtype=compute_dtype)
    assert_same_bits(result, expected, backend="torch-1-thread")


@sizes
def test_an_update_does_not_require_a_gradient(shape: tuple[int, ...]) -> None:
    a, b = normal(0, shape), normal(1, shape)
    param, grad = tensor(a).requires_grad_(), tensor(b).requires_grad_()
    result = rose_core.update(param, grad, lr=0.1)
    assert not result.requires_grad
    assert_same_bits(result.detach(), rose_core.update(a, b, lr=0.1), backend="torch-1-thread")


def test_autograd_history_changes_no_bit() -> None:
    rng = np.random.default_rng(3)
    param, grad = fill("normal", rng, (5, 7), "float32"), fill("normal", rng, (5, 7), "float32")
    leaf = torch.nn.Parameter(torch.from_numpy(param))
    history = torch.from_numpy(grad).requires_grad_() * 1.0
    result = rose_core.update(leaf, history, lr=0.1)
    assert_same_bits(result, rose_core.update(param, grad, lr=0.1), backend="torch-1-thread")
    assert not result.requires_grad
    assert type(result) is torch.Tensor
