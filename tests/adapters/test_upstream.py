"""rose_torch has the bits of rose_opt.Rose 1.0.2, except where those depend on the order of summation."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pytest
import rose_opt
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from rose_torch import Rose
from tests.adapters.models import parameter, tensor
from tests.bits import DTYPES, assert_same_bits, assert_within_ulps, host
from tests.strategies import COMPUTE_DTYPES, examples, generators, shapes
from tests.tally import TALLY, WORST_ULPS

SHAPES: Final = ((), (1,), (7,), (4000,), (64, 100), (33, 257), (100, 3, 3, 3), (2, 3, 4, 5), (16, 16, 5), (8, 2000))
# Upstream's means depend on the order of summation, its standard deviation is computed by Welford's method, and its
# blend is a torch.lerp, which fuses operations. Together they are off by a few ulps. If the parameter and the step
# nearly cancel, the result has smaller ulps, so the limit is in ulps of the larger of the parameter and the result.
ULPS_OF_ORDER: Final = 22.0
# The same after rounding to 16 bits: nearly all values are equal, and 1 in 10**7 float16 values is the next one.
ULPS_AFTER_ROUNDING: Final = 1.0


@dataclass(frozen=True)
class Cell:
    """A combination of dtypes and options, and its limit for the difference to upstream."""

    dtype: str
    compute_dtype: str | None
    centralize: bool
    stabilize: bool
    bf16_sr: bool

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of the optimizers."""
        names = ("compute_dtype", "centralize", "stabilize", "bf16_sr")
        return {name: getattr(self, name) for name in names}

    @property
    def plain(self) -> bool:
        """Tell whether a step has no sums."""
        return not (self.centralize or self.stabilize)

    @property
    def computes_in(self) -> str:
        """Return the resolved compute dtype."""
        default = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}[self.dtype]
        return self.compute_dtype or ("fp32" if self.bf16_sr else default)

    @property
    def limit(self) -> float:
        """Return the largest allowed difference in ulps. 0 is bit for bit."""
        if self.plain or self.computes_in in ("fp16", "bf16"):
            return 0.0
        if self.computes_in == "fp64":
            return ULPS_OF_ORDER if self.dtype == "float64" else 0.0
        return ULPS_OF_ORDER if self.dtype in ("float64", "float32") else ULPS_AFTER_ROUNDING

    @property
    def row(self) -> str:
        """Return the name of the row in the table of compared bits."""
        kind = " plain" if self.plain else " sr" if self.bf16_sr else ""
        return f"rose-opt {self.dtype}/{self.compute_dtype or 'none'}{kind}"

    def __str__(self) -> str:
        flags = [name for name in ("centralize", "stabilize", "bf16_sr") if getattr(self, name)]
        return "-".join([self.dtype, str(self.compute_dtype), *flags])


def is_allowed(cell: Cell) -> bool:
    return not cell.bf16_sr or (cell.dtype == "bfloat16" and cell.compute_dtype not in ("fp16", "bf16"))


FLAGS: Final = (True, False)
CELLS: Final = [
    Cell(*choice)
    for choice in itertools.product(DTYPES, COMPUTE_DTYPES, FLAGS, FLAGS, FLAGS)
    if is_allowed(Cell(*choice))
]
EXACT_CELLS: Final = [cell for cell in CELLS if cell.limit == 0.0]


def values(rng: np.random.Generator, shapes: Any, dtype: str) -> list[np.ndarray]:
    """Return normal values. Slices have different scales."""
    scales = (2.0 ** rng.integers(-6, 4, shape[:1] + (1,) * (len(shape) - 1)) for shape in shapes)
    return [
        np.asarray(rng.standard_normal(s) * x).astype(DTYPES[dtype][0]) for s, x in zip(shapes, scales, strict=True)
    ]


def run(rose: Callable[..., Any], start: list[np.ndarray], steps: list[list[np.ndarray]], **options: Any) -> list[Any]:
    """Return the parameters after a step for each list of gradients."""
    params = [parameter(x) for x in start]
    optimizer = rose(params, **options)
    torch.manual_seed(0)
    for gradients in steps:
        for param, grad in zip(params, gradients, strict=True):
            param.grad = tensor(grad)
        optimizer.step()
    return params


def assert_close(cell: Cell, ours: Any, theirs: Any, start: np.ndarray) -> None:
    """Compare a result with upstream's, within the limit of the cell."""
    what = f"{cell} {start.shape}"
    if cell.limit == 0.0:
        assert_same_bits(ours, theirs, backend=cell.row, what=what)
        return
    magnitude = np.maximum(np.abs(start), np.abs(host(theirs)))
    if cell.computes_in == "fp32" and cell.dtype == "float64":
        magnitude = magnitude.astype(np.float32)
    assert_within_ulps(ours, theirs, limit=cell.limit, magnitude=magnitude, backend=cell.row, what=what)


def test_the_installed_version_of_upstream_is_1_0_2() -> None:
    assert version("rose-opt") == "1.0.2"


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_step_equals_upstream_for_every_combination(cell: Cell) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        start, gradients = values(rng, SHAPES, cell.dtype), values(rng, SHAPES, cell.dtype)
        options = {"lr": 0.01, "weight_decay": 0.01, **cell.options}
        ours, theirs = (run(rose, start, [gradients], **options) for rose in (Rose, rose_opt.Rose))
        for actual, expected, x in zip(ours, theirs, start, strict=True):
            assert_close(cell, actual, expected, x)


@dataclass(frozen=True)
class Run:
    """A model, its gradients and its options."""

    cell: Cell
    start: list[np.ndarray]
    steps: list[list[np.ndarray]]
    options: dict[str, Any]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Draw a run in a cell with a limit of 0."""
    cell = draw(st.sampled_from(EXACT_CELLS))
    drawn = draw(st.lists(shapes(min_side=1), min_size=1, max_size=3))
    rng, scale = draw(generators()), 2.0 ** draw(st.integers(-8, 4))
    start = [np.asarray(x * scale).astype(x.dtype) for x in values(rng, drawn, cell.dtype)]
    options = {
        "lr": draw(st.sampled_from([1e-3, 0.3, 1.0]) | st.floats(1e-4, 1.0)),
        "weight_decay": draw(st.sampled_from([None, 0.0, 1e-4, 0.3, 2000.0])),
        "wd_schedule": draw(st.sampled_from([False, True, 0.7])),
    }
    steps = [values(rng, drawn, cell.dtype) for _ in range(draw(st.integers(1, 3)))]
    return Run(cell, start, steps, options | cell.options)


@pytest.mark.filterwarnings("ignore:.* slices of one element", "ignore:this step moves:UserWarning")
@given(runs())
@examples(150)
def test_a_run_has_the_bits_of_upstream_in_every_exact_cell(drawn: Run) -> None:
    ours, theirs = (run(rose, drawn.start, drawn.steps, **drawn.options) for rose in (Rose, rose_opt.Rose))
    for actual, expected, x in zip(ours, theirs, drawn.start, strict=True):
        assert_close(drawn.cell, actual, expected, x)


STEPS: Final = 50
TRAJECTORIES: Final[dict[str, tuple[str, Callable[[], dict[str, Any]], Callable[[Any], Any]]]] = {
    "bfloat16, default generator, OneCycleLR": (
        "bfloat16",
        lambda: {"wd_schedule": True},
        lambda o: lr_scheduler.OneCycleLR(o, 0.05, total_steps=STEPS, cycle_momentum=False),
    ),
    "bfloat16, a generator, fp32, warm-up": (
        "bfloat16",
        lambda: {"bf16_sr": torch.Generator().manual_seed(9), "compute_dtype": "fp32", "wd_schedule": 0.05},
        lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=STEPS),
    ),
    "bfloat16 at bfloat16, StepLR": (
        "bfloat16",
        lambda: {"bf16_sr": False, "compute_dtype": None},
        lambda o: lr_scheduler.StepLR(o, 10),
    ),
    "float16, CosineAnnealingLR": (
        "float16",
        lambda: {"wd_schedule": True, "stabilize": False},
        lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS),
    ),
    "float32, ExponentialLR": (
        "float32",
        lambda: {"weight_decay": 0.01},
        lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    ),
    "float32, no scheduler": (
        "float32",
        lambda: {"wd_schedule": True},
        lambda o: lr_scheduler.ConstantLR(o, 1.0),
    ),
}


@pytest.mark.parametrize(("dtype", "options", "scheduler"), TRAJECTORIES.values(), ids=TRAJECTORIES)
def test_a_run_of_fifty_steps_has_the_bits_of_upstream(
    dtype: str, options: Callable[[], dict[str, Any]], scheduler: Callable[[Any], Any]
) -> None:
    rng = np.random.default_rng(1)
    start, targets = values(rng, SHAPES[:5], dtype), values(rng, SHAPES[:5], dtype)
    trained = []
    for rose in (Rose, rose_opt.Rose):
        params = [parameter(x) for x in start]
        optimizer = rose(params, lr=0.05, **options())
        schedule = scheduler(optimizer)
        torch.manual_seed(0)
        for _ in range(STEPS):
            for param, target in zip(params, targets, strict=True):
                param.grad = param.detach() - tensor(target)
            optimizer.step()
            schedule.step()
        trained.append(params)
    for actual, expected in zip(*trained, strict=True):
        assert_same_bits(actual, expected, backend="rose-opt trajectories")


def stepped(rose: Callable[..., Any], grad: Any, **options: Any) -> np.ndarray:
    """Return a parameter of zeros after a step with this gradient."""
    held = torch.nn.Parameter(torch.zeros_like(grad))
    held.grad = grad
    rose([held], lr=1.0, weight_decay=0.0, **options).step()
    return host(held)


def test_a_constant_row_does_not_move_and_moves_in_upstream() -> None:
    grad = torch.tensor([[0.1] * 3, [1.0, 2.0, 4.0]], dtype=torch.float64)
    assert stepped(Rose, grad, stabilize=False)[0].tolist() == [0.0] * 3
    assert np.abs(stepped(rose_opt.Rose, grad.clone(), stabilize=False)[0]).min() == 0.5


def test_a_mean_is_exact_and_is_not_in_upstream() -> None:
    grad = torch.tensor([[1e16, 3.0, -1e16, 1.0]], dtype=torch.float64)
    assert stepped(Rose, grad, stabilize=False)[0, 3] == 0.0
    assert stepped(rose_opt.Rose, grad.clone(), stabilize=False)[0, 3] != 0.0


def test_a_scalar_gradient_of_nan_gives_nan_and_is_ignored_by_upstream() -> None:
    grad = torch.tensor(float("nan"))
    assert np.isnan(stepped(Rose, grad))
    assert stepped(rose_opt.Rose, grad) == 0.0


def test_a_difference_above_the_limit_raises() -> None:
    two_ulps_off = np.nextafter(np.nextafter(np.float32([1.0]), np.float32(2)), np.float32(2))
    row = "a row of this test"
    ours, theirs, magnitude = two_ulps_off, np.float32([1.0]), np.float32([1.5])
    with pytest.raises(AssertionError, match=r"result: 2\.0 ulps off, allowed are 1"):
        assert_within_ulps(ours, theirs, limit=1, magnitude=magnitude, backend=row)
    with pytest.raises(AssertionError, match="result: nan ulps off"):
        assert_within_ulps(ours * np.float32("nan"), theirs, limit=1, magnitude=magnitude, backend=row)
    assert [TALLY[column].pop(row) for column in TALLY] == [2, 2, 2]
    assert np.isnan(WORST_ULPS.pop(row))
