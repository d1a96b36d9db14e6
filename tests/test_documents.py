"""What the documents claim: commands, defaults, figures, files, links and examples."""

import importlib
import inspect
import math
import re
import sys
from dataclasses import MISSING, fields
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rose_core import Hyperparameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
GUIDE_TEXTS = {
    name: (ROOT / "adapters" / name / "README.md").read_text(encoding="utf-8") for name in ("rose_numpy", "rose_torch")
}

FROM_ADAM = "examples/README.md"
GUIDES = [
    *sorted(
        str(path.relative_to(ROOT))
        for folder in ("adapters", "rose_core")
        for path in ROOT.glob(f"{folder}/*/README.md")
    ),
    FROM_ADAM,
]
DOCUMENTS = [
    "README.md",
    *GUIDES,
    *(f".github/{name}.md" for name in ("CONTRIBUTING", "CHANGELOG")),
    *(f"spec/{name}.md" for name in ("README", "SPEC", "CONFORMANCE")),
]
documents = pytest.mark.parametrize("document", DOCUMENTS)

# The add of the README's table of speed: its time for a number of parameters.
ADD_MS, ADD_PARAMETERS = 17.5, 42.0e6


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def python_blocks() -> list[tuple[str, str]]:
    """Return the Python blocks of the README and of the guides, each with the name of its document."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ["README.md", *GUIDES]}
    return [(name, code) for name, text in texts.items() for code in blocks(text, "python")]


def table(text: str, start: str) -> dict[str, dict[str, str]]:
    """Return the cells of a table by row and column. `start` begins the header of the first column."""
    lines = text[text.index(f"| {start}") :].partition("\n\n")[0].splitlines()
    (_, *columns), _, *rows = ([cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines)
    return {first: dict(zip(columns, others, strict=True)) for first, *others in rows}


def pair(cell: str) -> list[float]:
    """Return the numbers of a cell, for float32 and for bfloat16."""
    return [float(number) for number in re.findall(r"[\d.]+", cell)]


def test_readme_has_two_commands_of_one_line_that_set_up_their_own_environment() -> None:
    commands = blocks(README, "sh")
    assert len(commands) == 2
    for command in commands:
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_the_readme_is_short_and_shows_python_on_its_first_screen() -> None:
    lines = README.splitlines()
    assert len(lines) <= 130
    assert lines.index("```python") < 15


def test_extras_named_in_the_documents_exist_and_all_are_named() -> None:
    extras = metadata("rose-core").get_all("Provides-Extra")
    texts = [(ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS]
    named = {extra for text in texts for group in re.findall(r"\.\[([\w,]+)\]", text) for extra in group.split(",")}
    assert named == set(extras)


class SummaryWriter:
    """The part of torch.utils.tensorboard.SummaryWriter that a guide uses. TensorBoard need not be installed."""

    def __init__(self, log_dir: str) -> None:
        assert isinstance(log_dir, str)

    def __enter__(self) -> "SummaryWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert (type(tag), type(scalar_value), type(global_step)) == (str, float, int)


@pytest.mark.parametrize(("document", "code"), python_blocks(), ids=lambda text: text.splitlines()[-1][:60])
def test_python_blocks_run(
    document: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", sys.modules[__name__])
    exec(compile(code, document, "exec"), {})
    if document == FROM_ADAM:  # each of its lines that print has the output as its comment
        assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)


def test_the_table_of_learning_rates_has_the_tasks_of_its_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    tasks = importlib.import_module("learning_rates").TASKS
    assert list(table((ROOT / FROM_ADAM).read_text(encoding="utf-8"), "task")) == list(tasks)


def test_the_loop_of_the_readme_reaches_its_optimum() -> None:
    """With centering, the sum of each row of `w` would stay 0."""
    names: dict[str, Any] = {}
    exec(next(code for code in blocks(README, "python") if "rose_numpy" in code), names)
    last_lr = names["optimizer"].param_groups[0]["lr"]
    assert last_lr < 2e-3
    assert np.abs(names["weights"]["w"] - np.eye(2, 3)).max() < last_lr
    assert np.abs(names["weights"]["b"] - 1.0).max() < last_lr


def test_the_loop_of_the_guide_for_numpy_reaches_its_optimum() -> None:
    """With centering, it would stop at a mean square error of 1.15 instead of 1.12."""
    names: dict[str, Any] = {}
    guide = (ROOT / "adapters" / "rose_numpy" / "README.md").read_text(encoding="utf-8")
    exec(blocks(guide, "python")[0], names)
    x, y, weights = names["x"], names["y"], names["weights"]
    inputs = np.c_[x, np.ones(len(x))]
    least = np.mean((inputs @ np.linalg.lstsq(inputs, y, rcond=None)[0] - y) ** 2)
    assert np.mean((x @ weights["w"].T + weights["b"] - y) ** 2) == pytest.approx(least, rel=1e-5)


def test_every_guide_has_python_blocks() -> None:
    assert {"README.md", *GUIDES} == {document for document, _ in python_blocks()}
    assert len(GUIDES) >= 2


def test_option_table_of_the_readme_has_the_defaults_of_every_optimizer() -> None:
    from rose_numpy import Rose as NumpyRose
    from rose_torch import Rose as TorchRose

    defaults = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", README, re.MULTILINE))
    assert list(defaults) == [field.name for field in fields(Hyperparameters)]
    assert defaults.pop("lr") == "required"
    seed = re.fullmatch(r"`(\w+)`; PyTorch `(\w+)`", defaults.pop("sr_seed"))
    assert seed is not None
    numpy_options, torch_options = (inspect.signature(rose).parameters for rose in (NumpyRose, TorchRose))
    assert seed.groups() == (repr(numpy_options["sr_seed"].default), repr(torch_options["sr_seed"].default))
    for field in fields(Hyperparameters):
        assert numpy_options[field.name].kind == torch_options[field.name].kind
        if field.name in defaults:
            assert field.default is not MISSING
            assert eval(defaults[field.name].strip("`")) == field.default == numpy_options[field.name].default
            assert numpy_options[field.name].default == torch_options[field.name].default


@pytest.mark.parametrize("name", ["rose_numpy", "rose_torch"])
def test_a_guide_names_the_options_that_the_readme_lacks(name: str) -> None:
    options = inspect.signature(importlib.import_module(name).Rose).parameters
    refused = {"foreach", "capturable", "differentiable", "unknown"}  # only their defaults are allowed
    (start,) = re.findall(r"lists the\s+options of the rule\.(.*?)\n\n", GUIDE_TEXTS[name], re.DOTALL)
    more = set(options) - {field.name for field in fields(Hyperparameters)} - refused - {"params"}
    assert more == {"fused", "nonfinite"} == set(re.findall(r"`(fused|nonfinite)`", start))


@pytest.mark.parametrize(
    ("of_readme", "of_guide", "case"),
    [
        ("GPT", "GPT", "gpt"),
        ("ResNet-50", "ResNet-50", "resnet50"),
        ("one row", "one row", "row"),
        ("rows of 27, as in convolutions of 3 channels", "rows of 27", "rows27"),
        ("LoRA factors of rank 8", "LoRA", "lora"),
        ("1,000 tensors of 10 x 10", "1,000 small", "small"),
    ],
)
def test_the_speeds_of_the_readme_follow_from_the_measurements_in_adds(
    of_readme: str, of_guide: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    cases = importlib.import_module("benchmark_cases").CASES
    elements = sum(math.prod(shape) for shape in cases[case].up_to(50e6))
    shown = table(README, "a step of `rose_torch`")[of_readme]
    adds = table(GUIDE_TEXTS["rose_torch"], "time of a step, in adds")
    rose, upstream, adamw = (pair(adds[name][of_guide]) for name in ("rose_torch", "rose-opt", "AdamW, fused"))
    assert pair(shown["parameters"]) == [pytest.approx(elements / 1e6, abs=0.5)]
    for column, others in (("times faster than `rose-opt`", upstream), ("times faster than fused AdamW", adamw)):
        assert pair(shown[column]) == [float(f"{b / a:.2g}") for a, b in zip(rose, others, strict=True)]
    assert f"took {ADD_MS} ms for the GPT" in README
    # Smaller cases fit in a cache, so the time of their add is not in proportion to the number of their elements.
    is_cached = elements * 12 < 64 * 2**20
    times = [] if is_cached else [round(add * ADD_MS * elements / ADD_PARAMETERS) for add in rose]
    assert pair(shown["time"]) == times


@documents
def test_files_that_a_document_links_or_names_exist(document: str) -> None:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (path.parent / target).exists(), target
    for name in re.findall(r"`((?:rose_core|adapters|tests|spec|examples|\.ci|\.docs|\.github)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\b(\w+\.py)\b", text):
        assert [*ROOT.glob(f"*/**/{name}")], name


@documents
def test_headings_that_a_document_links_exist(document: str) -> None:
    path = ROOT / document
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", path.read_text(encoding="utf-8")):
        text = ((path.parent / target) if target else path).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_ci_builds_the_documentation_as_contributing_does() -> None:
    (command,) = re.findall(r"(sphinx-build) (.+)", CONTRIBUTING)
    assert f"sphinx-build -q {command[1]}" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_changelog_has_the_version_and_what_is_unreleased() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / ".github" / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1].split()[0] == metadata("rose-core")["Version"]


def test_the_workflow_runs_every_version_of_python_that_is_supported() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    versions = re.findall(r'"(3\.\d+)"', workflow)
    least = metadata("rose-core")["Requires-Python"].removeprefix(">=")
    assert versions == sorted(versions, key=lambda version: int(version.split(".")[1]))
    assert versions[0] == least
    assert f"Python {least} to {versions[-1]}" in CONTRIBUTING


def test_upstreams_author_is_credited_with_his_citation() -> None:
    for path in ("README.md", "LICENSE", "spec/SPEC.md", "rose_core/__init__.py"):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert "Matthew E. Kieren" in text, path
        assert "10.5281/zenodo.19589764" in text, path
