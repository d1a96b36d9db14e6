"""The commands, their exit statuses and their report files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import rose_core
from rose_spec import selection
from rose_spec.cli import main
from rose_spec.vectors import load_vectors
from tests.spec.samples import samples, write_vectors

RIGHT = ["--python", "rose_core:update", "--noise-function", "rose_core:noise_words"]


@pytest.fixture(autouse=True)
def few_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the vectors by the samples."""
    files = write_vectors(tmp_path, [vector for vector in samples() if vector.id != "digest-many"])
    monkeypatch.setattr(selection, "vector_files", lambda revision: files)  # noqa: ARG005
    monkeypatch.setattr(rose_core, "backwards", lambda p, g, **o: rose_core.update(p, -g, **o), raising=False)


def run(*arguments: str) -> int:
    return main(["run", *arguments])


def test_a_port_that_conforms_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*RIGHT) == 0
    output = capsys.readouterr().out
    assert output.rstrip().endswith("rose_core:update conforms to Rose 1.0.2 at level exact.")
    assert "\x1b" not in output


def test_a_port_that_does_not_conform_exits_with_1_and_shows_the_smallest_failing_vector(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--python", "rose_core:backwards", "--select", "step-scalar") == 1
    output = capsys.readouterr().out
    assert "element 0: expected 4003ffcb923a29c8 (2.4999000000000002), got 3ff7ff972474538f (1.4999)" in output
    assert "does not conform: it fails 1 of the 1 vector selected by --select 'step-scalar' (21 in all)." in output


def test_a_lower_level_may_be_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rose_core, "backwards", lambda p, g, **o: rose_core.update(p, g, **o) * (1 + 1e-6))
    nearly = ["--python", "rose_core:backwards", "--select", "step-matrix"]
    assert [run(*nearly, "--level", level) for level in ("exact", "rounded", "formula")] == [1, 1, 0]
    assert "at level formula" in capsys.readouterr().out


def test_a_port_that_cannot_be_imported_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--python", "no_such_module:update") == 2
    assert capsys.readouterr().err.startswith("rose_spec: no_such_module:update cannot be imported")


def test_a_breach_of_the_protocol_exits_with_2_and_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "port.py"
    file.write_text("print('Hello', flush=True); input()")
    report = tmp_path / "report.json"
    assert run("--program", f"{sys.executable} {file}", "--json", str(report)) == 2
    output = capsys.readouterr().out
    assert output.count("must be a JSON object on one line, got 'Hello'") == 1
    assert "\n21 vectors unanswered: step-matrix: a reply must be a JSON object" in output
    assert "The smallest failing vector" not in output
    assert "clause" not in output  # no table, since nothing was answered
    content = json.loads(report.read_text())
    assert (content["exit_status"], {v["status"] for v in content["vectors"]}) == (2, {"unanswered"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [*RIGHT, "--select", "nothing-*"],
            "no vector of revision 1.0.2 matches --select 'nothing-*'; list prints",
        ),
        ([*RIGHT, "--timeout", "3"], "--timeout needs --program"),
        (["--torch-optimizer", "a:B", "--noise-function", "c:d"], "--noise-function needs --python"),
        (["--program", "node 'port.js"], "cannot be split into arguments: No closing quotation"),
        (["--torch-optimizer", "a:B", "--rename", "lr=a", "--rename", "lr=b"], "--rename lr is given twice, as 'a'"),
        (["--program", "x", "--rename", "lr=rate"], "--rename needs --torch-optimizer"),
        ([*RIGHT, "--json", "/no/such/folder/report.json"], "cannot be written to /no/such/folder/report.json"),
    ],
)
def test_an_error_of_the_caller_exits_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_two_reports_cannot_be_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*RIGHT, "--json", "report", "--markdown", f"{tmp_path}/report") == 2
    assert "--json and --markdown must name different files, got report twice" in capsys.readouterr().err
    assert list(tmp_path.glob("report*")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "--python", "a:b", "--program", "c"],
        ["run", "--program", "c", "--timeout", "0"],
        ["run", "--program", "c", "--timeout", "nan"],
        ["run", "--program", "c", "--format", "xml"],
        ["run", "--torch-optimizer", "a:B", "--option", "fused"],
        ["run", "--python", "a:b", "--revision", "2"],
        ["run", "--python", "a:b", "--volume", "7"],
        ["list", "--kind", "song"],
    ],
)
def test_a_command_line_that_cannot_be_read_exits_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: python -m rose_spec" in capsys.readouterr().err


def test_a_json_report_is_written(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert run(*RIGHT, "--json", str(file)) == 0
    content = json.loads(file.read_text())
    assert content["counts"] == {"passed": 21, "failed": 0, "unsupported": 0, "unanswered": 0}
    assert content["clauses"]["ROSE-11.1"] == {"level": "exact", "vectors": 2, "passed": 2}
    assert content["command"].startswith("python -m rose_spec run --python rose_core:update")


def test_a_conformance_statement_is_written(tmp_path: Path) -> None:
    file = tmp_path / "CONFORMANCE.md"
    assert run("--python", "rose_core:update", "--markdown", str(file)) == 0
    text = file.read_text()
    assert text.startswith("### Conformance to Rose\n\nrose_core:update conforms to Rose 1.0.2 at level exact in all")
    assert "- vectors: 20 passed, 1 unsupported, 0 failed, 0 unanswered\n" in text
    assert "| ROSE-9.3 | unsupported | 1 | 0 | 1 | 0 |  |\n" in text
    assert "- unsupported in 1 vector: no portable noise; --noise-function names one\n" in text


def test_the_verdict_names_the_selection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "CONFORMANCE.md"
    assert run(*RIGHT, "--select", "step-scalar", "--clause", "6.2", "--markdown", str(file)) == 0
    selected = "in the 1 vector selected by --clause 'ROSE-6.2' --select 'step-scalar' (21 in all)."
    assert capsys.readouterr().out.rstrip().endswith(f"at level exact {selected}")
    assert selected in file.read_text()


def test_failures_with_the_same_reason_share_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rose_core, "backwards", lambda p, g, **o: g[1, 1:])  # noqa: ARG005
    assert run("--python", "rose_core:backwards", "--select", "step-[ms]*") == 1
    output = capsys.readouterr().out
    assert "unanswered step-scalar (ROSE-6.2): raised IndexError: too many indices" in output
    monkeypatch.setattr(rose_core, "backwards", lambda p, g, **o: p["a"])  # noqa: ARG005
    assert run("--python", "rose_core:backwards", "--select", "step-*") == 1
    output = capsys.readouterr().out
    assert "\n14 vectors unanswered (step-matrix, step-defaults, step-reference, ...): raised IndexError" in output


def test_the_json_report_has_the_words_that_differ(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    assert run("--python", "rose_core:backwards", "--select", "step-scalar", "--json", str(file)) == 1
    (vector,) = json.loads(file.read_text())["vectors"]
    element = {"index": 0, "expected": "4003ffcb923a29c8", "got": "3ff7ff972474538f"}
    assert vector["difference"] == {
        "request": "step-scalar",
        "count": 1,
        "elements": [element],
        "first_intermediate": None,
    }


def test_digests_run_only_with_volume(capsys: pytest.CaptureFixture[str]) -> None:
    run(*RIGHT)
    assert "21 passed" in capsys.readouterr().out
    run(*RIGHT, "--volume", "1000")
    assert "22 passed" in capsys.readouterr().out


def test_vectors_are_selected_by_clause_section_and_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, count in (
        (["--clause", "ROSE-11.1"], 2),
        (["--clause", "ROSE-11"], 3),
        (["--clause", "11.1"], 2),
        (["--select", "refuse-n*"], 2),
    ):
        assert run(*RIGHT, *arguments) == 0
        assert f"{count} passed" in capsys.readouterr().out


def test_list_prints_the_ids_of_the_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--kind", "refusal", "--topic", "samples", "--clause", "ROSE-10"]) == 0
    assert capsys.readouterr().out == "refuse-narrow-noise  refusal  ROSE-10.4\n"


def test_show_prints_words_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "step-scalar"]) == 0
    output = capsys.readouterr().out
    assert "step-scalar: step, ROSE-6.2, in samples.json\n" in output
    assert "  param: float64 [] 4000000000000000 (2.0)\n" in output
    assert "    lr: 3fe0000000000000 (0.5)\n" in output


@pytest.mark.parametrize("name", [vector.id for vector in samples()[:-1]])
def test_show_prints_every_kind_of_vector(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name]) == 0
    assert "expected\n" in capsys.readouterr().out
    assert main(["show", "--json", name]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == name


def test_a_closed_output_pipe_gives_no_traceback() -> None:
    script = "import sys; from rose_spec.cli import main; sys.exit(main(['list']))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.returncode == 2


def test_show_of_an_unknown_id_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "nothing"]) == 2
    assert "has the id 'nothing'; list prints the ids" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "list", "show", "lint", "generate"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: python -m rose_spec {command}" in capsys.readouterr().out


def test_importing_the_runner_loads_no_framework() -> None:
    code = "import sys, rose_spec.cli; print(sorted({'torch', 'jsonschema', 'rose_core', 'cupy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_rose_core_conforms_through_the_command_line_in_under_10_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    file = tmp_path / "report.json"
    assert run(*RIGHT, "--json", str(file)) == 0
    content = json.loads(file.read_text())
    assert content["counts"]["passed"] == len([vector for vector in load_vectors() if vector.kind != "digest"])
    assert content["seconds"] < 10.0
