"""Noise from torch's generators is drawn in the order of the parameters, also if words are drawn ahead."""

from typing import Any

import numpy as np
import pytest
import torch

import rose_torch
from rose_torch import step
from tests.adapters.models import assert_same_model, core_step, normal, parameter
from tests.bits import host

SHAPES: dict[str, tuple[int, ...]] = {"scale": (), "bias": (70,), "weight": (6, 30), "kernel": (5, 2, 3, 3)}
COUNT = 5


def model(dtype: str, first: int) -> dict[str, np.ndarray]:
    """Return several arrays of each shape, all with different values."""
    return {
        f"{name} {number}": normal(first + number, shape, dtype)
        for number in range(COUNT)
        for name, shape in SHAPES.items()
    }


def stepped(params: dict[str, np.ndarray], grads: dict[str, np.ndarray], **options: Any) -> dict[str, Any]:
    """Return the parameters after a step."""
    tensors = {name: parameter(x, grads[name]) for name, x in params.items()}
    rose_torch.Rose(tensors.values(), **options).step()
    return {name: host(x) for name, x in tensors.items()}


@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("max_words", [7, 200, 300, 500, 2**19])
def test_drawn_noise_is_drawn_in_the_order_of_the_parameters(
    max_words: int, fused: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words are drawn ahead for none of the parameters, for small ones, or for all."""
    monkeypatch.setattr(step, "_MAX_WORDS", max_words)
    params, grads = model("bfloat16", 0), model("bfloat16", 100)
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.empty(x.shape, dtype=torch.int32).random_(0, 2**16, generator=generator) for x in params.values()]
    expected = core_step(params, grads, lr=0.1, words=[x.numpy() for x in drawn])
    result = stepped(params, grads, lr=0.1, bf16_sr=torch.Generator().manual_seed(5), fused=fused)
    assert_same_model(result, expected, "rose_torch")
