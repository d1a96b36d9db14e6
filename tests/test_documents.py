"""What README.md and CONTRIBUTING.md claim: commands, defaults, files and examples."""

import inspect
import re
from dataclasses import MISSING, fields
from importlib.metadata import metadata
from pathlib import Path

import pytest

from rose_core import Hyperparameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_has_two_commands_of_one_line_that_set_up_their_own_environment() -> None:
    commands = blocks("sh")
    assert len(commands) == 2
    for command in commands:
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_extras_named_in_the_readme_exist() -> None:
    extras = metadata("rose-core").get_all("Provides-Extra")
    named = set(re.findall(r"\.\[(\w+)\]", README))
    assert named == set(extras)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[1].replace(" ", "-"))
def test_python_blocks_of_the_readme_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_option_table_of_the_readme_has_the_defaults_of_every_optimizer() -> None:
    from rose_numpy import Rose as NumpyRose
    from rose_torch import Rose as TorchRose

    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", README, re.MULTILINE))
    assert list(rows) == [field.name for field in fields(Hyperparameters)]
    assert rows.pop("lr") == "required"
    seed = re.fullmatch(r"`(\w+)`; PyTorch `(\w+)`", rows.pop("sr_seed"))
    assert seed is not None
    numpy_options, torch_options = (inspect.signature(rose).parameters for rose in (NumpyRose, TorchRose))
    assert seed.groups() == (repr(numpy_options["sr_seed"].default), repr(torch_options["sr_seed"].default))
    for field in fields(Hyperparameters):
        assert numpy_options[field.name].kind == torch_options[field.name].kind
        if field.name in rows:
            assert field.default is not MISSING
            assert eval(rows[field.name].strip("`")) == field.default == numpy_options[field.name].default
            assert numpy_options[field.name].default == torch_options[field.name].default


@pytest.mark.parametrize(
    "document", ["README.md", ".github/CONTRIBUTING.md", "spec/README.md", "spec/SPEC.md", "spec/CONFORMANCE.md"]
)
def test_files_that_a_document_links_or_names_exist(document: str) -> None:
    path = ROOT / document
    text = path.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
    for name in re.findall(r"`((?:rose_core|adapters|tests|spec|examples|\.ci)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\b(\w+\.py)\b", text):
        assert list(ROOT.glob(f"*/**/{name}")), name


def test_upstreams_author_is_credited_with_his_citation() -> None:
    for path in ("README.md", "LICENSE", "spec/SPEC.md", "rose_core/__init__.py"):
        text = (ROOT / path).read_text()
        assert "Matthew E. Kieren" in text, path
        assert "10.5281/zenodo.19589764" in text, path
