"""Every mutant of the oracle fails a vector, or is recorded as equivalent with a reason."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rose_spec import survivors
from rose_spec.cli import main
from rose_spec.mutation import MODULES, Mutant, mutants
from rose_spec.survivors import Count, count_mutants, equivalents

GUIDE = (Path(__file__).parents[2] / "spec" / "README.md").read_text(encoding="utf-8")


def names(module: str) -> list[str]:
    return [mutant.name for mutant in mutants(module)]


def test_mutants_change_comparisons_bounds_constants_branches_and_operations() -> None:
    made = names("oracle")
    for name in (
        "Rule.blend: trust < 0.5 -> trust <= 0.5",
        "Rule.blend: 0.5 -> 0.49999999999999994",
        "Rule.clip: max -> min",
        "Rule.rc: cast(value, self.compute) -> value",
        "Rule.centralizes: self.options.centralize and len(shape) >= 2 -> self.options.centralize",
        "module: True -> False",
        "Rule.mean: if math.isnan(mean) or math.isnan(low): -> if False:",
    ):
        assert f"oracle.{name}" in made


@pytest.mark.parametrize("module", MODULES)
def test_names_of_mutants_are_unique_and_a_tree_is_whole_again_afterwards(module: str) -> None:
    assert len(set(names(module))) == len(names(module)) >= 20
    assert names(module) == names(module)


@pytest.mark.parametrize("module", MODULES)
def test_every_mutant_compiles(module: str) -> None:
    for mutant in mutants(module):
        compile(mutant.tree, mutant.name, "exec")


@pytest.mark.slow
def test_a_mutant_that_does_not_compile_is_an_error_and_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Mutant("noise.module: broken", "noise", None, ast.Module([ast.Pass()], []))  # it has no line numbers
    monkeypatch.setattr(survivors, "mutants", lambda module: iter([broken]))  # noqa: ARG005
    with pytest.raises(TypeError, match="lineno"):
        count_mutants(["noise"])


def test_every_record_has_a_reason_and_names_a_mutant_or_a_function() -> None:
    known = {name for module in MODULES for name in names(module)}
    functions = {name.partition(":")[0] for name in known}
    assert set(equivalents()) <= known | functions
    assert all(reason.endswith((".", ").")) and len(reason) > 20 for reason in equivalents().values())


@pytest.mark.slow
def test_all_mutants_of_the_noise_are_caught_or_equivalent() -> None:
    count = count_mutants(["noise"])
    assert (count.surviving, count.stale) == ([], [])
    assert count.made == count.caught + count.equivalent == len(names("noise"))


def test_a_survivor_and_a_stale_record_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def two(module: str) -> Iterator[Mutant]:
        for mutant in mutants(module):
            if mutant.name in ("noise.noise_words: 4 -> 3", "noise.noise_words: 4 -> 5"):
                yield mutant

    monkeypatch.setattr(survivors, "mutants", two)
    records = {"noise.noise_words: 4 -> 5": "It is caught.", "noise.nothing: 1 -> 2": "It does not exist."}
    monkeypatch.setattr(survivors, "equivalents", lambda: records)
    monkeypatch.setattr(survivors, "MODULES", ("noise",))
    count = count_mutants(["noise"])
    assert count == Count(2, 1, 0, ["noise.noise_words: 4 -> 3"], list(records))
    monkeypatch.setattr(survivors, "count_mutants", lambda: count)
    assert main(["mutants"]) == 1
    output = capsys.readouterr().out
    assert output.startswith("2 mutants of the oracle: 1 caught, 0 equivalent, 1 surviving\n")
    assert "no vector catches noise.noise_words: 4 -> 3\n" in output
    assert "recorded as equivalent, but not: noise.nothing: 1 -> 2\n" in output


@pytest.mark.slow
def test_no_mutant_of_the_oracle_survives() -> None:
    count = count_mutants()
    assert (count.surviving, count.stale) == ([], [])
    figures = re.search(r"(\d+) mutants: (\d+) caught, (\d+) equivalent, 0 surviving", " ".join(GUIDE.split()))
    assert figures is not None
    assert tuple(map(int, figures.groups())) == (count.made, count.caught, count.equivalent)
