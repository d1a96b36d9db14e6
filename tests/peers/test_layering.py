"""The package of rules stands on the core alone, one file a rule, and no rule reads values of arrays."""

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from rose_core import peers
from rose_core.peers import Rule
from rose_core.peers.wrappers.wrapper import Wrapper

PACKAGE = Path(peers.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
RULE_FILES = [path for path in FILES if path.parent != PACKAGE and path.name != "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_the_core_and_the_standard_library_only(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    froms = {str(node.module).partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    standard = {"collections", "dataclasses", "decimal", "functools", "itertools", "math", "operator", "typing"}
    assert (froms | names) - standard <= {"rose_core", "numpy"}


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_rule_reads_no_value_of_an_array(path: Path) -> None:
    attributes = {node.attr for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute)}
    assert not attributes & {"item", "tolist", "numpy", "data_ptr", "cpu"}


def test_every_rule_and_every_option_is_documented() -> None:
    rules = [r for r in vars(peers).values() if isinstance(r, type) and issubclass(r, Rule) and r is not Rule]
    assert len(rules) > 20
    for rule in rules:
        text = inspect.getdoc(rule) or ""
        own = {field.name for field in fields(rule) if field.init} & set(rule.__annotations__)
        for option in own:
            assert option in text, f"{rule.__name__}.{option}"
        if "compute" in vars(rule) and not issubclass(rule, Wrapper):
            assert "Notes" in text
            assert ">>> " in text
