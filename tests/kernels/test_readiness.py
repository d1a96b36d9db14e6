"""With ``fused=None`` no small job waits for the compiler, and a step has the same bits before and after it is done."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rose_numpy
import rose_torch
from rose_kernels import Kernels, Kind, __main__, availability, kernels, readiness
from tests.adapters.models import normal, parameter
from tests.adapters.refusals import raises
from tests.bits import assert_same_bits, host

KIND = Kind("float32", "float32", "fp64")
FEW = readiness._FEW


class Compiler:
    """In place of Numba: it has compiled nothing, and counts what it is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_cached, self.folder, self.compiled, self.error = False, "/cache", 0, None
        monkeypatch.setattr("rose_kernels.entry.is_compiled", lambda _: self.is_cached)
        monkeypatch.setattr("rose_kernels.entry.cache_folder", lambda: self.folder)
        monkeypatch.setattr("rose_kernels.entry.entry_point", self._compile)
        monkeypatch.setattr(readiness.subprocess, "Popen", self._start)
        self.processes: list[Process] = []

    def _compile(self, _: Kind) -> None:
        if self.error is not None:
            raise self.error
        self.compiled += 1

    def _start(self, command: list[str], **_: Any) -> "Process":
        self.processes.append(Process(command))
        return self.processes[-1]


class Process:
    """In place of `subprocess.Popen`."""

    def __init__(self, command: list[str]) -> None:
        self.command, self.status = command, None

    def poll(self) -> int | None:
        return self.status


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test what a new process has: no kernel is loaded, and no element was updated."""
    monkeypatch.setattr("rose_kernels.kernels.is_ready", readiness.is_ready)
    for name in ("_ready", "_failed", "_updated_by_core", "_compiling"):
        monkeypatch.setattr(readiness, name, type(getattr(readiness, name))())


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    return Compiler(monkeypatch)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(record.levelno == logging.WARNING and record.name == "rose_kernels" for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


def test_a_small_job_never_loads_numba() -> None:
    code = (
        "import sys, numpy, torch, rose_numpy, rose_torch\n"
        "x, p = numpy.ones((300, 20)), torch.nn.Parameter(torch.ones(300, 20))\n"
        "p.grad = torch.ones(300, 20)\n"
        "for _ in range(200): rose_numpy.Rose([x], lr=0.1).step([x.copy()]); rose_torch.Rose([p], lr=0.1).step()\n"
        "print('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_larger_job_compiles_in_another_process(compiler: Compiler, caplog: pytest.LogCaptureFixture) -> None:
    assert not readiness.is_ready(KIND, FEW, demanded=False)
    assert compiler.processes == []
    assert [readiness.is_ready(KIND, 1, demanded=False) for _ in range(3)] == [False] * 3
    (process,) = compiler.processes
    assert process.command[1:4] == ["-m", "rose_kernels", "--compute-dtype"]
    assert process.command[-1] == "float32:float32"
    assert compiler.compiled == 0
    process.status, compiler.is_cached = 0, True
    assert [readiness.is_ready(KIND, 1, demanded=False) for _ in range(3)] == [True] * 3
    assert compiler.compiled == 1
    assert messages(caplog) == [
        "Rose compiles its kernels for float32 parameters in another process, which takes 10 to 20 seconds, and caches "
        "them in /cache. Until then a step takes several times as long."
    ]


def test_cached_kernels_are_loaded_without_a_message(compiler: Compiler, caplog: pytest.LogCaptureFixture) -> None:
    compiler.is_cached = True
    assert not readiness.is_ready(KIND, FEW, demanded=False)
    assert readiness.is_ready(KIND, 1, demanded=False)
    assert (compiler.compiled, compiler.processes, messages(caplog)) == (1, [], [])


def test_fused_true_waits_and_says_so(compiler: Compiler, caplog: pytest.LogCaptureFixture) -> None:
    assert readiness.is_ready(KIND, 1, demanded=True)
    assert (compiler.compiled, compiler.processes) == (1, [])
    assert messages(caplog) == [
        "Rose compiles its kernels for float32 parameters, and caches them in /cache. This takes 10 to 20 seconds."
    ]


@pytest.mark.parametrize("hindrance", ["no folder", "no process", "no interpreter"])
def test_a_job_compiles_itself_if_no_other_process_can(
    hindrance: str, compiler: Compiler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(11, "no process can be started")

    if hindrance == "no folder":
        compiler.folder = None
    elif hindrance == "no process":
        monkeypatch.setattr(readiness.subprocess, "Popen", refuse)
    else:
        monkeypatch.setattr(sys, "executable", "/opt/simulator")
    assert readiness.is_ready(KIND, FEW + 1, demanded=False)
    assert (compiler.compiled, compiler.processes) == (1, [])
    (message,) = messages(caplog)
    assert message.startswith("Rose compiles its kernels for float32 parameters, ")


@pytest.mark.parametrize("status", [1, -9, 0])
def test_a_process_that_fails_leaves_the_work_to_the_core(
    status: int, compiler: Compiler, caplog: pytest.LogCaptureFixture
) -> None:
    assert not readiness.is_ready(KIND, FEW + 1, demanded=False)
    compiler.processes[0].status = status
    assert [readiness.is_ready(KIND, 1, demanded=False) for _ in range(3)] == [False] * 3
    assert compiler.compiled == 0
    assert messages(caplog)[1:] == [
        "Rose goes on without compiled kernels, which cannot be compiled: the process that compiled them ended with "
        f"status {status}"
    ]


def test_a_compiler_that_ends_the_thread_is_an_error(compiler: Compiler) -> None:
    compiler.error, compiler.folder = SystemExit(3), None
    assert not readiness.is_ready(KIND, FEW + 1, demanded=False)
    with raises(RuntimeError, "fused=True needs the compiled kernels, which cannot be compiled: 3"):
        readiness.is_ready(KIND, 1, demanded=True)


def test_the_core_goes_on_if_kernels_cannot_be_compiled(compiler: Compiler, caplog: pytest.LogCaptureFixture) -> None:
    compiler.error, compiler.folder = ImportError("libLLVM is missing"), None
    assert [readiness.is_ready(KIND, FEW + 1, demanded=False) for _ in range(3)] == [False] * 3
    assert messages(caplog)[1:] == [
        "Rose goes on without compiled kernels, which cannot be compiled: libLLVM is missing"
    ]
    expected = "fused=True needs the compiled kernels, which cannot be compiled: libLLVM is missing"
    with raises(RuntimeError, expected):
        readiness.is_ready(KIND, 1, demanded=True)


@pytest.mark.parametrize("demanded", [True, False])
def test_a_step_is_whole_or_not_at_all_if_kernels_cannot_be_compiled(compiler: Compiler, demanded: bool) -> None:
    compiler.error, compiler.folder = ImportError("libLLVM is missing"), None
    before, grad = normal(0, (6, 5)), normal(1, (6, 5))
    arrays, params = [before.copy(), before.copy()], [parameter(before, grad), parameter(before, grad)]
    of_numpy = rose_numpy.Rose(arrays, lr=0.1, fused=demanded or None)
    of_torch = rose_torch.Rose(params, lr=0.1, fused=demanded or None)
    readiness._updated_by_core[KIND] = FEW
    for step in (lambda: of_numpy.step([grad, grad]), of_torch.step):
        if demanded:
            with pytest.raises(RuntimeError, match="which cannot be compiled: libLLVM is missing"):
                step()
        else:
            step()
    changed = [bool(np.any(host(x) != before)) for x in (*arrays, *params)]
    assert changed == [not demanded] * 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer signals")
@pytest.mark.parametrize("demanded", [True, False])
def test_a_signal_during_the_compilation_is_no_error_of_the_compiler(
    demanded: bool, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handle(*_: Any) -> None:
        raise TimeoutError("the time is up")

    def compile_slowly(_: Kind) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(0.1)
        compiler.compiled += 1

    monkeypatch.setattr("rose_kernels.entry.entry_point", compile_slowly)
    compiler.is_cached = True
    before = signal.signal(signal.SIGALRM, handle)
    try:
        with raises(TimeoutError, "the time is up"):
            readiness.is_ready(KIND, FEW + 1, demanded=demanded)
    finally:
        signal.signal(signal.SIGALRM, before)
    monkeypatch.setattr("rose_kernels.entry.entry_point", compiler._compile)
    assert readiness.is_ready(KIND, 1, demanded=demanded)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_starts_its_own_compilation(compiler: Compiler) -> None:
    assert not readiness.is_ready(KIND, FEW + 1, demanded=False)
    with readiness._lock:  # as another thread may hold it
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(30)  # ends a child that waits for the lock
                is_ready = readiness.is_ready(KIND, 1, demanded=False)
                code = 0 if not is_ready and len(compiler.processes) == 2 else 1
            finally:
                os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.slow
def test_another_process_compiles_and_this_one_takes_over(tmp_path: Path) -> None:
    code = (
        "import time, numpy, rose_numpy\n"
        "from rose_kernels import Kernels, readiness\n"
        "readiness._FEW, launches = 0, []\n"
        "run = Kernels.run\n"
        "Kernels.run = lambda *arguments: (launches.append(1), run(*arguments))\n"
        "x, y = numpy.ones((40, 50), numpy.float32), numpy.ones((40, 50), numpy.float32)\n"
        "g = numpy.arange(2000, dtype=numpy.float32).reshape(40, 50) % 7\n"
        "first, second = rose_numpy.Rose([x], lr=0.1), rose_numpy.Rose([y], lr=0.1, fused=False)\n"
        "deadline, waits = time.monotonic() + 300, 0\n"
        "while not launches and time.monotonic() < deadline:\n"
        "    first.step([g]); second.step([g]); waits += 1; time.sleep(0.2)\n"
        "print(waits > 1, bool(launches), (x == y).all())\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True True True\n"
    assert done.stderr.startswith("Rose compiles its kernels for float32 parameters in another process")


OPTIONS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16 with portable noise": {"sr_seed": 3},
    "bfloat16 with drawn noise": {"bf16_sr": torch.Generator()},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_kernels_may_take_over_between_any_two_steps(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = "bfloat16" if options else "float32"
    shapes = [(20, 30), (7,), (), (4, 3, 2)]
    launches: list[int] = []
    run = Kernels.run

    def counting(self: Kernels, launch: Any, *args: Any) -> None:
        launches.append(len(launch.kernels))
        run(self, launch, *args)

    monkeypatch.setattr(Kernels, "run", counting)
    monkeypatch.setattr(readiness, "_FEW", 5 * len(shapes) * kernels._SMALL)
    monkeypatch.setattr(readiness, "_is_cached", lambda _: True)

    def trajectory(fused: bool | None) -> list[np.ndarray]:
        if "bf16_sr" in options:
            options["bf16_sr"].manual_seed(1)
        params = [parameter(normal(number, shape, dtype)) for number, shape in enumerate(shapes)]
        optimizer, states = rose_torch.Rose(params, lr=0.1, fused=fused, **options), []
        for step in range(10):
            for param in params:
                param.grad = parameter(normal(100 + step, tuple(param.shape), dtype)).data
            optimizer.step()
            states += [host(param).copy() for param in params]
        return states

    expected = trajectory(False)
    assert launches == []
    for got, want in zip(trajectory(None), expected, strict=True):
        assert_same_bits(got, want, backend="kernels")
    assert 0 < len(launches) <= 5 * len(shapes)


@pytest.mark.parametrize(
    ("setting", "disabled"), [("1", True), ("true", False), ("0", False), ("", False), (None, False)]
)
def test_numba_disable_jit_leaves_the_steps_to_the_core(setting: str | None, disabled: bool) -> None:
    code = (
        "import numpy, rose_numpy\n"
        "for fused in (None, True):\n"
        "    try: rose_numpy.Rose([numpy.ones(3)], lr=0.1, fused=fused); print('taken')\n"
        "    except RuntimeError as error: print(error)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    if setting is not None:
        environment["NUMBA_DISABLE_JIT"] = setting
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    reason = (
        "fused=True needs the compiled kernels, and NUMBA_DISABLE_JIT turns Numba's compiler off; "
        "fused=None does without"
    )
    assert done.stdout.splitlines() == ["taken", reason if disabled else "taken"]


def test_numba_disable_jit_is_noticed_after_numba_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    array, expected = normal(0, (3, 4)), normal(0, (3, 4))
    optimizer = rose_numpy.Rose([array], lr=0.1)
    rose_numpy.Rose([expected], lr=0.1, fused=False).step([expected.copy()])
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    assert availability.resolve_fused(None) is False
    monkeypatch.setattr(readiness, "_FEW", 0)
    optimizer.step([array.copy()])
    assert_same_bits(array, expected, backend="kernels")


def test_the_command_compiles_each_kind(compiler: Compiler, capsys: pytest.CaptureFixture[str]) -> None:
    __main__.main(["float32", "bfloat16:float32", "--compute-dtype", "fp32"])
    lines = capsys.readouterr().out.splitlines()
    assert compiler.compiled == 2
    assert lines[0] == "cache: /cache"
    assert [line.rpartition(":")[0] for line in lines[1:]] == [
        "float32 parameters, float32 gradients, fp32",
        "bfloat16 parameters, float32 gradients, fp32",
    ]


@pytest.mark.parametrize("dtypes", ["float8", "float32:bfloat16", "float16:float64", "complex64:float32"])
def test_the_command_refuses_dtypes_without_kernels(
    dtypes: str, compiler: Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        __main__.main([dtypes])
    assert (stopped.value.code, compiler.compiled) == (2, 0)
    assert f"there are no kernels for '{dtypes}'" in capsys.readouterr().err


def test_the_command_says_why_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    command = [sys.executable, "-m", "rose_kernels"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "there are no kernels: NUMBA_DISABLE_JIT turns Numba's compiler off\n")
