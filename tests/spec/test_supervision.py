"""A function or an optimizer can neither end nor block the kit, since a child process checks it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rose_spec import supervision
from rose_spec.supervision import run

HEAD = "import os, signal, time\nfrom rose_core import update as right\n\n\ndef update(param, grad, **options):\n    "
ARGUMENTS = ("run", "--python", "kit_port:update", "--select", "step-sign*")


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the module `kit_port`, whose folder is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "kit_port.py"


@pytest.mark.parametrize(("body", "status"), [("return right(param, grad, **options)", 0), ("return grad", 1)])
def test_the_status_is_that_of_the_verdict(
    body: str, status: int, port: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port.write_text(HEAD + body)
    assert run(ARGUMENTS) == status
    output = capfd.readouterr()
    assert ("conforms to Rose" in output.out, output.err) == (status == 0, "")


@pytest.mark.parametrize("body", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_port_that_ends_the_process_has_no_verdict(body: str, port: Path, capfd: pytest.CaptureFixture[str]) -> None:
    port.write_text(HEAD + body)
    assert run([*ARGUMENTS, "--json", "report.json"]) == 2
    assert capfd.readouterr().err == "rose_spec: the port ended the process of the run, so there is no verdict\n"
    assert not Path("report.json").exists()


def test_an_interrupt_that_the_port_raises_itself_is_reported(port: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The child ignores Ctrl-C, so KeyboardInterrupt comes from the port there."""
    port.write_text(HEAD + "raise KeyboardInterrupt('of the port')")
    assert run(ARGUMENTS) == 1
    output = capfd.readouterr()
    assert ("raised KeyboardInterrupt: of the port" in output.out, output.err) == (True, "")
    port.write_text("raise KeyboardInterrupt")
    assert run(ARGUMENTS) == 2
    assert "kit_port:update cannot be imported: KeyboardInterrupt" in capfd.readouterr().err


def test_a_port_that_ends_the_process_after_the_verdict_keeps_the_verdict(port: Path) -> None:
    port.write_text("import atexit, os\natexit.register(os._exit, 0)\n" + HEAD + "return grad")
    assert run(ARGUMENTS) == 1


@pytest.mark.parametrize(
    "body",
    ["time.sleep(600)", "while True:\n        try:\n            time.sleep(600)\n        except BaseException: pass"],
)
def test_a_function_that_never_returns_is_ended_after_the_time_limit(
    body: str, port: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervision, "REPORTING", 2.0)
    port.write_text(HEAD + body)
    started = time.monotonic()
    assert run([*ARGUMENTS, "--total-timeout", "1"]) == 2
    assert time.monotonic() - started < 10.0
    assert "the port still runs after the time limit of the run; --total-timeout" in capfd.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="the signals are those of POSIX")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_and_its_child(number: int, status: int, port: Path) -> None:
    port.write_text(HEAD + "print(os.getpid(), flush=True)\n    time.sleep(600)")
    command = [sys.executable, "-m", "rose_spec", *ARGUMENTS, "--json", "report.json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True) as kit:
        assert kit.stdout is not None
        assert kit.stderr is not None
        child = int(kit.stdout.readline())
        try:
            os.killpg(kit.pid, number)
            assert kit.wait(10.0) == status
        finally:
            kit.kill()  # a failure must not wait for it
        message = b"rose_spec: interrupted, so there is no report\n"
        assert kit.stderr.read() == (message if number == signal.SIGINT else b"")
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    assert not Path("report.json").exists()


def test_a_program_runs_without_another_process(port: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "multiprocessing", None)  # not to be used
    port.write_text("input()")
    assert run(["run", "--program", f"{sys.executable} {port}", "--select", "step-sign-to-zero"]) == 1
    assert run(["show", "step-sign-to-zero"]) == 0
