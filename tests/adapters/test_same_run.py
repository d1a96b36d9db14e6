"""Runs of the optimizer of every library have the bits of rose_numpy after every step."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rose_numpy
import rose_torch
from tests.backends import BACKENDS, Backend
from tests.bits import DTYPES, assert_same_bits
from tests.strategies import KINDS, TINY_KINDS, examples, fill, shapes

OTHERS: Final = ("torch-1-thread", "torch-2-threads", "torch-cuda", "cupy")
other_libraries = pytest.mark.parametrize(
    "backend", [pytest.param(b, id=b.name, marks=b.marks) for b in BACKENDS if b.name in OTHERS], indirect=True
)
# Some of the drawn shapes have slices of one element.
pytestmark = pytest.mark.filterwarnings("ignore:.* slices of one element")


@dataclass(frozen=True)
class Group:
    """Parameters of one dtype with their options, and the learning rate and the skipped parameters of each step."""

    dtype: str
    shapes: list[tuple[int, ...]]
    options: dict[str, Any]
    rates: list[float]
    skipped: list[list[bool]]


@dataclass(frozen=True)
class Run:
    """Groups of parameters, and the kind and the seed of their gradients."""

    groups: list[Group]
    kind: str
    seed: int

    def params(self) -> list[list[np.ndarray]]:
        """Return the initial parameters of each group."""
        rng = np.random.default_rng(self.seed)
        return [[fill("normal", rng, shape, group.dtype) for shape in group.shapes] for group in self.groups]

    def grads(self, step: int) -> list[list[np.ndarray | None]]:
        """Return the gradients of each group at a step."""
        rng = np.random.default_rng([self.seed, step])
        drawn = [[fill(self.kind, rng, shape, group.dtype) for shape in group.shapes] for group in self.groups]
        masks = [group.skipped[step] for group in self.groups]
        return [
            [None if skip else grad for grad, skip in zip(grads, mask, strict=True)]
            for grads, mask in zip(drawn, masks, strict=True)
        ]


class Arrays:
    """A run of `rose_numpy` or `rose_cupy`."""

    def __init__(self, run: Run, rose: Any, backend: Backend) -> None:
        self.array = backend.array
        self.params = [[backend.array(x) for x in params] for params in run.params()]
        pairs = zip(self.params, run.groups, strict=True)
        self.optimizer = rose([{"params": params, **group.options} for params, group in pairs], lr=1.0)

    def step(self, grads: list[list[np.ndarray | None]]) -> None:
        """Take a step with these gradients."""
        self.optimizer.step([[None if x is None else self.array(x) for x in group] for group in grads])


class Tensors:
    """A run of `rose_torch`."""

    def __init__(self, run: Run, backend: Backend) -> None:
        self.array = backend.array
        self.params = [[torch.nn.Parameter(backend.array(x)) for x in params] for params in run.params()]
        pairs = zip(self.params, run.groups, strict=True)
        self.optimizer = rose_torch.Rose([{"params": params, **group.options} for params, group in pairs], lr=1.0)

    def step(self, grads: list[list[np.ndarray | None]]) -> None:
        """Set `grad` of the parameters, and take a step."""
        for params, group in zip(self.params, grads, strict=True):
            for param, grad in zip(params, group, strict=True):
                param.grad = None if grad is None else self.array(grad)
        self.optimizer.step()


def start(run: Run, backend: Backend) -> Arrays | Tensors:
    """Return the run on a library, before its first step."""
    if backend.name.startswith("torch"):
        return Tensors(run, backend)
    if backend.name == "numpy":
        return Arrays(run, rose_numpy.Rose, backend)
    import rose_cupy

    return Arrays(run, rose_cupy.Rose, backend)


def assert_runs_have_the_bits_of_numpy(backend: Backend, run: Run) -> None:
    """Take all steps on the library and on NumPy, and compare the parameters and the groups after each step."""
    reference, other = start(run, BACKENDS[0]), start(run, backend)
    for step in range(len(run.groups[0].rates)):
        for held in (reference, other):
            for group, param_group in zip(run.groups, held.optimizer.param_groups, strict=True):
                param_group["lr"] = group.rates[step]
            held.step(run.grads(step))
        for number, pair in enumerate(zip(other.params, reference.params, strict=True)):
            for position, (got, want) in enumerate(zip(*pair, strict=True)):
                what = f"step {step}, group {number}, parameter {position}"
                assert_same_bits(got, want, backend=f"run on {backend.name}", what=what)
        assert recorded(other.optimizer) == recorded(reference.optimizer)


def recorded(optimizer: Any) -> list[tuple[int, float | None]]:
    """Return the step count and the `initial_lr` of each group."""
    return [(group["step"], group.get("initial_lr")) for group in optimizer.param_groups]


@st.composite
def groups(draw: st.DrawFn, steps: int) -> Group:
    dtype, drawn = draw(st.sampled_from(list(DTYPES))), draw(st.lists(shapes(), min_size=1, max_size=3))
    bf16_sr = draw(st.booleans())
    options = {
        "weight_decay": draw(st.sampled_from([None, 1e-4, 0.3])),
        "wd_schedule": draw(st.sampled_from([False, True, 0.7])),
        "centralize": draw(st.booleans()),
        "stabilize": draw(st.booleans()),
        "maximize": draw(st.booleans()),
        "bf16_sr": bf16_sr,
        "compute_dtype": draw(st.sampled_from(["fp64", "fp32", None] + ([] if bf16_sr else ["fp16", "bf16"]))),
        "sr_seed": draw(st.integers(0, 2**64 - 1)),
    }
    options |= draw(st.sampled_from([{}, {"max_lr": 0.5}, {"initial_lr": 0.25}]))
    per_step = st.lists(st.sampled_from([0.25, 0.0, 1e-3, 1.0]), min_size=steps, max_size=steps)
    mask = st.lists(st.booleans(), min_size=len(drawn), max_size=len(drawn))
    skipped = draw(st.lists(mask, min_size=steps, max_size=steps))
    return Group(dtype, drawn, options, draw(per_step), skipped)


@st.composite
def runs(draw: st.DrawFn, *, flushes: bool) -> Run:
    """Draw a run for a library, which may flush float32 subnormals."""
    steps = draw(st.integers(1, 4))
    kind = draw(st.sampled_from([kind for kind in KINDS if not (flushes and kind in TINY_KINDS)]))
    drawn = draw(st.lists(groups(steps), min_size=1, max_size=3))
    return Run(drawn, kind, draw(st.integers(0, 2**32 - 1)))


@pytest.mark.filterwarnings(
    "ignore:group .. wd_schedule=True refers to:UserWarning", "ignore:this step moves:UserWarning"
)
@other_libraries
@given(data=st.data())
@examples(60)
def test_a_run_has_the_bits_of_numpy(backend: Backend, data: st.DataObject) -> None:
    assert_runs_have_the_bits_of_numpy(backend, data.draw(runs(flushes=backend.flushes)))


# torch uses several threads above 32768 elements.
LARGE: Final = [(200, 300), (70_001,), (64, 32, 5, 5), (3, 40_000)]


@other_libraries
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_run_of_large_arrays_has_the_bits_of_numpy(backend: Backend, dtype: str) -> None:
    options = {"sr_seed": 2**63, "wd_schedule": True, "weight_decay": 0.1}
    rates, skipped = [0.0, 0.01, 0.005], [[False] * len(LARGE)] * 3
    all_options = [options, options | {"compute_dtype": "fp32", "sr_seed": 1}]
    run = Run([Group(dtype, LARGE, each, rates, skipped) for each in all_options], "normal", 0)
    assert_runs_have_the_bits_of_numpy(backend, run)
