"""Durations of steps in interleaved rounds, and the memory that a step needs.

Memory is resident memory. The kernel keeps its peak, which is set back before a step and read after it. An
allocator keeps freed memory to give it out again, which would hide what a step takes: so it is told to give
all that back to the kernel first. (A new process for each measurement would need no such care, but many
seconds for its imports and kernels.)
"""

import ctypes
import gc
import math
import random
import time
import timeit
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import psutil
import torch
from benchmark_cases import ADD, Contender, Shape, Step, parameters_in
from torch import Tensor
from tqdm import tqdm

__all__ = [
    "DTYPES",
    "Measurement",
    "Plan",
    "Result",
    "Spread",
    "TooLargeError",
    "measure",
    "memory_obstacle",
    "normal",
    "peak",
    "reset_peak",
]

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_WARM_UPS: Final = 2
# Seconds: torch's OpenMP threads spin for some milliseconds after their work, and slow down who is next.
_PAUSE: Final = 0.006
_STATUS: Final = Path("/proc/self/status")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")


class TooLargeError(Exception):
    """A plan for which memory does not suffice; the message says how much it needs."""


class Plan(NamedTuple):
    """What is to be measured at once: everyone at the same shapes."""

    case: str
    shapes: list[Shape]
    dtype: str
    threads: int

    def __str__(self) -> str:
        return f"{self.case}, {self.dtype}, {self.threads} thread{'s' * (self.threads > 1)}"

    def bytes_with(self, contenders: Sequence[Contender]) -> int:
        """Return about how much memory it needs."""
        # An array of gradients, one of parameters for each, two of moments for each AdamW; and those of the adds.
        arrays = 1 + len(contenders) + 2 * sum("AdamW" in contender.name for contender in contenders)
        owned = arrays * DTYPES[self.dtype].itemsize + (12 if self.dtype == "float32" else 18)
        # What a step takes for an element of the largest tensor, where it is composed of array operations.
        working = 104 if any(contender.name == "rose_torch" for contender in contenders) else 24
        return owned * parameters_in(self.shapes) + working * max(math.prod(shape) for shape in self.shapes)


class Spread(NamedTuple):
    """The median and the extremes of a value in all rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of the values."""
        return cls(median(values), min(values), max(values))


@dataclass
class Measurement:
    """What was measured of one contender.

    Attributes
    ----------
    contender, compute : as in `benchmark_cases.Contender`.
    seconds : the duration of a step in each round.
    step_bytes : how much memory a step takes and gives back, None if that was not measured.
    kept_bytes : how much it keeps from step to step besides parameters and gradients, None likewise.
    """

    contender: str
    compute: str
    seconds: list[float] = field(default_factory=list)
    step_bytes: int | None = None
    kept_bytes: int | None = None

    @property
    def label(self) -> str:
        """The contender with its compute dtype."""
        return f"{self.contender} {self.compute}".rstrip()


@dataclass
class Result:
    """What was measured of a plan; its rounds are those of all measurements."""

    case: str
    dtype: str
    threads: int
    tensors: int
    parameters: int
    measurements: list[Measurement]

    def find(self, contender: str, compute: str = "") -> Measurement | None:
        """Return the measurement of that contender, None if there is none."""
        return next((m for m in self.measurements if (m.contender, m.compute) == (contender, compute)), None)

    def in_adds(self, own: Measurement) -> Spread:
        """Return the time as a multiple of the add's in the same round."""
        return Spread.of([a / b for a, b in zip(own.seconds, self.find(ADD).seconds, strict=True)])

    def speed(self, own: Measurement) -> float | None:
        """Return how many times as fast as rose-opt at the same compute dtype it is, None where there is none."""
        upstream = self.find("rose-opt", own.compute)
        return upstream and median(b / a for a, b in zip(own.seconds, upstream.seconds, strict=True))


def measure(plan: Plan, contenders: Sequence[Contender], rounds: int, title: str, *, with_memory: bool) -> Result:
    """Measure the contenders in turn, round after round, or raise TooLargeError."""
    contenders = [contender for contender in contenders if plan.dtype in contender.dtypes]
    _check_memory(plan, contenders)
    _set_threads(plan.threads)
    gc.collect()  # the optimizers of the plan before hold themselves in cycles
    grads = normal(plan.shapes, plan.dtype)
    measurements = [Measurement(contender.name, contender.compute) for contender in contenders]
    with tqdm(total=rounds, desc=title, unit="round", leave=False) as progress:
        pairs = zip(contenders, measurements, strict=True)
        steps = [_prepared(contender, own, grads, with_memory=with_memory) for contender, own in pairs]
        for number in range(rounds):
            # In another order each time, since one finds in the caches what the one before has left there.
            for index in random.Random(number).sample(range(len(steps)), len(steps)):
                time.sleep(_PAUSE if plan.threads > 1 else 0)
                measurements[index].seconds.append(timeit.timeit(steps[index], number=1))
            progress.update()
        for contender, own, step in zip(contenders, measurements, steps, strict=True):
            if with_memory and contender.is_optimizer:
                own.step_bytes = _peak_of(step)
    return Result(plan.case, plan.dtype, plan.threads, len(grads), parameters_in(plan.shapes), measurements)


def normal(shapes: Sequence[Shape], dtype: str) -> list[Tensor]:
    """Return normally distributed numbers: with zeros the same step is faster than with data."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(DTYPES[dtype]) for shape in shapes]


def memory_obstacle() -> str:
    """Return why memory cannot be measured here, nothing if it can."""
    if not _CLEAR_REFS.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return "that needs Linux with the GNU C library"
    try:
        reset_peak()
    except OSError as error:
        return f"{_CLEAR_REFS} cannot be written: {error}"
    return ""


def _prepared(contender: Contender, own: Measurement, grads: list[Tensor], *, with_memory: bool) -> Step:
    """Return a step that has been done before, over parameters of its own."""
    parameters = [0.02 * grad for grad in grads]
    before = reset_peak() if with_memory else 0
    step = contender.build(parameters, grads)
    for _ in range(_WARM_UPS):
        step()
    if with_memory and contender.is_optimizer:
        own.kept_bytes = max(0, reset_peak() - before)
    return step


def _peak_of(step: Step) -> int:
    """Return by how much the resident memory rises above its start during a step."""
    before = reset_peak()
    step()
    return max(0, peak() - before)


def reset_peak() -> int:
    """Give back what is free, make the present the peak, and return it."""
    ctypes.CDLL(None).malloc_trim(0)
    _CLEAR_REFS.write_text("5")  # as in proc_pid_clear_refs(5)
    return _status("VmRSS")


def peak() -> int:
    """Return the most memory that was resident since the peak was set back."""
    return _status("VmHWM")


def _status(key: str) -> int:
    """Return an entry of the process status, which is in KiB, in bytes."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def _check_memory(plan: Plan, contenders: Sequence[Contender]) -> None:
    needed, free = plan.bytes_with(contenders), psutil.virtual_memory().available
    if needed > free:
        gibibytes = f"it needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"
        raise TooLargeError(f"{plan} ({parameters_in(plan.shapes):,} parameters): left out, since {gibibytes}")


def _set_threads(count: int) -> None:
    torch.set_num_threads(count)
    if find_spec("numba"):  # without it there are no kernels
        import_module("rose_kernels").set_num_threads(count)
