"""The modules of the kit export the names that other files import, and no others."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "spec").rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT / "spec").with_suffix("").parts): path for path in SOURCES}
FILES = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "examples").rglob("*.py"))]


def imported_names() -> dict[str, set[str]]:
    """Return the names that any file imports from each module."""
    names: dict[str, set[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names.setdefault(node.module, set()).update(alias.name for alias in node.names)
    return names


IMPORTED = imported_names()


def exported(path: Path) -> set[str] | None:
    """Return the names in `__all__`, or None if there is none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if [getattr(target, "id", "") for target in targets] == ["__all__"] and node.value is not None:
            return set(ast.literal_eval(node.value))
    return None


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith(("__init__", "__main__"))])
def test_a_module_exports_the_names_that_others_import(module: str) -> None:
    names = exported(MODULES[module])
    if module.startswith("rose_spec.topics.") and module != "rose_spec.topics.topic":
        assert names is not None
        assert all(name.startswith("build") for name in names)  # called as attributes of the module
    else:
        assert (names or set()) == IMPORTED.get(module, set())
