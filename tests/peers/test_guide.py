"""The guide has all names, and its recipe for files works."""

import re
from pathlib import Path

import pytest

from rose_core import peers
from rose_core.peers import Rule

GUIDE = (Path(peers.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_the_guide_names_every_rule_and_function() -> None:
    shared = {"Rule", "Total"}
    named = set(re.findall(r"`(\w+)", GUIDE))
    assert {name for name in peers.__all__ if not name.startswith("calculate_")} - named == shared


def test_the_guide_names_the_states_of_the_rules() -> None:
    import numpy as np

    for name, state in re.findall(r"^\| `(\w+)`[^|]* \| ([^|]+) \|", GUIDE, re.MULTILINE):
        rule = getattr(peers, name)
        if name in ("SGD", "NAdamW"):
            rule = rule(**{"SGD": {"momentum": 0.9}, "NAdamW": {"momentum_decay": 4e-3}}[name])
        elif isinstance(rule, type) and issubclass(rule, Rule) and "rule" not in rule.__dataclass_fields__:
            rule = rule()
        if isinstance(rule, Rule):
            assert re.findall(r"`(\w+)`", state) == list(rule.init(np.zeros((2, 2)))._fields)


def test_the_recipe_for_files_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    monkeypatch.chdir(tmp_path)
    (recipe,) = re.findall(r"^```py\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    exec(compile(recipe, "README.md", "exec"), {})
    assert (tmp_path / "state.safetensors").exists()
