"""Approximate the posterior of a logistic regression by a Gaussian, in NumPy (variational inference).

    python examples/programs/inference.py

The means and the logarithms of the deviations are two vectors, and each is one slice. Their gradients differ between
the elements, so no range is small: no element moves by more than 1.1 times the learning rate.
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

EXAMPLES, FEATURES, SAMPLES = 500, 20, 4


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print the bound."""
    parser = argparse.ArgumentParser(description="Approximate the posterior of a logistic regression.")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--lr", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if not (args.steps >= 1 and 0.0 < args.lr < math.inf and 0 <= args.seed < 2**64):
        parser.error(f"--steps must be >= 1, --lr a finite number > 0, and --seed in [0, 2**64), got {vars(args)}")
    print(f"negative evidence lower bound {train(rose, args.lr, args.steps, args.seed):.3f} nats")


def rose(weights: dict[str, np.ndarray], lr: float) -> Rose:
    """Return Rose without weight decay, which the prior replaces. Vectors are neither centered nor blended."""
    return Rose(weights, lr, weight_decay=0.0)


def train(make: Callable[..., Any], lr: float, steps: int, seed: int) -> float:
    """Train with the peak learning rate `lr`, and return the negative evidence lower bound."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(EXAMPLES, FEATURES))
    labels = np.where(rng.random(EXAMPLES) < 1.0 / (1.0 + np.exp(-x @ rng.normal(size=FEATURES))), 1.0, -1.0)

    weights = {"mean": np.zeros(FEATURES), "log deviation": np.full(FEATURES, -1.0)}
    optimizer = make(weights, lr)
    schedule = partial(warmup_cosine, max_lr=lr, steps=steps, warmup_steps=steps // 20)
    for step in range(steps):
        set_lr(optimizer.param_groups, schedule(step), max_lr=lr)
        _, grads = bound_and_gradients(weights, x, labels, rng.normal(size=(SAMPLES, FEATURES)))
        optimizer.step(grads)
    # The same samples for every run.
    return bound_and_gradients(weights, x, labels, np.random.default_rng(0).normal(size=(2000, FEATURES)))[0]


def bound_and_gradients(
    weights: dict[str, np.ndarray], x: np.ndarray, labels: np.ndarray, noise: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    """Return the negative evidence lower bound and its gradients, from samples of a standard normal distribution."""
    mean, deviation = weights["mean"], np.exp(weights["log deviation"])
    margins = labels * ((mean + noise * deviation) @ x.T)
    loss = np.logaddexp(0.0, -margins).sum(axis=1).mean()
    prior = 0.5 * (mean**2 + deviation**2 - 1.0).sum() - weights["log deviation"].sum()
    of_samples = -(labels / (1.0 + np.exp(margins))) @ x / len(noise)
    of_log_deviation = (of_samples * noise).sum(axis=0) * deviation + deviation**2 - 1.0
    return float(loss + prior), {"mean": of_samples.sum(axis=0) + mean, "log deviation": of_log_deviation}


if __name__ == "__main__":
    main()
