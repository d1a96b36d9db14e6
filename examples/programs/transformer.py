"""Train a small transformer that predicts characters, in PyTorch, moved from AdamW to Rose in one line.

    python examples/programs/transformer.py

The text is the documentation that every Python carries. Rose keeps up with AdamW (``--optimizer adam``) for a
few hundred steps, and falls behind in longer runs.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn

from rose_core.schedules import set_lr, warmup_cosine
from rose_torch import Rose

__all__ = ["Transformer", "adam", "main", "rose", "train"]

WIDTH, HEADS, LAYERS, CONTEXT, BATCH_SIZE = 64, 4, 2, 48, 16
TEXT = 200_000  # characters


class Transformer(nn.Module):
    """A causal transformer over characters."""

    def __init__(self, characters: int, context: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.positions = nn.Parameter(0.02 * torch.randn(context, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, characters))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(context))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embedding(x) + self.positions, mask=self.mask, is_causal=True))


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the loss on the last tenth of the text."""
    parser = argparse.ArgumentParser(description="Train a small transformer that predicts characters.")
    parser.add_argument("--optimizer", choices=("rose", "adam"), default="rose")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=3e-2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if not (args.steps >= 1 and 0.0 < args.lr < math.inf and 0 <= args.seed < 2**64):
        parser.error(f"--steps must be >= 1, --lr a finite number > 0, and --seed in [0, 2**64), got {vars(args)}")
    torch.set_num_threads(1)  # the last bits depend on the number of threads
    loss = train({"rose": rose, "adam": adam}[args.optimizer], args.lr, args.steps, args.seed)
    print(f"validation loss {loss:.3f} nats after {args.steps} steps of {args.optimizer}")


def adam(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Return the optimizer before the move."""
    return torch.optim.AdamW(params, lr, weight_decay=0.01)


def rose(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Return the optimizer after the move."""
    return Rose(params, lr)


def train(make: Callable[..., torch.optim.Optimizer], lr: float, steps: int, seed: int) -> float:
    """Train with the peak learning rate `lr`, and return the validation loss."""
    text = "".join(topics.values())[:TEXT]
    characters = {character: index for index, character in enumerate(sorted(set(text)))}
    data = torch.tensor([characters[character] for character in text])
    known, unknown = data[: 9 * len(data) // 10], data[9 * len(data) // 10 :]

    torch.manual_seed(seed)
    model = Transformer(len(characters), CONTEXT, WIDTH, HEADS, LAYERS)
    optimizer = make(model.parameters(), lr)
    schedule = partial(warmup_cosine, max_lr=lr, steps=steps, warmup_steps=steps // 20)
    for step in range(steps):
        set_lr(optimizer.param_groups, schedule(step), max_lr=lr)
        optimizer.zero_grad()
        loss_of(model, known, BATCH_SIZE).backward()
        optimizer.step()
    torch.manual_seed(0)  # the same batch for every run
    with torch.no_grad():
        return float(loss_of(model, unknown, 200))


def loss_of(model: nn.Module, data: Tensor, batch_size: int) -> Tensor:
    """Return the mean loss of the next characters at random places of a text."""
    starts = torch.randint(len(data) - CONTEXT, (batch_size, 1))
    rows = data[starts + torch.arange(CONTEXT + 1)]
    return nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


if __name__ == "__main__":
    main()
