"""Small models, their batches, and the plain training loop for the comparison with frameworks."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import nn

from tests.bits import assert_same_bits

__all__ = [
    "NOT_INSTALLED",
    "Regression",
    "assert_same_weights",
    "batches",
    "language_model",
    "plain_loop",
    "token_rows",
]

NOT_INSTALLED: Final = "the frameworks are not installed (pip install '.[frameworks]')"

VOCABULARY: Final = 32
LENGTH: Final = 12


class Regression(nn.Module):
    """A small network with matrices, biases and scales. It returns its loss."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
        self.to(dtype)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error."""
        return (self.layers(x) - y).square().mean()


def batches(count: int, dtype: torch.dtype = torch.float32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return batches for the regression. They are the same in every call."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(5, 6, generator=generator).to(dtype), torch.randn(5, 3, generator=generator).to(dtype))
        for _ in range(count)
    ]


def language_model(dtype: torch.dtype = torch.float32) -> Any:
    """Return a language model of Transformers with random weights. It is the same in every call."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=LENGTH,
        bos_token_id=0,
        eos_token_id=1,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).to(dtype)


def token_rows(count: int) -> list[dict[str, torch.Tensor]]:
    """Return rows of random tokens. They are the same in every call."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(VOCABULARY, (count, LENGTH), generator=generator)
    labels = rows.clone()
    labels[:, 0] = -100  # no token predicts the first one, and some versions of Transformers ignore that
    return [{"input_ids": row, "labels": label} for row, label in zip(rows, labels, strict=True)]


def plain_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: Iterable[Sequence[Any]],
    loss_of: Callable[[nn.Module, Any], torch.Tensor],
    *,
    schedule: Any = None,
    clip: float | None = None,
    autocast: torch.dtype | None = None,
) -> None:
    """Train with a loop as in the documentation of torch. The gradients of all batches of a step are added."""
    for micro_batches in steps:
        optimizer.zero_grad()
        for batch in micro_batches:
            with _precision(autocast):
                loss = loss_of(model, batch)
            loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if schedule is not None:
            schedule.step()


def assert_same_weights(model: nn.Module, expected: nn.Module) -> None:
    """Raise unless every parameter has the expected bits."""
    pairs = zip(model.named_parameters(), expected.named_parameters(), strict=True)
    for (name, param), (expected_name, want) in pairs:
        assert name == expected_name
        assert_same_bits(param, want, backend="frameworks", what=name)


def _precision(autocast: torch.dtype | None) -> AbstractContextManager[Any]:
    return nullcontext() if autocast is None else torch.autocast("cpu", autocast)
