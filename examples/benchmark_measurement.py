"""Durations of steps in interleaved rounds, and the memory that a step needs.

Memory is the resident memory of the process. Linux records its peak, which is reset before a step and read after it.
Allocators keep freed memory for reuse, and a step that reuses it would seem to need none. Freed memory is therefore
returned to the system first. A new process for each measurement would not need this, but would take many seconds for
imports and compilation.
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
# Seconds. The OpenMP threads of torch spin for a few milliseconds after a step, and would slow down the next one.
_PAUSE: Final = 0.006
_STATUS: Final = Path("/proc/self/status")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")


class TooLargeError(Exception):
    """Raised for a plan that needs more memory than there is. The message says how much it needs."""


class Plan(NamedTuple):
    """A measurement of all contenders with the same shapes, dtype and number of threads."""

    case: str
    shapes: list[Shape]
    dtype: str
    threads: int

    def __str__(self) -> str:
        return f"{self.case}, {self.dtype}, {self.threads} thread{'s' * (self.threads > 1)}"

    def bytes_with(self, contenders: Sequence[Contender]) -> int:
        """Return an estimate of the bytes that the measurement needs."""
        # The gradients, the parameters of each contender, two moments for each AdamW, and the arrays of torch.add.
        arrays = 1 + len(contenders) + 2 * sum("AdamW" in contender.name for contender in contenders)
        kept = arrays * DTYPES[self.dtype].itemsize + (12 if self.dtype == "float32" else 18)
        # The temporaries of a step, in bytes for each element of the largest tensor. The core has the most.
        working = 104 if any(contender.name == "rose_torch" for contender in contenders) else 24
        return kept * parameters_in(self.shapes) + working * max(math.prod(shape) for shape in self.shapes)


class Spread(NamedTuple):
    """The median, the minimum and the maximum of a value over all rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of the values."""
        return cls(median(values), min(values), max(values))


@dataclass
class Measurement:
    """The measurements of one contender.

    Attributes
    ----------
    contender, compute : the name and the compute dtype of a `benchmark_cases.Contender`.
    seconds : the duration of a step in each round.
    step_bytes : the memory that a step allocates and frees, None if not measured.
    kept_bytes : the memory between steps besides parameters and gradients, None if not measured.
    """

    contender: str
    compute: str
    seconds: list[float] = field(default_factory=list)
    step_bytes: int | None = None
    kept_bytes: int | None = None

    @property
    def label(self) -> str:
        """The name of the contender with its compute dtype."""
        return f"{self.contender} {self.compute}".rstrip()


@dataclass
class Result:
    """The measurements of a plan, one for each contender, in the same rounds."""

    case: str
    dtype: str
    threads: int
    tensors: int
    parameters: int
    measurements: list[Measurement]

    def find(self, contender: str, compute: str = "") -> Measurement | None:
        """Return the measurement of a contender, None if there is none."""
        return next((m for m in self.measurements if (m.contender, m.compute) == (contender, compute)), None)

    def in_adds(self, measured: Measurement) -> Spread:
        """Return the time of a step divided by the time of `torch.add` in the same round."""
        return Spread.of([a / b for a, b in zip(measured.seconds, self.find(ADD).seconds, strict=True)])

    def speed(self, measured: Measurement) -> float | None:
        """Return the speed relative to rose-opt at the same compute dtype, None without rose-opt."""
        upstream = self.find("rose-opt", measured.compute)
        return upstream and median(b / a for a, b in zip(measured.seconds, upstream.seconds, strict=True))


def measure(plan: Plan, contenders: Sequence[Contender], rounds: int, title: str, *, with_memory: bool) -> Result:
    """Measure all contenders in interleaved rounds, or raise TooLargeError."""
    contenders = [contender for contender in contenders if plan.dtype in contender.dtypes]
    _check_memory(plan, contenders)
    _set_threads(plan.threads)
    gc.collect()  # the optimizers of the previous plan are in reference cycles
    grads = normal(plan.shapes, plan.dtype)
    measurements = [Measurement(contender.name, contender.compute) for contender in contenders]
    with tqdm(total=rounds, desc=title, unit="round", leave=False) as progress:
        pairs = zip(contenders, measurements, strict=True)
        steps = [_prepared(contender, measured, grads, with_memory=with_memory) for contender, measured in pairs]
        for number in range(rounds):
            # The order changes from round to round, since a step depends on the caches that the previous one left.
            for index in random.Random(number).sample(range(len(steps)), len(steps)):
                time.sleep(_PAUSE if plan.threads > 1 else 0)
                measurements[index].seconds.append(timeit.timeit(steps[index], number=1))
            progress.update()
        for contender, measured, step in zip(contenders, measurements, steps, strict=True):
            if with_memory and contender.is_optimizer:
                measured.step_bytes = _peak_of(step)
    return Result(plan.case, plan.dtype, plan.threads, len(grads), parameters_in(plan.shapes), measurements)


def normal(shapes: Sequence[Shape], dtype: str) -> list[Tensor]:
    """Return normally distributed gradients: a step with zeros would be faster."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(DTYPES[dtype]) for shape in shapes]


def memory_obstacle() -> str:
    """Return the reason why memory cannot be measured here, an empty string if it can."""
    if not _CLEAR_REFS.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return "it needs Linux with the GNU C library"
    try:
        reset_peak()
    except OSError as error:
        return f"{_CLEAR_REFS} cannot be written: {error}"
    return ""


def _prepared(contender: Contender, measured: Measurement, grads: list[Tensor], *, with_memory: bool) -> Step:
    """Return a step over new parameters, after warm-up steps. Record the memory that the optimizer keeps."""
    parameters = [0.02 * grad for grad in grads]
    before = reset_peak() if with_memory else 0
    step = contender.build(parameters, grads)
    for _ in range(_WARM_UPS):
        step()
    if with_memory and contender.is_optimizer:
        measured.kept_bytes = max(0, reset_peak() - before)
    return step


def _peak_of(step: Step) -> int:
    """Return the increase of the resident memory during a step, at its peak."""
    before = reset_peak()
    step()
    return max(0, peak() - before)


def reset_peak() -> int:
    """Return freed memory to the system, reset the peak, and return the resident memory in bytes."""
    ctypes.CDLL(None).malloc_trim(0)
    _CLEAR_REFS.write_text("5")  # as in proc_pid_clear_refs(5)
    return _status("VmRSS")


def peak() -> int:
    """Return the peak of the resident memory since `reset_peak`, in bytes."""
    return _status("VmHWM")


def _status(key: str) -> int:
    """Return an entry of the process status in bytes. The file has KiB."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def _check_memory(plan: Plan, contenders: Sequence[Contender]) -> None:
    needed, free = plan.bytes_with(contenders), psutil.virtual_memory().available
    if needed > free:
        reason = f"it needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"
        raise TooLargeError(f"{plan} ({parameters_in(plan.shapes):,} parameters) is not measured, since {reason}")


def _set_threads(count: int) -> None:
    torch.set_num_threads(count)
    if find_spec("numba"):  # the kernels need it
        import_module("rose_kernels").set_num_threads(count)
