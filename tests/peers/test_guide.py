"""The guide has all names, and its recipe for files works."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rose_numpy
from rose_core import peers
from rose_core.peers import Rule
from tests.bits import assert_same_bits
from tests.peers import agreement
from tests.peers.trajectories import all_cases, data_of, with_options

CASES = all_cases()
GUIDE = (Path(peers.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_the_guide_names_every_rule_and_function() -> None:
    shared = {"Rule", "Total"}
    named = set(re.findall(r"`(\w+)", GUIDE))
    assert {name for name in peers.__all__ if not name.startswith("calculate_")} - named == shared


def test_the_guide_names_the_states_of_the_rules() -> None:
    for name, state in re.findall(r"^\| `(\w+)`[^|]* \| ([^|]+) \|", GUIDE, re.MULTILINE):
        rule = getattr(peers, name)
        if name in ("SGD", "NAdamW"):
            rule = rule(**{"SGD": {"momentum": 0.9}, "NAdamW": {"momentum_decay": 4e-3}}[name])
        elif isinstance(rule, type) and issubclass(rule, Rule) and "rule" not in rule.__dataclass_fields__:
            rule = rule()
        if isinstance(rule, Rule):
            assert re.findall(r"`(\w+)`", state) == list(rule.init(np.zeros((2, 2)))._fields)


def test_the_guide_states_the_differences_from_others() -> None:
    """The comparisons fail beyond these limits."""
    stated = re.findall(r"below\s+(\d+e-\d+)", GUIDE)
    limits = (agreement.FLOAT64, agreement.OPTAX_ADAFACTOR, agreement.FLOAT32, agreement.MATRICES)
    assert tuple(map(float, stated)) == limits


def test_the_recipe_for_files_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    monkeypatch.chdir(tmp_path)
    (recipe,) = re.findall(r"^```py\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(recipe, "README.md", "exec"), names)
    assert names["first"] == 1
    assert_same_bits(names["resumed"]["w"], names["weights"]["w"])


@pytest.mark.parametrize("name", CASES)
def test_a_run_continues_from_a_file(name: str, tmp_path: Path) -> None:
    """Parameters and states in bfloat16 too."""
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    rule, path = with_options(CASES[name], state_dtype="bfloat16"), tmp_path / "run.safetensors"
    for dtype in ("float32", "bfloat16"):
        data = data_of((6, 5), dtype, steps=4)
        weights, resumed = {"w": data.param.copy()}, {"w": np.zeros_like(data.param)}
        optimizers = [rose_numpy.Optimizer(each, rule, lr=0.125) for each in (weights, resumed)]
        for grad in data.grads[:2]:
            optimizers[0].step({"w": grad})
        rose_numpy.save(path, weights, optimizers[0])
        rose_numpy.load(path, resumed, optimizers[1])
        for grad in data.grads[2:]:
            for optimizer in optimizers:
                optimizer.step({"w": grad})
        assert_same_bits(resumed["w"], weights["w"])
        one, other = (optimizer.state_dict()["state"][0] for optimizer in optimizers)
        assert one.keys() == other.keys()
        for key in one:
            assert_same_bits(np.asarray(other[key]), np.asarray(one[key]))
