"""Complete a matrix by the product of two factors, in NumPy.

    python examples/programs/factorization.py

A fifth of the entries of a 200 x 150 matrix of rank 5 is known, with a little noise. The score is the error on the
other entries.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from rose_core.schedules import set_lr, warmup_cosine
from rose_numpy import Rose

__all__ = ["main", "rose", "train"]

ROWS, COLUMNS, RANK = 200, 150, 5
KNOWN, NOISE, BATCH = 0.2, 0.1, 0.1


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the error."""
    parser = argparse.ArgumentParser(description="Complete a matrix by the product of two factors.")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if not (args.steps >= 1 and 0.0 < args.lr < math.inf and 0 <= args.seed < 2**64):
        parser.error(f"--steps must be >= 1, --lr a finite number > 0, and --seed in [0, 2**64), got {vars(args)}")
    error = train(rose, args.lr, args.steps, args.seed)
    print(f"root mean square error {error:.4f} on the unknown entries, of values with a deviation of 1")


def rose(weights: dict[str, np.ndarray], lr: float) -> Rose:
    """Return Rose without centering, which would fix the sum of each row of the factors."""
    return Rose(weights, lr, centralize=False, weight_decay=0.0)


def train(make: Callable[..., Any], lr: float, steps: int, seed: int) -> float:
    """Train with the peak learning rate `lr`, and return the root mean square error on the unknown entries."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(ROWS, RANK)) @ rng.normal(size=(RANK, COLUMNS)) / np.sqrt(RANK)
    known = rng.random(values.shape) < KNOWN
    observed = values + NOISE * rng.normal(size=values.shape)

    weights = {"left": 0.3 * rng.normal(size=(ROWS, RANK)), "right": 0.3 * rng.normal(size=(COLUMNS, RANK))}
    optimizer = make(weights, lr)
    schedule = partial(warmup_cosine, max_lr=lr, steps=steps, warmup_steps=steps // 20)
    for step in range(steps):
        set_lr(optimizer.param_groups, schedule(step), max_lr=lr)
        batch = known & (rng.random(values.shape) < BATCH)
        residual = np.where(batch, weights["left"] @ weights["right"].T - observed, 0.0)
        optimizer.step({"left": residual @ weights["right"], "right": residual.T @ weights["left"]})

    error = (weights["left"] @ weights["right"].T - values)[~known]
    return float(np.sqrt(np.mean(error**2)))


if __name__ == "__main__":
    main()
