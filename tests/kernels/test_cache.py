"""The cache of compiled kernels: damaged files, folders that cannot be written, and several processes."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from numba import types

from rose_kernels.llvm import cache
from rose_kernels.llvm.cache import compile_or_load, folder_of_cache, is_cached

SIGNATURE = (types.int64,)
SOURCE = "def double(x):\n    return 2 * x\n"


@pytest.fixture
def new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Return a function that returns what a new process has: a dispatcher that has compiled nothing."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "doubling.py"
    path.write_text(SOURCE)

    def dispatcher() -> Any:
        scope: dict[str, Any] = {"__name__": "doubling", "__file__": str(path)}
        exec(compile(SOURCE, path, "exec"), scope)
        return numba.njit(cache=True)(scope["double"])

    return dispatcher


def doubled(dispatcher: Any) -> int:
    compile_or_load(dispatcher, SIGNATURE)
    return int(dispatcher.get_overload(SIGNATURE)(21))


def files(dispatcher: Any, suffix: str) -> list[Path]:
    folder = folder_of_cache(dispatcher)
    assert folder is not None
    return sorted(Path(folder).glob(f"*{suffix}"))


def test_a_second_process_loads_what_the_first_has_compiled(new_process: Callable[[], Any]) -> None:
    first, second = new_process(), new_process()
    assert not is_cached(first, SIGNATURE)
    assert doubled(first) == 42
    assert is_cached(second, SIGNATURE)
    assert doubled(second) == 42
    assert sum(second.stats.cache_hits.values()) == 1


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "not a pickle": lambda _: b"\xff" * 100,
    "text": lambda _: b"<html>not found</html>",
    "another object": lambda _: pickle.dumps(["something else"]),
    "another class": lambda _: b"cmissing_module\nMissing\n.",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_damaged_file_is_replaced(
    suffix: str, damage: Callable[[bytes], bytes], new_process: Callable[[], Any]
) -> None:
    first = new_process()
    assert doubled(first) == 42
    (path,) = files(first, suffix)
    path.write_bytes(damage(path.read_bytes()))
    assert not is_cached(new_process(), SIGNATURE)
    assert doubled(new_process()) == 42
    after = new_process()
    assert doubled(after) == 42
    assert sum(after.stats.cache_hits.values()) == 1


def test_a_missing_file_is_compiled_anew(new_process: Callable[[], Any]) -> None:
    first = new_process()
    assert doubled(first) == 42
    for path in files(first, ".nbc"):
        path.unlink()
    assert not is_cached(new_process(), SIGNATURE)
    assert doubled(new_process()) == 42
    assert is_cached(new_process(), SIGNATURE)


def test_a_damaged_file_that_cannot_be_replaced_is_not_used(
    new_process: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = new_process()
    assert doubled(first) == 42
    (path,) = files(first, ".nbi")
    path.write_bytes(b"")

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "read-only file system")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._open_for_write", refuse)
    assert doubled(new_process()) == 42
    assert path.read_bytes() == b""


def test_a_cache_that_cannot_be_written_is_no_error(
    new_process: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._open_for_write", refuse)
    assert doubled(new_process()) == 42
    assert not is_cached(new_process(), SIGNATURE)


COMPILED_SLOWLY = """
import time
from numba import njit, types
from rose_kernels.llvm.cache import compile_or_load
import doubling

dispatcher, signature = njit(cache=True)(doubling.double), (types.int64,)
compile_now = dispatcher.compile
dispatcher.compile = lambda signature: (time.sleep(1), compile_now(signature))
compile_or_load(dispatcher, signature)
print(sum(dispatcher.stats.cache_hits.values()), sum(dispatcher.stats.cache_misses.values()))
"""


def test_of_two_processes_one_compiles(tmp_path: Path) -> None:
    """It holds the lock until the result is on disk, and the other one then loads it."""
    pytest.importorskip("fcntl")
    (tmp_path / "doubling.py").write_text(SOURCE)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": paths}
    command = [sys.executable, "-c", COMPILED_SLOWLY]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(process.communicate()[0] for process in processes) == ["0 1\n", "1 0\n"]


def test_a_file_system_without_locks_is_no_error(
    new_process: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcntl")

    def refuse(*_: Any) -> None:
        raise OSError(37, "no locks available")

    monkeypatch.setattr(cache.fcntl, "flock", refuse)
    assert doubled(new_process()) == 42


STEP = (
    "import numpy, rose_numpy; x = numpy.ones((2, 2)); "
    "rose_numpy.Rose([x], lr=0.5, fused=True).step([x.copy()]); print(x.tolist())"
)


@pytest.mark.slow
def test_a_step_after_the_cache_of_the_kernels_was_damaged(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def step() -> str:
        command = [sys.executable, "-c", STEP]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    expected = step()
    for path in tmp_path.rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:-100])
    assert step() == expected
