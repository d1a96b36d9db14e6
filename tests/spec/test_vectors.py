"""The vector files match their tables, their schema and the specification; the linter finds every problem."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from rose_spec.generate import generate
from rose_spec.lint import clause_ids, lint, lint_contents
from rose_spec.oracle import Options
from rose_spec.topics import SLOW, TOPICS
from rose_spec.vectors import load_vectors

SPEC = Path(__file__).parents[2] / "spec" / "SPEC.md"
VECTORS = load_vectors()
OF_EVERY_REVISION = [*VECTORS, *load_vectors("1.0.0")]


@pytest.mark.parametrize("name", [name for name in TOPICS if name not in SLOW])
def test_generating_a_file_again_gives_the_same_bytes(name: str) -> None:
    assert generate(check=True, names=[name]) == []


def test_every_file_of_vectors_is_generated() -> None:
    assert {vector.id.split("-")[0] for vector in OF_EVERY_REVISION} == {name.split("-")[0] for name in TOPICS}
    assert {path.stem for path in (files("rose_spec") / "vectors").glob("*/*.json")} == set(TOPICS)  # type: ignore[attr-defined]


def test_an_unknown_topic_is_named() -> None:
    with pytest.raises(ValueError, match="names has sum; allowed are decay, "):
        generate(check=True, names=["sum"])


def test_lint_finds_nothing() -> None:
    assert lint() == []


def test_clauses_of_the_kit_are_those_of_the_spec() -> None:
    assert clause_ids() == re.findall(r"^\*\*(ROSE-\w+\.\d+)\*\*", SPEC.read_text(), re.MULTILINE)


@pytest.mark.parametrize("clause", clause_ids())
def test_every_clause_is_cited_by_at_least_two_vectors(clause: str) -> None:
    assert sum(clause in vector.clauses for vector in OF_EVERY_REVISION) >= 2


def test_intermediate_values_stand_in_many_vectors() -> None:
    for name in ("mean", "range", "trust", "denominator"):
        assert sum(name in vector.expected for vector in VECTORS) >= 30, name


# The tests below show that the linter can fail.


@cache
def sample(kind: str) -> str:
    contents = {key: value for key, value in TOPICS["noise"]().contents().items() if key != "vectors"}
    vector = next(v for v in VECTORS if v.kind == kind and not v.flags and (kind != "step" or "trust" in v.expected))
    value = {name: getattr(vector, name) for name in ("id", "kind", "clauses", "flags", "input", "expected")}
    return json.dumps({**contents, "notes": {}, "vectors": [value]})


def objects(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from objects(part, f"{path}/{key}")


of_each_kind = pytest.mark.parametrize(
    "kind", ["step", "refusal", pytest.param("trajectory", marks=pytest.mark.slow), "digest", "noise"]
)


@of_each_kind
def test_schema_rejects_an_unknown_key_anywhere(kind: str) -> None:
    assert lint_contents(json.loads(sample(kind))) == []
    for number, (path, _) in enumerate(objects(json.loads(sample(kind)))):
        contents = json.loads(sample(kind))
        list(objects(contents))[number][1]["Unknown"] = "00000000"
        problems = lint_contents(contents)
        assert problems, path
        assert "Unknown" in problems[0]


@of_each_kind
def test_schema_misses_every_required_key(kind: str) -> None:
    optional = {"weight_decay", "initial_lr", "max_lr", "mean", "range", "trust", "denominator", "noise"}
    optional |= {field.name for field in fields(Options)} | {"wd_schedule", "bf16_sr", "sr_seed"}
    for number, (path, value) in enumerate(objects(json.loads(sample(kind)))):
        for key in set(value) - optional:
            contents = json.loads(sample(kind))
            del list(objects(contents))[number][1][key]
            assert lint_contents(contents), f"{path}/{key}"


def change(path: str, value: Any) -> Callable[[Any], None]:
    def apply(contents: Any) -> None:
        *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        for key in parents:
            contents = contents[key]
        contents[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("vectors/0/clauses", ["ROSE-99.1"], "clause ROSE-99.1 is not in SPEC.md"),
        ("vectors/0/clauses", [], "non-empty"),
        ("vectors/0/flags", ["odd"], 'flag "odd" is not explained in notes'),
        ("notes", {"odd": "Unused."}, 'flag "odd" is in notes, but no vector has it'),
        ("vectors/0/id", "not an id", "does not match"),
        ("vectors/0/kind", "other", "'other' is not one of"),
        ("vectors/0/input/options/lr", "3f80", "'3f80' does not match"),
        ("vectors/0/input/options/lr", 0.5, "0.5 is not of type 'string'"),
        ("vectors/0/input/param/words/0", "3FF0000000000000", "does not match"),
        ("vectors/0/input/param/dtype", "int32", "'int32' is not one of"),
        ("vectors/0/input/param/shape", [7, 7], "words for shape [7, 7], which has 49 elements"),
        ("vectors/0/input/noise", ["0000"], "1 words of noise for"),
        ("vectors/0/expected/mean", ["0000000000000000"], "1 values of mean for"),
        ("vectors/0/expected/param/words/0", "fff8000000000001", "an answer has 7ff8000000000000"),
        ("revision", "1.0.0", "revision is 1.0.0, not 1.0.2"),
        ("format", 2, "1 was expected"),
    ],
)
def test_lint_names_the_problem(path: str, value: Any, problem: str) -> None:
    contents = json.loads(sample("step"))
    assert contents["vectors"][0]["input"]["param"]["dtype"] == "float64"
    change(path, value)(contents)
    assert problem in "\n".join(lint_contents(contents))
