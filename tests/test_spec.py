"""`spec/SPEC.md` and the code agree: code and tests cite every clause, and every cited clause exists."""

import re
from collections.abc import Iterable
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rose_core import Hyperparameters
from rose_core.hyperparameters import COMPUTE_DTYPES
from rose_core.noise import threefry2x32

ROOT = Path(__file__).parents[1]
SPEC = (ROOT / "spec" / "SPEC.md").read_text(encoding="utf-8")

CLAUSES = re.findall(r"^\*\*ROSE-(\d+\.\d+)\*\*", SPEC, re.MULTILINE)
NUMBERS = [tuple(map(int, clause.split("."))) for clause in CLAUSES]

# ROSE-4.2, a section ROSE-4, a range ROSE-6.1 to 6.3 or ROSE-9.1 to ROSE-9.3.
CITATION = re.compile(r"ROSE-(\d+)(?:\.(\d+)(?:\s+to\s+(?:ROSE-)?(\d+)\.(\d+))?)?")

# No clause has this number. The tests of the linter of the vectors use it.
NOWHERE = "99.1"

CODE = ("rose_core", "adapters")
TESTS = ("tests",)
ALL = (*CODE, *TESTS, "spec", "examples")


def files(folders: Iterable[str], pattern: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob(pattern)) if path != Path(__file__)]


def cited(text: str, *, sections: bool) -> set[str]:
    """Return the clauses that a text cites. With `sections`, a section's number cites all of its clauses."""
    clauses: set[str] = set()
    for section, first, last_section, last in CITATION.findall(text):
        if last:
            assert section == last_section, f"a range of clauses leaves section {section}"
            clauses |= {f"{section}.{i}" for i in range(int(first), int(last) + 1)}
        elif first:
            clauses.add(f"{section}.{first}")
        elif sections:
            clauses |= {clause for clause in CLAUSES if clause.startswith(f"{section}.")} or {section}
    return clauses


def cited_in(paths: Iterable[Path], *, sections: bool = False) -> set[str]:
    return {clause for path in paths for clause in cited(path.read_text(encoding="utf-8"), sections=sections)}


def test_cited_finds_citations_in_every_form() -> None:
    assert cited("ROSE-4.2, and ROSE-6.1 to 6.3", sections=False) == {"4.2", "6.1", "6.2", "6.3"}
    assert cited("ROSE-9.1 to ROSE-9.3.", sections=False) == {"9.1", "9.2", "9.3"}
    assert cited("(ROSE-3)", sections=False) == set()
    assert cited("(ROSE-3)", sections=True) == {"3.1", "3.2", "3.3", "3.4"}


def test_clauses_are_numbered_in_order_without_gaps() -> None:
    assert NUMBERS[0] == (1, 1)
    for (section, number), following in pairwise(NUMBERS):
        assert following in {(section, number + 1), (section + 1, 1)}


def test_clauses_have_the_number_of_their_section() -> None:
    section = 0
    for heading, clause in re.findall(r"^## (\d+)\.|^\*\*ROSE-(\d+)\.", SPEC, re.MULTILINE):
        section = int(heading) if heading else section
        assert not clause or int(clause) == section


def algorithm_box() -> str:
    """Return the code of section 0."""
    section = SPEC[SPEC.index("## 0.") : SPEC.index("## 1.")]
    (code,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(code)


def test_the_algorithm_box_fits_on_a_screen() -> None:
    lines = algorithm_box().splitlines()
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 110


def test_each_line_of_the_algorithm_box_names_clauses_that_exist() -> None:
    for line in algorithm_box().splitlines():
        code, _, comment = line.partition("  # ROSE-")
        named = comment.split(", ") if comment else []
        assert set(named) <= set(CLAUSES), line
        assert named or code.strip() == "else:", line


def test_the_algorithm_box_names_the_clauses_of_each_part_of_the_step() -> None:
    named = set(re.findall(r"\d+\.\d+", algorithm_box()))
    assert named >= {"3.1", "3.2", "4.2", "4.3", "5.2", "5.3", "5.4", "5.5", "6.1", "6.2", "6.3", "7.2", "8.1"}


@pytest.mark.parametrize(
    "path", [*files(ALL, "*.py"), *files(ALL, "*.md"), ROOT / "README.md"], ids=lambda path: path.name
)
def test_a_cited_clause_exists(path: Path) -> None:
    clauses = cited(path.read_text(encoding="utf-8"), sections=True) - {NOWHERE}
    assert clauses <= set(CLAUSES), f"SPEC.md has no {sorted(clauses - set(CLAUSES))}"


def test_every_clause_is_cited_by_the_code() -> None:
    """A module's docstring may cite a whole section."""
    missing = set(CLAUSES) - cited_in(files(CODE, "*.py"), sections=True)
    assert not missing, f"no module cites {sorted(missing)}"


APPENDIX = re.findall(r"^\*\*(ROSE-A\.\d+)\*\*", SPEC, re.MULTILINE)
TEXT_OF_THE_KIT = "".join(path.read_text(encoding="utf-8") for path in files(["spec/rose_spec"], "*.py"))
TEXT_OF_TESTS = "".join(path.read_text(encoding="utf-8") for path in files(TESTS, "*.py"))


@pytest.mark.parametrize("clause", APPENDIX)
def test_a_clause_of_the_appendix_is_cited_by_the_kit_and_by_a_test(clause: str) -> None:
    assert clause in TEXT_OF_THE_KIT
    assert clause in TEXT_OF_TESTS


def test_citations_of_the_appendix_exist() -> None:
    assert len(APPENDIX) == 5
    assert set(re.findall(r"ROSE-A\.\d+", TEXT_OF_THE_KIT + TEXT_OF_TESTS)) <= set(APPENDIX)


def test_every_clause_is_cited_by_a_test() -> None:
    missing = set(CLAUSES) - cited_in(files(TESTS, "*.py"))
    assert not missing, f"no test cites {sorted(missing)}"


def clause(number: str) -> str:
    """Return the text of a clause."""
    start = SPEC.index(f"**ROSE-{number}**")
    end = SPEC.find("**ROSE-", start + 1)
    return SPEC[start:end]


def test_the_known_answers_are_those_of_threefry() -> None:
    text = " ".join(clause("9.1").split())
    pair = r"`([0-9a-f]{8} [0-9a-f]{8})`"
    answers = re.findall(rf"{pair}, {pair}, {pair}", text)
    assert len(answers) == 3
    for answer in answers:
        key, counter, result = (tuple(int(word, 16) for word in words.split()) for words in answer)
        arrays = [np.asarray([word], np.uint32) for word in (*key, *counter)]
        words = threefry2x32((arrays[0], arrays[1]), (arrays[2], arrays[3]))
        assert tuple(int(word[0]) for word in words) == result


def table() -> dict[str, tuple[str, str]]:
    """Return the default and the allowed values of each option as ROSE-10.1 writes them."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", clause("10.1"), re.MULTILINE)
    return {name: (default, allowed) for name, default, allowed in rows}


def test_the_table_of_options_has_the_names_and_defaults_of_the_code() -> None:
    written = {"false": False, "true": True, "none": None}
    assert list(table()) == [field.name for field in fields(Hyperparameters)]
    for field in fields(Hyperparameters):
        default, _ = table()[field.name]
        if field.default is MISSING:
            assert default == "none: must be given"
        elif isinstance(field.default, str):
            assert default == field.default
        else:
            assert written.get(default, default) == field.default or float(default) == field.default


def test_the_table_of_options_has_the_compute_dtypes_of_the_code() -> None:
    _, allowed = table()["compute_dtype"]
    assert set(re.findall(r"\w+", allowed)) - {"or"} == set(COMPUTE_DTYPES)
