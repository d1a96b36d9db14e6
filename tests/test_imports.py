"""Importing is cheap and pure: a package loads no array library that it was not named for, and exports what it says."""

import ast
import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

# Array libraries and what else would be heavy; each package may load those named beside it.
HEAVY = (
    *(
        "accelerate",
        "array_api_strict",
        "cupy",
        "dask",
        "hypothesis",
        "jax",
        "lightning",
        "matplotlib",
        "numba",
        "peft",
        "pytest",
    ),
    *("rich", "rose_opt", "scipy", "sklearn", "torch", "transformers"),
)
PACKAGES = {
    "rose_core": set(),
    "rose_core.peers": set(),
    "rose_arrays": set(),
    "rose_diagnosis": set(),
    "rose_kernels": set(),
    "rose_numpy": set(),
    "rose_plan": set(),
    "rose_torch": {"torch"},
    "rose_cupy": {"cupy"},
    "rose_spec": set(),
}
MODULES_OF_THE_CORE = [f"rose_core.{module.name}" for module in pkgutil.iter_modules([str(ROOT / "rose_core")])]


def run_python(code: str) -> str:
    """Run code in a fresh interpreter, away from the repository's folder, and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout


def loaded_by(statement: str) -> set[str]:
    return set(
        run_python(f"import sys; {statement}; print(*[name for name in {HEAVY!r} if name in sys.modules])").split()
    )


def imported(package: str) -> ModuleType:
    """Import a package, or skip where the library it is named for is missing."""
    for library in PACKAGES[package]:
        pytest.importorskip(library)
    return importlib.import_module(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_no_other_array_library(package: str) -> None:
    imported(package)
    # CuPy brings what it likes; torch does not load the others.
    assert loaded_by(f"import {package}") <= PACKAGES[package] | ({"scipy"} if package == "rose_cupy" else set())


def test_loading_one_is_seen() -> None:
    """So that the test above can fail."""
    assert "array_api_strict" in loaded_by("import rose_core, array_api_strict")


def test_an_update_of_numpy_arrays_loads_no_other_array_library() -> None:
    code = "import numpy, rose_core; x = numpy.ones((2, 2)); rose_core.update(x, x, lr=0.1)"
    assert loaded_by(code) == set()


def test_importing_the_core_loads_no_rule_of_its_peers() -> None:
    code = "import sys, {}; print(*[name for name in sys.modules if name.startswith('rose_core.peers')])"
    assert run_python(code.format("rose_core")).split() == []
    assert "rose_core.peers.elementwise.adam" in run_python(code.format("rose_core.peers")).split()


def test_each_module_of_the_core_can_be_imported_first() -> None:
    """An import cycle would show in the module that is imported first."""
    code = f"""
import importlib, sys
for name in {MODULES_OF_THE_CORE!r}:
    for loaded in [module for module in sys.modules if module.partition(".")[0] == "rose_core"]:
        del sys.modules[loaded]
    print(importlib.import_module(name).__name__)
"""
    assert run_python(code).split() == MODULES_OF_THE_CORE
    assert len(MODULES_OF_THE_CORE) >= 9


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_typed(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    assert (Path(spec.origin).parent / "py.typed").read_bytes() == b""


def public_names(source: str) -> set[str]:
    """Return what a package's `__init__` imports or defines under a public name."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("package", PACKAGES)
def test_all_of_a_package_is_sorted_complete_and_true(package: str) -> None:
    module = imported(package)
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    exported = list(getattr(module, "__all__", []))
    assert exported == sorted(exported)
    assert set(exported) == public_names(source)
    namespace: dict[str, object] = {}
    exec(f"from {package} import *", namespace)
    assert set(exported) == set(namespace) - {"__builtins__"}


@pytest.mark.parametrize("name", MODULES_OF_THE_CORE)
def test_all_of_a_module_is_sorted_and_true(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, exported) for exported in module.__all__)
