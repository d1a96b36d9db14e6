"""The guide, spec/README.md: its commands run, its port gives the report that it shows, and its claims are true."""

import re
import shlex
import shutil
import subprocess
from importlib.metadata import metadata
from pathlib import Path

import pytest

from rose_spec.cli import main
from rose_spec.comparison import LEVELS
from tests.spec.test_example_ports import LIMIT

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "spec" / "README.md").read_text(encoding="utf-8")

# The guide names an optimizer with another name for weight_decay, and with an option that Rose does not have.
OPTIMIZER = """

import rose_torch


class Rose(rose_torch.Rose):
    def __init__(self, params, lr, wd=1e-4, fused=True, **options):
        super().__init__(params, lr, weight_decay=wd, **options)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


COMMANDS = [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]
COMMANDS += re.findall(r"`(python -m rose_spec [^`]+|pip install [^`]+)`", GUIDE)
KIT_COMMANDS = [command for command in COMMANDS if command.startswith("python -m rose_spec ")]
(PORT,) = blocks("python")
(REPORT,) = blocks("text")


@pytest.fixture
def port_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the module `my_port` of the guide, which is the current folder during the test."""
    (tmp_path / "my_port.py").write_text(PORT + OPTIMIZER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compiled(command: str, folder: Path) -> None:
    """Run the compiler command of the guide, so that the program is in the folder."""
    compiler, *arguments = shlex.split(command)
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    arguments = [str(ROOT / argument) if argument.startswith("examples/") else argument for argument in arguments]
    subprocess.run([compiler, *arguments], check=True, cwd=folder)


def test_the_other_commands_install_the_kit_and_compile_a_port() -> None:
    others = sorted(command for command in COMMANDS if command not in KIT_COMMANDS)
    assert [command.split()[0] for command in others] == ["cc", "pip"]
    (extra,) = re.findall(r"\.\[(\w+)\]", others[1])
    assert extra in metadata("rose-core").get_all("Provides-Extra")


# tests/spec/test_mutants.py counts the mutants.
@pytest.mark.parametrize("command", [command for command in KIT_COMMANDS if not command.endswith("mutants")])
def test_a_command_of_the_guide_runs(command: str, port_folder: Path) -> None:
    arguments = shlex.split(command)[3:]
    if "--program" in arguments:
        index = arguments.index("--program") + 1
        if arguments[index] == "./rose":
            compiled(next(one for one in COMMANDS if one.startswith("cc ")), port_folder)
        elif shutil.which("node") is None:
            pytest.skip("node is not installed")
        arguments[index] = arguments[index].replace("examples/", f"{ROOT}/examples/")
    if arguments[0] == "run" and "--select" not in arguments:
        arguments += ["--select", "step-sign-*"]  # a few quick vectors
    assert main(arguments) in (0, 1)


@pytest.mark.usefixtures("port_folder")
def test_the_port_of_the_guide_gives_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = [command for command in KIT_COMMANDS if "my_port:update" in command]
    assert main(shlex.split(command)[3:]) == 1
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert seconds_removed("\n".join(lines)) == seconds_removed(REPORT.rstrip())


def seconds_removed(report: str) -> str:
    return re.sub(r"in \d+\.\d s", "in 0.0 s", report)


def test_the_guide_explains_every_level_in_order() -> None:
    assert re.findall(r"^- `(\w+)`:", GUIDE, re.MULTILINE) == [*LEVELS, "none"]


def test_the_guide_has_the_line_limit_of_the_example_ports() -> None:
    assert f"shorter than {LIMIT} lines" in GUIDE


def test_the_guide_is_short() -> None:
    assert len(GUIDE.splitlines()) <= 120
