"""Solve a differential equation with a small network in PyTorch (a physics-informed neural network, PINN).

    python examples/programs/pinn.py

The equation is -u'' = pi^2 sin(pi x) on [-1, 1] with u = 0 at both ends. Its solution is sin(pi x). Rose does badly
here: its error is about 30 times that of Adam (``--optimizer adam``), each with its best learning rate. The command
``python examples/learning_rates.py --tasks PINN`` measures both.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from rose_core.schedules import set_lr, warmup_cosine
from rose_torch import Rose

__all__ = ["adam", "main", "rose", "train"]

WIDTH = 32
POINTS = 64


class Network(nn.Module):
    """A network with one input. The weight of its first layer is one row: a slice of one element cannot be centered."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(1, WIDTH))
        self.offset = nn.Parameter(torch.randn(WIDTH))
        self.middle = nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(x @ self.first + self.offset)
        return self.last(torch.tanh(self.middle(hidden)))


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the error."""
    parser = argparse.ArgumentParser(description="Solve a differential equation with a small network.")
    parser.add_argument("--optimizer", choices=("rose", "adam"), default="rose")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if not (args.steps >= 1 and 0.0 < args.lr < math.inf and 0 <= args.seed < 2**64):
        parser.error(f"--steps must be >= 1, --lr a finite number > 0, and --seed in [0, 2**64), got {vars(args)}")
    error = train({"rose": rose, "adam": adam}[args.optimizer], args.lr, args.steps, args.seed)
    print(f"relative error of u {error:.4f} after {args.steps} steps of {args.optimizer}")


def rose(params: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Return Rose for regression: without centering, which would fix the sum of each row."""
    return Rose(params, lr, centralize=False, weight_decay=0.0)


adam = torch.optim.Adam


def train(make: Callable[..., torch.optim.Optimizer], lr: float, steps: int, seed: int) -> float:
    """Train with the peak learning rate `lr`, and return the root mean square error relative to the solution's."""
    torch.manual_seed(seed)
    network = Network()
    optimizer = make(network.parameters(), lr)
    schedule = partial(warmup_cosine, max_lr=lr, steps=steps, warmup_steps=steps // 20)
    for step in range(steps):
        set_lr(optimizer.param_groups, schedule(step), max_lr=lr)
        optimizer.zero_grad()
        loss(network, 2.0 * torch.rand(POINTS, 1) - 1.0).backward()
        optimizer.step()

    x = torch.linspace(-1.0, 1.0, 501)[:, None]
    with torch.no_grad():
        error, solution = network(x) - torch.sin(math.pi * x), torch.sin(math.pi * x)
    return float((error.square().mean() / solution.square().mean()).sqrt())


def loss(network: nn.Module, x: Tensor) -> Tensor:
    """Return the mean square of the residual of the equation, plus that of u at the ends."""
    x.requires_grad_()
    u = network(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (ddu,) = torch.autograd.grad(du.sum(), x, create_graph=True)
    residual = ddu / math.pi**2 + torch.sin(math.pi * x)
    ends = network(torch.tensor([[-1.0], [1.0]]))
    return residual.square().mean() + ends.square().mean()


if __name__ == "__main__":
    main()
