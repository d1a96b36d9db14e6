"""The package: its front door, and the key of its compile cache."""

import ast
import shutil
from pathlib import Path

import pytest

import rose_kernels
from rose_kernels.entry import _digest

ROOT = Path(__file__).parents[2]
PACKAGE = Path(rose_kernels.__file__).parent
OTHERS = sorted(
    path for path in (ROOT / "adapters").rglob("*.py") if not path.is_relative_to(ROOT / "adapters/rose_kernels")
)


def imported_from_kernels(source: str) -> set[str]:
    """Return the names of modules of the package that a source imports from."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {module for module in modules if module.partition(".")[0] == "rose_kernels"}


def test_other_packages_import_from_the_front_door_only() -> None:
    modules = [imported_from_kernels(path.read_text(encoding="utf-8")) for path in OTHERS]
    assert set().union(*modules) == {"rose_kernels"}


def test_all_of_the_front_door_is_sorted_and_true() -> None:
    assert rose_kernels.__all__ == sorted(rose_kernels.__all__)
    assert all(hasattr(rose_kernels, name) for name in rose_kernels.__all__)


@pytest.mark.parametrize("changed", ["kernels.py", "rule/gate.py", "parallel/worker.py", "llvm/bits.py"])
def test_a_change_of_any_source_changes_the_key_of_the_cache(changed: str, tmp_path: Path) -> None:
    folder = tmp_path / "rose_kernels"
    shutil.copytree(PACKAGE, folder)
    before = _digest(folder)
    assert before == _digest(PACKAGE)
    with (folder / changed).open("a") as source:
        source.write("# changed\n")
    assert _digest(folder) != before
