"""Compare Rose with the rules that you might take instead, on two small tasks.

    python examples/compare_rules.py

The tasks are a network for handwritten digits (NumPy), and a byte-level transformer (PyTorch) that is trained on
sources of Python's standard library. All rules have the same seeds, batches and numbers of steps. The learning rate is
swept with seed 0: from a usual one of the rule, in factors of about three, until neither neighbour is better, with the
weight decay 0.1. The best one is also tried without decay. The better pair is run with three other seeds. The script
prints a table for each task, and saves a plot. All runs are short: longer ones may rank the rules differently.
"""

import argparse
import math
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from arguments import Listed, integer_in
from comparison_runs import RULES, Outcome, compare
from comparison_tasks import TASKS
from matplotlib.figure import Figure
from tqdm import tqdm

__all__ = ["main"]

SMALL: Final = {"steps": 150, "width": 32, "layers": 1, "rules": Listed(name for name in RULES if "Kron" not in name)}
FULL: Final = {"steps": 1000, "width": 64, "layers": 2, "rules": Listed(RULES)}
TARGETS: Final = {"digits": 0.15, "transformer": 2.5}  # losses
ROSE, OTHERS = "#d55e00", "#0072b2"  # colours that colour-blind people can tell apart


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the rules, print the tables, and save the plot."""
    args = parse(argv)
    work = partial(compare, args.steps, (args.width, args.layers), args.seeds)
    jobs = [(task, rule) for task in reversed(TASKS) for rule in args.rules]  # the transformer takes longest
    found: dict[str, list[Outcome]] = {task: [] for task in TASKS}
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes, since the arrays are small
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        progress = tqdm(pool.imap_unordered(work, jobs), "comparing", len(jobs), unit="rule")
        for outcome in progress:
            found[outcome.task].append(outcome)
            progress.set_postfix_str(f"{outcome.rule}, {outcome.task}: {median(outcome.losses):.3g}", refresh=False)
    for task, of_task in found.items():
        of_task.sort(key=lambda outcome: median(outcome.losses))
        print("", *table(task, of_task), sep="\n")
    print(f"\nAll runs are short: {args.steps} steps. Losses and accuracies are medians over seeds 1 to {args.seeds}.")
    plot(found, f"Loss on unseen data after {args.steps} steps, and bytes of state a parameter", args.plot)
    print(f"plot saved as {args.plot}")


def table(task: str, of_task: list[Outcome]) -> Iterator[str]:
    """Yield the lines of the table of a task."""
    cost = "bytes of state a parameter | ms a step"
    yield f"| {task} | loss | accuracy | steps to {TARGETS[task]} | {cost} | lr | decay |"
    yield "|---" + "|--:" * 7 + "|"
    for outcome in of_task:
        scores, losses = [run.scores for run in outcome.runs], outcome.losses
        reached = [[step for step in each if each[step].loss <= TARGETS[task]] for each in scores]
        steps = median(min(each, default=math.inf) for each in reached)
        accuracy = median(run.final.accuracy for run in outcome.runs)
        ms = median(run.milliseconds for run in outcome.runs)
        cells = f"{outcome.rule} | {median(losses):.3f} ({losses[0]:.3f} to {losses[-1]:.3f}) | {accuracy:.1%}"
        cells += f" | {steps:g}" if steps < math.inf else " | never"
        yield f"| {cells} | {outcome.runs[0].state_bytes:.2g} | {ms:.2g} | {outcome.lr:g} | {outcome.weight_decay:g} |"


def plot(found: dict[str, list[Outcome]], title: str, path: Path) -> None:
    """Save a plot with a dot for each run. A row is a rule, the best one at the top."""
    figure = Figure(figsize=(12, 0.34 * max(map(len, found.values())) + 1.6), layout="constrained")
    figure.suptitle(title)
    for axes, (task, of_task) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        for row, outcome in enumerate(of_task):
            colour = ROSE if outcome.rule == "Rose" else OTHERS
            axes.plot(outcome.losses, [row] * len(outcome.runs), "o-", color=colour)
            label = f"   {outcome.runs[0].state_bytes:.2g} B"
            axes.text(outcome.losses[-1], row, label, va="center", color=colour, fontsize=9, clip_on=True)
        axes.set_yticks(range(len(of_task)), [outcome.rule for outcome in of_task])
        for tick, outcome in zip(axes.get_yticklabels(), of_task, strict=True):
            tick.set(color=ROSE if outcome.rule == "Rose" else "black")
        axes.set(title=task, xlabel="cross-entropy in nats", ylim=(len(of_task) - 0.5, -0.5))
        axes.margins(x=0.15)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120, format="png")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the checked options."""
    parser = argparse.ArgumentParser(
        description="Compare Rose with other rules on two small tasks.",
        epilog="The rules are " + ", ".join(RULES) + ".",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--rules", nargs="+", choices=tuple(RULES), metavar="RULE", help="rules to compare, listed below")
    add("--steps", type=integer_in(2, 10**6), metavar="N", help="number of training steps in a run")
    add("--seeds", type=integer_in(1, 100), default=3, metavar="N", help="number of seeds besides that of the sweep")
    add("--width", type=integer_in(2, 4096), metavar="N", help="width of the transformer, an even number")
    add("--layers", type=integer_in(1, 100), metavar="N", help="number of layers of the transformer")
    add("--processes", type=integer_in(1, 1024), default=2, metavar="N", help="number of processes")
    add("--full", action="store_true", help="more steps, a larger transformer, and Kron; may take hours")
    add("--plot", type=Path, metavar="PATH", default=Path("compare_rules.png"), help="PNG file to save the plot to")
    parser.set_defaults(**SMALL)
    args = parser.parse_args(argv)
    if args.full:
        parser.set_defaults(**FULL)
        args = parser.parse_args(argv)
    if args.width % 2:
        parser.error(f"--width: must be even, got {args.width}")
    if not args.plot.parent.is_dir():
        parser.error(f"--plot {args.plot}: the folder does not exist")
    return args


if __name__ == "__main__":
    main()
