"""Fit a linear model whose weights and data lie in memory-mapped files, in NumPy. A killed run continues.

    python examples/programs/resumed.py --folder /tmp/linear --kill-at 120
    python examples/programs/resumed.py --folder /tmp/linear

The first command kills itself with SIGKILL. The second one continues from the last checkpoint, or from the start if
there is none. It ends with the bits of a run without a break.
"""

import argparse
import hashlib
import math
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rose_core.schedules import set_lr, warmup_cosine
from rose_numpy import Rose, load, save

__all__ = ["main", "rose", "train"]

OUTPUTS, INPUTS, EXAMPLES, BATCH_SIZE = 16, 500, 4000, 200
MEAN, NOISE = 1.0, 0.04


def main(argv: Sequence[str] | None = None) -> None:
    """Train, or continue, and print the error and a hash of the weights."""
    parser = argparse.ArgumentParser(description="Fit a linear model in memory-mapped files, and continue killed runs.")
    parser.add_argument("--folder", type=Path, default=Path("linear"), help="folder of the files")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--every", type=int, default=50, help="number of steps between checkpoints")
    parser.add_argument("--kill-at", type=int, metavar="STEP", help="kill this process before a step")
    args = parser.parse_args(argv)
    if not (args.steps >= 1 and args.every >= 1 and 0.0 < args.lr < math.inf):
        parser.error(f"--steps and --every must be >= 1, and --lr a finite number > 0, got {vars(args)}")
    args.folder.mkdir(parents=True, exist_ok=True)
    weights = {"w": mapped(args.folder / "weights.npy", (OUTPUTS, INPUTS))}
    error = train(rose, args.lr, args.steps, 0, weights, args.folder / "run.safetensors", args.every, args.kill_at)
    print(f"mean square error {error:.5f}, noise {NOISE**2:.5f}")
    print(f"sha256 of the weights\n{hashlib.sha256(weights['w'].tobytes()).hexdigest()}")


def rose(weights: dict[str, np.ndarray], lr: float) -> Rose:
    """Return Rose for regression: without centering, which would fix the sum of each row."""
    return Rose(weights, lr, centralize=False, weight_decay=0.0)


def train(
    make: Callable[..., Any],
    lr: float,
    steps: int,
    seed: int,
    weights: dict[str, np.ndarray] | None = None,
    path: Path | None = None,
    every: int = 50,
    kill_at: int | None = None,
) -> float:
    """Train with the peak learning rate `lr`, and return the mean square error on new data."""
    weights = {"w": np.empty((OUTPUTS, INPUTS), np.float32)} if weights is None else weights
    optimizer, first = make(weights, lr), 0
    if path is not None and path.exists():
        first = load(path, weights, optimizer)["next"]
        print(f"continues at step {first}")
    else:
        weights["w"][:] = 0.0  # a run that was killed before its first checkpoint has changed them
    x, y = examples(seed, EXAMPLES)
    schedule = partial(warmup_cosine, max_lr=lr, steps=steps, warmup_steps=steps // 20)
    for step in range(first, steps):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        set_lr(optimizer.param_groups, schedule(step), max_lr=lr)
        rows = np.random.default_rng([seed, step]).integers(0, EXAMPLES, BATCH_SIZE)
        residual = x[rows] @ weights["w"].T - y[rows]
        optimizer.step({"w": residual.T @ x[rows] / BATCH_SIZE})
        if path is not None and (step + 1) % every == 0:
            save(path, weights, optimizer, extra={"next": step + 1})
    x, y = examples(seed, 1000, part=1)
    return float(np.mean((x @ weights["w"].T - y) ** 2))


def examples(seed: int, count: int, part: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs, and outputs of one linear model for each seed with noise."""
    true = np.random.default_rng(seed).normal(MEAN, 1.0, size=(OUTPUTS, INPUTS)) / np.sqrt(INPUTS)
    rng = np.random.default_rng([seed, 1, part])
    x = rng.normal(size=(count, INPUTS)).astype(np.float32)
    return x, (x @ true.T + NOISE * rng.normal(size=(count, OUTPUTS))).astype(np.float32)


def mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Open a memory-mapped array, or make one."""
    if path.exists():
        return np.lib.format.open_memmap(path, "r+")
    return np.lib.format.open_memmap(path, "w+", np.float32, shape)


if __name__ == "__main__":
    main()
