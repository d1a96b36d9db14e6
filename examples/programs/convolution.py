"""Train a convolutional network whose weights are bfloat16, in PyTorch, without a copy in float32.

    python examples/programs/convolution.py

Rose rounds the weights stochastically. Other optimizers round to nearest, and so lose the small updates of late steps.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import nn

from rose_core.schedules import set_lr, warmup_cosine
from rose_torch import Rose

__all__ = ["adam", "main", "rose", "train"]

BATCH_SIZE, TRAIN = 64, 1200


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the share of errors."""
    parser = argparse.ArgumentParser(description="Train a convolutional network in bfloat16 on handwritten digits.")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if not (args.steps >= 1 and 0.0 < args.lr < math.inf and 0 <= args.seed < 2**64):
        parser.error(f"--steps must be >= 1, --lr a finite number > 0, and --seed in [0, 2**64), got {vars(args)}")
    print(f"test accuracy {1.0 - train(rose, args.lr, args.steps, args.seed):.1%}")


def rose(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Return Rose with rounding noise that depends on the step only, so that runs can be repeated."""
    return Rose(params, lr, sr_seed=0)


adam = torch.optim.Adam


def train(make: Callable[..., torch.optim.Optimizer], lr: float, steps: int, seed: int) -> float:
    """Train with the peak learning rate `lr`, and return the share of errors on the test images."""
    pixels, digits = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    images = (pixels / 8.0 - 1.0).to(torch.bfloat16).reshape(-1, 1, 8, 8)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(digits), generator=generator)
    known, unknown = order[:TRAIN], order[TRAIN:]

    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    ).to(torch.bfloat16)
    optimizer = make(network.parameters(), lr)
    schedule = partial(warmup_cosine, max_lr=lr, steps=steps, warmup_steps=steps // 20)
    for step in range(steps):
        set_lr(optimizer.param_groups, schedule(step), max_lr=lr)
        batch = known[torch.randint(TRAIN, (BATCH_SIZE,), generator=generator)]
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[batch]).float(), digits[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        wrong = network(images[unknown]).argmax(dim=1) != digits[unknown]
    return float(wrong.float().mean())


if __name__ == "__main__":
    main()
