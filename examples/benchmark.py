"""Measure the time and the memory of a step of Rose, and of rose-opt, AdamW and SGD for comparison.

    python examples/benchmark.py
    python examples/benchmark.py --cases gpt --dtypes bfloat16 --threads 1 2
    python examples/benchmark.py --full --json benchmark.json

Times are compared with `torch.add(x, y, out=z)` in float32 over as many elements, which is bound by memory: it moves
12 bytes for each element. All optimizers run in one process, one after another, in many rounds. The ratios of a
round therefore hold even if the speed of the machine changes. The cases have the shapes of real models, by default
with fewer rows.
"""

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Final

import psutil
import torch
from arguments import Listed, integer_in
from benchmark_cases import ADD, CASES, CONTENDERS, Contender, parameters_in
from benchmark_measurement import DTYPES, Plan, Result, TooLargeError, measure, memory_obstacle, normal
from benchmark_report import legend, plot, save, scaling_table, summary, table
from rich.console import Console
from tqdm import tqdm

MISSING: Final = {
    "numba": "Numba is not installed, so the fused kernels are not measured",
    "rose_opt": "rose-opt is not installed, so there is no speed relative to it",
}
SCALED: Final = {ADD, "rose_torch fused fp64", "rose-opt fp64", "AdamW fused"}
CORES: Final = os.cpu_count() or 1
DEFAULTS: Final = {
    "cases": Listed(["gpt", "resnet50", "small"]),
    "threads": Listed([torch.get_num_threads()]),
    "elements": 4 * 10**6,
    "scaling": Listed([10**6, 3 * 10**6, 10**7, 3 * 10**7]),
}
FULL: Final = {
    "cases": tuple(CASES),
    "threads": tuple(sorted({1, min(2, CORES)})),
    "elements": 10**9,
    "scaling": (10**6, 3 * 10**6, 10**7, 3 * 10**7, 10**8, 2 * 10**8, 4 * 10**8),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and save the results, and return the exit status."""
    args = parse(argv)
    # In Markdown each row must fit on one line.
    console = Console(width=200) if args.markdown else Console()
    contenders, notes = available_contenders()
    notes += disturbances()
    with_memory = not args.no_memory
    if with_memory and (obstacle := memory_obstacle()):
        notes.append(f"The memory of a step is not measured, since {obstacle}")
        with_memory = False

    compile_kernels(contenders, args.dtypes)
    gc.freeze()  # later garbage collections skip the objects of now
    results = []
    for result in measured(plans(args), contenders, args.rounds, notes, with_memory=with_memory):
        results.append(result)
        console.print(table(result, markdown=args.markdown), "")
    few = [contender for contender in contenders if contender.label in SCALED]
    scaling = list(measured(plans_of_sizes(args), few, args.rounds, notes, with_memory=False))

    for _, group in groupby(results, lambda result: (result.dtype, result.threads)):
        console.print(summary(list(group), markdown=args.markdown), "")
    if scaling:
        console.print(scaling_table(scaling, markdown=args.markdown), "")
    console.print(legend(args.rounds), *(f"Note: {note}." for note in notes), sep="\n\n")
    save_files(args, results, scaling, notes)
    return 0


def available_contenders() -> tuple[list[Contender], list[str]]:
    """Return the contenders that can be measured here, and a note for each missing module."""
    missing = [module for module in MISSING if find_spec(module) is None]
    contenders = [contender for contender in CONTENDERS if contender.needs not in missing]
    return contenders, [MISSING[module] for module in missing]


def disturbances() -> list[str]:
    """Return a note if other programs use the processor."""
    busy = psutil.cpu_percent(interval=0.5)
    # A thread that shares its core delays all other threads, possibly by more than the time of a step.
    return [f"Other programs used {busy:.0f} % of the cores at the start, so times are too long"] if busy > 10 else []


def plans(args: argparse.Namespace) -> list[Plan]:
    """Return a plan for each case, dtype and number of threads."""
    return [
        Plan(case, CASES[case].up_to(args.elements), dtype, threads)
        for dtype in args.dtypes
        for threads in args.threads
        for case in args.cases
    ]


def plans_of_sizes(args: argparse.Namespace) -> list[Plan]:
    """Return a plan for each size of the GPT."""
    sizes = [] if args.no_scaling else sorted(args.scaling)
    full = parameters_in(CASES["gpt"].shapes(1.0))
    return [Plan("gpt", CASES["gpt"].shapes(size / full), "float32", max(args.threads)) for size in sizes]


def measured(
    planned: Sequence[Plan], contenders: Sequence[Contender], rounds: int, notes: list[str], *, with_memory: bool
) -> Iterator[Result]:
    """Yield the result of each plan, or append a note about a plan that cannot run."""
    for number, plan in enumerate(planned, 1):
        title = f"{plan} ({number} of {len(planned)})"
        try:
            yield measure(plan, contenders, rounds, title, with_memory=with_memory)
        except TooLargeError as reason:
            notes.append(str(reason))


def compile_kernels(contenders: Sequence[Contender], dtypes: Sequence[str]) -> None:
    """Run a step of each contender, so that no measurement includes compilation or imports."""
    for dtype in dtypes:
        for contender in tqdm(contenders, f"compiling for {dtype}", leave=False):
            grads = normal([(4, 3), (5,)], dtype)
            contender.build([grad.clone() for grad in grads], grads)()


def save_files(args: argparse.Namespace, results: list[Result], scaling: list[Result], notes: list[str]) -> None:
    """Save the measurements and the plot, and print the names of the files."""
    if args.json:
        options = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
        save(args.json, options, results, scaling, notes)
        print(f"measurements saved as {args.json}")
    if results and not args.no_plot:
        plot(args.plot, results, scaling)
        print(f"plot saved as {args.plot}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the checked options."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.full:
        parser.set_defaults(**FULL)
        args = parser.parse_args(argv)
    files = {"--json": args.json, "--plot": None if args.no_plot else args.plot}
    for option, path in files.items():
        if path and not path.parent.is_dir():
            parser.error(f"{option} {path}: the folder does not exist")
    for option in ("cases", "dtypes", "threads", "scaling"):
        setattr(args, option, list(dict.fromkeys(getattr(args, option))))
    return args


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Measure the time and the memory of a step of Rose, and of rose-opt, AdamW and SGD for comparison.",
        epilog="The cases are " + ", ".join(f"{name} ({case.title})" for name, case in CASES.items()) + ".",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, size = parser.add_argument, integer_in(1000, 10**12)
    add("--cases", nargs="+", choices=tuple(CASES), metavar="CASE", help="cases to measure, listed below")
    add("--dtypes", nargs="+", choices=tuple(DTYPES), default=Listed(DTYPES), help="dtypes of the parameters")
    add("--threads", nargs="+", type=integer_in(1, CORES), metavar="N", help="numbers of threads")
    add("--rounds", type=integer_in(9, 10**6), default=9, help="number of rounds; the tables show their median")
    add("--elements", type=size, metavar="N", help="approximate limit of the number of parameters of a case")
    add("--scaling", nargs="+", type=size, metavar="N", help="numbers of parameters in the scaling table")
    add("--no-scaling", action="store_true", help="do not measure the scaling table")
    add("--full", action="store_true", help="measure all cases at full size, and more sizes; takes half an hour")
    add("--no-memory", action="store_true", help="do not measure the memory of a step")
    add("--markdown", action="store_true", help="print the tables in Markdown")
    add("--json", type=Path, metavar="PATH", help="JSON file to save all measurements to")
    add("--plot", type=Path, metavar="PATH", default=Path("benchmark.png"), help="PNG file to save the plot to")
    add("--no-plot", action="store_true", help="do not save a plot")
    parser.set_defaults(**DEFAULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
