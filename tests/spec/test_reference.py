"""The reference of the kit, spec/CONFORMANCE.md, names every option, and Appendix A those that 1.0.0 lacks."""

import json
import re
from pathlib import Path

from rose_spec.supervision import REPORTING
from rose_spec.vectors import load_vectors

SPEC = Path(__file__).parents[2] / "spec"
TEXTS = [(SPEC / name).read_text(encoding="utf-8") for name in ("CONFORMANCE.md", "SPEC.md")]
CONFORMANCE, RULE = (" ".join(text.split()) for text in TEXTS)
SCHEMA = json.loads((SPEC / "rose_spec" / "schema.json").read_text(encoding="utf-8"))["$defs"]


def names(text: str) -> set[str]:
    return set(re.findall("`([a-z_]+)`", text))


def test_the_options_of_a_function_are_those_of_the_schema_and_noise() -> None:
    (listed,) = re.findall(r"receives only the options of the vector: (.*?), an array of uint16", CONFORMANCE)
    assert names(listed) == {*SCHEMA["stepOptions"]["properties"], "noise"}


def test_the_options_of_a_step_are_those_of_the_schema() -> None:
    (listed,) = re.findall(r"The options of a step are (.*?)\. A port without", CONFORMANCE)
    assert names(listed) - {"lr"} == set(SCHEMA["stepOptions"]["properties"]) - {"lr"}


def test_no_vector_of_revision_1_0_0_has_an_option_that_the_appendix_takes_away() -> None:
    (listed,) = re.findall(r"Clause 10 holds without (.*?), which 1\.0\.0 does not have", RULE)
    assert names(listed) == {"maximize", "sr_seed", "max_step"}
    assert all(names(listed).isdisjoint(v.input["options"]) for v in load_vectors("1.0.0") if v.kind == "step")


def test_the_time_until_a_function_that_never_returns_is_ended_is_that_of_the_kit() -> None:
    assert f"If it still runs {REPORTING:g} s after the limit" in CONFORMANCE
