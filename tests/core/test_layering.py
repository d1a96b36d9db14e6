"""The rule is readable and traceable: its imports, its number of calls, and its use of arrays are limited."""

import ast
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import rose_core
from rose_core import rule
from rose_core.rule import StepOptions, step
from tests.backends import Backend, backends
from tests.bits import assert_same_bits
from tests.strategies import COMPUTE_DTYPES, fill

CORE = Path(rose_core.__file__).parent
SOURCE = Path(rule.__file__).read_text(encoding="utf-8")


def imports_of(source: str) -> set[str]:
    """Return the modules of the project that a source imports."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return {str(node.module) for node in nodes if str(node.module).startswith("rose")}


def test_the_rule_imports_summation_rounding_and_namespace_only() -> None:
    assert imports_of(SOURCE) == {"rose_core.summation", "rose_core.rounding", "rose_core.namespace"}


@pytest.mark.parametrize("name", [path.stem for path in CORE.glob("*.py") if path.stem not in ("chunks", "update")])
def test_no_lower_module_imports_the_rule(name: str) -> None:
    assert "rose_core.rule" not in imports_of((CORE / f"{name}.py").read_text(encoding="utf-8"))


def test_the_rule_reads_no_device_and_no_value_of_an_array() -> None:
    """Tracers could not pass through it otherwise."""
    attributes = {node.attr for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.Attribute)}
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not attributes & {"device", "item", "tolist", "numpy", "data_ptr"}
    assert not calls & {"float", "int", "bool", "len", "device"}


def test_an_update_makes_at_most_130_calls_in_8_files() -> None:
    param, grad = np.ones((2, 2), np.float32), np.asarray([[1, 3], [0, 4]], np.float32)
    rose_core.update(param, grad, lr=1e-3)  # fills the caches that are keyed by type
    entered: list[str] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(CORE):
            entered.append(frame.f_code.co_filename)

    sys.setprofile(profile)
    try:
        rose_core.update(param, grad, lr=1e-3)
    finally:
        sys.setprofile(None)
    assert len(entered) <= 130
    assert len(set(entered)) <= 8


@backends
@pytest.mark.parametrize("compute", COMPUTE_DTYPES[:4])
@pytest.mark.parametrize("shape", [(), (5,), (4, 6)])
def test_lr_and_decay_may_be_scalars_of_the_library(backend: Backend, shape: tuple[int, ...], compute: Any) -> None:
    rng = np.random.default_rng(0)
    param, grad = (backend.array(fill("normal", rng, shape, "float32")) for _ in range(2))
    operation = np.float64 if compute == "fp64" else np.float32
    options = StepOptions(0.1, 0.9, centralize=True, stabilize=True, maximize=False, compute=compute)
    scalars = options._replace(
        **{name: backend.array(np.asarray(getattr(options, name), operation)) for name in ("lr", "decay")}
    )
    assert_same_bits(step(param, grad, scalars), step(param, grad, options), backend=backend.name)
