"""Measure the best learning rate of Rose relative to Adam's, on the tasks of `examples/programs/`.

    python examples/learning_rates.py

Each task is trained with Adam and with Rose, with every learning rate of a grid and with every seed. All runs warm up
and decay along a cosine. The best learning rate of a seed is the geometric mean of those whose score is within 2 % of
the best score, so that a plateau counts by its middle. Scores are errors or losses: lower is better. The table shows
the median and the extremes over the seeds.
"""

import argparse
import importlib
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import ml_dtypes
import numpy as np
import torch
from arguments import integer_in, positive_number
from tqdm import tqdm

import rose_numpy
from rose_kernels.availability import reason_of_absence

__all__ = ["TASKS", "main", "measure"]

LEARNING_RATES: Final = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
PLATEAU: Final = 1.02


class AdamOfNumpy:
    """torch's Adam over NumPy arrays, whose memory torch shares."""

    def __init__(self, weights: dict[str, np.ndarray], lr: float) -> None:
        self.params = {name: torch.nn.Parameter(torch.from_numpy(array)) for name, array in weights.items()}
        self.optimizer = torch.optim.Adam(self.params.values(), lr)
        self.param_groups = self.optimizer.param_groups

    def step(self, grads: dict[str, np.ndarray]) -> None:
        """Update the arrays in place."""
        for name, grad in grads.items():
            self.params[name].grad = torch.from_numpy(grad)
        self.optimizer.step()


def centered(weights: dict[str, np.ndarray], lr: float) -> rose_numpy.Rose:
    """Return Rose with its default, which centers."""
    return rose_numpy.Rose(weights, lr, weight_decay=0.0)


class Task(NamedTuple):
    """A program, the number of steps, and the optimizer in place of the program's `rose`, if any."""

    program: str
    steps: int
    rose: Callable[..., Any] | None = None


TASKS: Final = {
    "matrix factorization": Task("factorization", 300),
    "linear model, 16 x 500": Task("resumed", 200),
    "the same, centered": Task("resumed", 200, centered),
    "variational inference": Task("inference", 200),
    "conv net in bfloat16": Task("convolution", 150),
    "char transformer": Task("transformer", 150),
    "PINN": Task("pinn", 500),
}
SHORTEST: Final = min(task.steps for task in TASKS.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Measure the best learning rate of Rose relative to Adam's.")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS), metavar="TASK")
    parser.add_argument("--lrs", nargs="+", type=positive_number, default=list(LEARNING_RATES), help="the grid")
    parser.add_argument("--seeds", type=integer_in(1, 1000), default=3, help="number of seeds")
    parser.add_argument(
        "--shorter", type=integer_in(1, SHORTEST), default=1, help="divide the numbers of steps by this"
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if not reason_of_absence():
        for dtype in (np.float32, np.float64, ml_dtypes.bfloat16):  # load the kernels now, since the core is slower
            array = np.ones(2, dtype)
            rose_numpy.Rose([array], 0.1, fused=True).step([array.copy()])
    print("| task | Adam | its lr | Rose | its lr | lr relative to Adam's |\n|---|--:|--:|--:|--:|--:|")
    for name in args.tasks:
        print(f"| {name} | " + " | ".join(row(*measure(name, args.lrs, args.seeds, args.shorter))) + " |", flush=True)


Best = list[tuple[float, float]]  # the score and the learning rate of each seed


def measure(name: str, lrs: Sequence[float], seeds: int, shorter: int = 1) -> tuple[Best, Best]:
    """Return the best scores and the best learning rates of Adam and of Rose."""
    task = TASKS[name]
    program = importlib.import_module(f"programs.{task.program}")
    found: tuple[Best, Best] = ([], [])
    for best, make in zip(found, (getattr(program, "adam", AdamOfNumpy), task.rose or program.rose), strict=True):
        for seed in range(seeds):
            with np.errstate(all="ignore"):  # large learning rates overflow
                runs = tqdm(lrs, f"{name}, seed {seed}", leave=False)
                best.append(best_of({lr: program.train(make, lr, task.steps // shorter, seed) for lr in runs}))
    return found


def best_of(scores: dict[float, float]) -> tuple[float, float]:
    """Return the best score, and the geometric mean of the learning rates that come near to it."""
    best = min((score for score in scores.values() if math.isfinite(score)), default=math.nan)
    near = [lr for lr, score in scores.items() if score <= PLATEAU * best]
    return best, statistics.geometric_mean(near) if near else math.nan


def row(adam: Best, rose: Best) -> list[str]:
    """Return the cells of a row."""
    ratios = [of_rose / of_adam for (_, of_adam), (_, of_rose) in zip(adam, rose, strict=True)]
    cells = []
    for best in (adam, rose):
        scores, lrs = zip(*best, strict=True)
        cells += [spread(scores, ".3g"), spread(lrs, ".1g")]
    return [*cells, spread(ratios, ".1g")]


def spread(values: Sequence[float], digits: str) -> str:
    """Return the median, and the smallest and the largest value if they differ from it."""
    three = min(values), statistics.median(values), max(values)
    low, middle, high = (f"{float(format(value, digits)):g}" for value in three)
    return middle if low == high else f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
