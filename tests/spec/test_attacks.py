"""The kit ends in time, in little memory, without a traceback and without processes left, whatever a program does."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spec.attacks import ATTACKS, attack

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the attacks use POSIX processes")

# Attacks that need the time limits, or all vectors. CI runs them.
QUICK = ("closes its output and lives", "nested JSON", "endless line", "flood after the end", "control characters")
LIMITS = ("--timeout", "1", "--total-timeout", "8")
# A sentence that the report must have, without line breaks.
SENTENCES = {
    "closes its input and lives": "no reply within 1 s",
    "closes its output and lives": "the program closed its output and kept running",
    "nested JSON": "must be a JSON object on one line, got '[[[",
    "huge numbers": "the shape of param must be a list of at most 64 lengths",
    "endless line": "must be a line of at most ",
    "endless standard error": "no reply within 1 s",
    "flood after the end": "after the last reply the port wrote another line: 'xxx",
    "flood of lines": "twice",
    "huge reasons": "must be a line of at most ",
    "large reasons": "vectors for other reasons",
    "child holds the output": "ended without a reply, with exit status 0; a process that it started holds its output",
    "is slow": "time limit of the run",
    "does not exit": "did not exit within 1 s of the end of its input",
    "control characters": r"\x1b]0;owned\x07\x1b[2J\u202e\x9b31m",
    "control characters in standard error": r"its standard error ends with: \x1b]0;owned",
    "null for an answer": "must have one of param, words, refused, unsupported; got none",
    "text for JSON": "--format text reads text",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in ATTACKS]
)
def test_an_attack_ends_in_bounds_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    run = attack(ATTACKS[name], tmp_path, LIMITS)
    text = run.output.decode()
    assert run.status in (1, 2)
    assert "Traceback" not in text
    assert re.search(r"[^\n -~]", text) is None
    assert len(text) < 100_000
    assert SENTENCES.get(name, "") in " ".join(text.split())
    assert run.seconds < 60.0
    assert run.megabytes < 500.0
    assert run.left == []


def test_the_names_of_the_sentences_are_those_of_the_attacks() -> None:
    assert set(SENTENCES) | set(QUICK) <= set(ATTACKS)


@pytest.mark.parametrize("arguments", [("--json",), ("--markdown",)], ids=lambda arguments: arguments[0])
def test_an_interrupted_run_exits_with_130_and_keeps_the_report_that_was_there(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("before")
    for report in (old, new):
        run = attack(ATTACKS["is slow"], tmp_path, (*arguments, str(report)), interrupt_after=2.0)
        assert (run.status, run.left) == (130, [])
        assert run.output == b"rose_spec: interrupted, so there is no report\n"
    assert old.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "output", "port.py"]


def test_a_terminated_run_leaves_no_process(tmp_path: Path) -> None:
    run = attack(ATTACKS["is slow"], tmp_path, (), interrupt_after=2.0, number=signal.SIGTERM)
    assert (run.status, run.output, run.left) == (143, b"", [])


def test_a_report_replaces_a_file_and_is_valid_after_an_attack(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text("before")
    run = attack(ATTACKS["lone surrogates"], tmp_path, ("--json", str(report), "--select", "step-sign*"))
    content = json.loads(report.read_text())
    assert run.status == content["exit_status"] == 1
    assert r"\udcff\ud800" in content["vectors"][0]["detail"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output", "port.py", "report.json"]


def test_a_report_may_be_written_to_a_pipe() -> None:
    arguments = ["--python", "rose_core:update", "--select", "step-sign-to-zero", "--json", "/dev/stdout"]
    done = subprocess.run([sys.executable, "-m", "rose_spec", "run", *arguments], capture_output=True, check=True)
    assert b'"exit_status": 0' in done.stdout


def test_the_default_limits_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    from rose_spec.cli import TIMEOUT, TOTAL_TIMEOUT, TOTAL_TIMEOUT_WITH_VOLUME, main

    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"time limit for each reply (default: {TIMEOUT:g})" in text
    assert f"(default: {TOTAL_TIMEOUT:g}, with --volume 100000 it is {TOTAL_TIMEOUT_WITH_VOLUME:g})" in text


def test_a_slow_function_reaches_the_time_limit_of_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rose_spec.cli import main

    (tmp_path / "kit_slow.py").write_text(
        "import time\ndef update(param, grad, **options):\n    time.sleep(0.1)\n    return param\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        assert main(["run", "--python", "kit_slow:update", "--total-timeout", "0.3"]) == 2
    finally:
        sys.path.remove(str(tmp_path))
    assert "the time limit of the run is reached; --total-timeout sets another one" in capsys.readouterr().out
