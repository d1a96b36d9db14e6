"""`save` and `load`: the same bits in a resumed run, errors before anything is changed, and files that stay whole."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import rose_arrays.checkpoint
from rose_core.namespace import arrays
from rose_numpy import Rose, load, save
from tests import fake_cupy
from tests.adapters.models import grads
from tests.adapters.refusals import raises
from tests.bits import DTYPES, assert_same_bits

# It imports no test, which would import torch.
RUN: Final = """
import sys
import ml_dtypes
import numpy as np
from rose_numpy import Rose, load, save

path, mode = sys.argv[1:]
rng = np.random.default_rng(0)
weights = {"w": rng.normal(size=(6, 5)).astype(ml_dtypes.bfloat16), "b": rng.normal(size=6)}
optimizer = Rose(weights, lr=0.25, wd_schedule=True, sr_seed=5)
first = load(path, weights, optimizer)["next"] if mode == "resume" else 0
for step in range(first, 10 if mode == "break" else 20):
    optimizer.param_groups[0]["lr"] = 0.25 * (1 - step / 40)
    rng = np.random.default_rng(step)
    optimizer.step({"w": rng.normal(size=(6, 5)).astype(np.float32), "b": rng.normal(size=6)})
save(path, weights, optimizer, extra={"next": step + 1})
"""


def run_python(code: str, *arguments: str) -> "subprocess.Popen[bytes]":
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, cwd=root)


def test_a_run_that_is_resumed_in_a_new_process_has_the_same_bits(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    for path, mode in ((whole, "whole"), (parts, "break"), (parts, "resume")):
        with run_python(RUN, str(path), mode) as process:
            assert process.wait() == 0
    expected, found = ({"w": np.zeros((6, 5), ml_dtypes.bfloat16), "b": np.zeros(6)} for _ in range(2))
    optimizers = [Rose(weights, lr=1.0) for weights in (expected, found)]
    for path, weights, optimizer in zip((whole, parts), (expected, found), optimizers, strict=True):
        assert load(path, weights, optimizer) == {"next": 20}
    assert optimizers[0].state_dict() == optimizers[1].state_dict()
    assert optimizers[0].param_groups[0]["initial_lr"] == 0.25
    for name, array in expected.items():
        assert_same_bits(found[name], array)


@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "uint8", "bool"])
def test_dtypes_shapes_and_bits_are_kept(dtype: str, tmp_path: Path) -> None:
    path, kind = tmp_path / "a.safetensors", DTYPES[dtype][0] if dtype in DTYPES else np.dtype(dtype)
    words = np.random.default_rng(0).integers(0, 2, (3, 4, kind.itemsize), np.uint8)
    saved = {
        "matrix": words.view(kind)[..., 0],
        "turned": words.view(kind)[..., 0].T,
        "scalar": np.ones((), kind),
        "empty": np.ones((0, 3), kind),
    }
    save(path, saved)
    loaded = {name: np.zeros_like(array) for name, array in saved.items()}
    assert load(path, loaded) is None
    for name, array in saved.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].tobytes() == array.tobytes()
    entries = safetensors.numpy.load_file(path) if dtype != "bfloat16" else {}
    assert all(entries[name].tobytes() == array.tobytes() for name, array in saved.items() if entries)


def test_memory_mapped_arrays_are_saved_and_overwritten_in_place(tmp_path: Path) -> None:
    path, file = tmp_path / "a.safetensors", tmp_path / "weights"
    mapped = np.memmap(file, np.float32, "w+", shape=(4, 3))
    mapped[...] = np.arange(12).reshape(4, 3)
    save(path, {"w": mapped})
    mapped[...] = -1.0
    load(path, {"w": mapped})
    mapped.flush()
    assert np.fromfile(file, np.float32).tolist() == list(range(12))


def test_arrays_of_a_sequence_and_of_groups_are_saved(tmp_path: Path) -> None:
    path, arrays_ = tmp_path / "a.safetensors", [np.ones(2), np.full(3, 2.0)]
    optimizer = Rose([{"params": arrays_[:1]}, {"params": {"b": arrays_[1]}, "lr": 0.5}], lr=0.25)
    optimizer.step([[np.ones(2)], {"b": None}])
    save(path, arrays_, optimizer, extra=["any", 1])
    loaded = [np.zeros(2), np.zeros(3)]
    resumed = Rose([{"params": loaded[:1]}, {"params": {"b": loaded[1]}}], lr=0.125)
    assert load(path, loaded, resumed) == ["any", 1]
    assert [array.tolist() for array in loaded] == [array.tolist() for array in arrays_]
    assert resumed.state_dict() == optimizer.state_dict()


@pytest.mark.parametrize("weights", [{}, [], {"a": {}}, {"a": []}], ids=repr)
def test_no_arrays_are_saved(weights: Any, tmp_path: Path) -> None:
    path, optimizer = tmp_path / "a.safetensors", Momentum(np.ones(2))
    save(path, weights, optimizer, extra=5)
    resumed = Momentum()
    assert load(path, weights, resumed) == 5
    assert_same_bits(resumed.state["state"][0]["momentum"], np.ones(2))
    save(path, weights)
    assert load(path, weights) is None


def test_arrays_of_cupy_are_saved_and_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy.cupy)
    monkeypatch.setitem(arrays._NAMESPACES, fake_cupy.ndarray, fake_cupy.cupy)
    for dtype in ("float32", "bfloat16"):
        path, expected = tmp_path / f"{dtype}.safetensors", grads(0, dtype)["weight"]
        save(path, {"w": fake_cupy.array(expected)})
        found = fake_cupy.array(np.zeros_like(expected))
        load(path, {"w": found})
        assert_same_bits(found.get(), expected)


class Momentum:
    """An optimizer with arrays in its state, and with integers as keys."""

    def __init__(self, momentum: Any = None) -> None:
        self.state: dict[str, Any] = {"state": {0: {"step": 3, "momentum": momentum}, 2: {}}, "groups": [{"lr": 0.5}]}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


@pytest.mark.parametrize("library", ["numpy", "cupy"])
def test_arrays_in_the_state_of_an_optimizer_are_saved(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy.cupy)
    monkeypatch.setitem(arrays._NAMESPACES, fake_cupy.ndarray, fake_cupy.cupy)
    of = np.copy if library == "numpy" else fake_cupy.array
    path, momentum, loaded = tmp_path / "a.safetensors", grads(0, "bfloat16")["weight"], Momentum()
    save(path, [of(np.ones(2))], Momentum(of(momentum)))
    load(path, [of(np.zeros(2))], loaded)
    found = loaded.state["state"][0].pop("momentum")
    assert type(found) is type(of(momentum))
    assert_same_bits(np.asarray(found), momentum)
    assert loaded.state == {"state": {0: {"step": 3}, 2: {}}, "groups": [{"lr": 0.5}]}
    load(path, [of(np.zeros(2))])  # without the optimizer
    with raises(ValueError, "weights has the names ['optimizer/state/0/momentum'], which the optimizer's state needs"):
        save(path, {"optimizer/state/0/momentum": np.ones(2)}, Momentum(momentum))


def saved(folder: Path, **options: Any) -> Path:
    """Return a file with two arrays and a state."""
    path, weights = folder / "a.safetensors", {"w": np.ones((2, 3)), "b": np.ones(2, np.float32)}
    save(path, weights, Rose(weights, lr=0.5, **options))
    return path


WEIGHTS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "another name": (
        {"w": np.zeros((2, 3)), "c": np.zeros(2, np.float32)},
        "PATH must have the names of weights; missing are ['c'] and unknown are ['b']",
    ),
    "another shape": (
        {"b": np.zeros(2, np.float32), "w": np.zeros((3, 2))},
        "PATH has 'w' with shape (2, 3), weights with (3, 2); they must be equal",
    ),
    "another dtype": (
        {"w": np.zeros((2, 3)), "b": np.zeros(2, ml_dtypes.bfloat16)},
        "PATH has 'b' with dtype F32, weights with BF16; they must be equal",
    ),
    "read-only": (
        {"w": np.zeros((2, 3)), "b": np.broadcast_to(np.float32(0), (2,))},
        "weights['b'] must be writable, since it is overwritten; it is read-only",
    ),
}


@pytest.mark.parametrize(("weights", "message"), WEIGHTS.values(), ids=WEIGHTS)
def test_other_arrays_raise_before_anything_is_changed(
    weights: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    path = saved(tmp_path)
    optimizer = Rose([np.zeros(3)], lr=0.25)
    before = optimizer.state_dict()
    with raises(ValueError, message.replace("PATH", str(path))):
        load(path, weights, optimizer)
    assert optimizer.state_dict() == before
    assert not any(array.any() for array in weights.values())


def test_a_state_of_other_groups_raises_before_an_array_is_changed(tmp_path: Path) -> None:
    path, weights = saved(tmp_path), {"w": np.zeros((2, 3)), "b": np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match=r'state\["param_groups"\]\[0\] is of 2 parameters'):
        load(path, weights, Rose([np.ones(3)], lr=0.5))
    assert not any(array.any() for array in weights.values())


def test_files_that_are_no_checkpoints_raise(tmp_path: Path) -> None:
    path, weights = saved(tmp_path), {"w": np.zeros((2, 3)), "b": np.zeros(2, np.float32)}
    content = path.read_bytes()
    for damaged in (b"", content[:40], content[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a.safetensors is not a complete safetensors file: "):
            load(path, weights)
    safetensors.numpy.save_file(weights, path)
    with raises(ValueError, f"{path} has no entries 'optimizer' and 'extra' in its metadata, as save writes them"):
        load(path, weights)
    save(path, weights)
    with raises(ValueError, f"{path} has no state of an optimizer; it was saved without one"):
        load(path, weights, Rose(weights, lr=0.5))
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing", weights)


def test_invalid_arguments_are_named_and_write_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    allowed = ", ".join(rose_arrays.checkpoint._FORMAT_DTYPES)
    with raises(TypeError, f"weights['w'] has dtype complex128; allowed are {allowed}"):
        save(path, {"w": np.ones(2, complex)})
    with raises(TypeError, "weights['w'] must be an array of NumPy or CuPy, got float64"):
        save(path, {"w": np.float64(1.0)})
    with pytest.raises(TypeError, match=r"^extra must have plain values that JSON can hold: "):
        save(path, {"w": np.ones(2)}, extra=np.ones(2))
    expected = "extra must have strings as the keys of its dicts, since JSON has no others; got 1"
    with raises(TypeError, expected):
        save(path, {"w": np.ones(2)}, extra=[{"nested": {1: "a"}}])
    for extra in ({None: 1}, {"a": 1, None: 2}, [1, ({"b": [{None: 1}]},)]):
        with raises(TypeError, expected.replace("got 1", "got None")):
            save(path, {"w": np.ones(2)}, extra=extra)
    circular: list[Any] = [{"a": 1}]
    circular.append(circular)
    with raises(TypeError, "extra must have plain values that JSON can hold: Circular reference detected"):
        save(path, {"w": np.ones(2)}, extra=circular)
    with raises(TypeError, "weights must have strings as its keys, got 1"):
        save(path, {1: np.ones(2)})
    with raises(TypeError, "weights must be a mapping of names to arrays, or an iterable of arrays, got int"):
        save(path, 1)
    with raises(ValueError, "weights must have one array of each name, got several of ['a.b']"):
        save(path, {"a": {"b": np.ones(2)}, "a.b": np.ones(2)})
    with raises(ValueError, "weights must not have the name '__metadata__', which safetensors reserves"):
        save(path, {"__metadata__": np.ones(2)})
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "no" / "folder", {"w": np.ones(2)})
    assert list(tmp_path.iterdir()) == []


def test_without_safetensors_the_error_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with raises(ImportError, "save needs safetensors: pip install safetensors"):
        save(tmp_path / "a.safetensors", {"w": np.ones(2)})


@pytest.mark.parametrize("failing", ["save_file", "replace"])
def test_an_error_while_saving_leaves_the_old_file_alone(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(*((safetensors.numpy, failing) if failing == "save_file" else (Path, failing)), fail)
    with raises(OSError, "no space left"):
        save(path, {"w": np.zeros(2)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert saved(tmp_path).stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_process_that_is_killed_while_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
from rose_numpy import save
weights = {"w": np.zeros(500_000)}
for number in range(10**9):
    weights["w"][...] = number
    save(sys.argv[1], weights, extra=number)
    print(number, flush=True)
"""
    path, weights = tmp_path / "a.safetensors", {"w": np.zeros(500_000)}
    for delay in (0.0, 0.002, 0.005):
        with run_python(code, str(path)) as process:
            assert process.stdout is not None
            for _ in range(3):
                process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            done = [int(line) for line in process.stdout.read().split()]
        last = load(path, weights)
        assert last in ({done[-1], done[-1] + 1} if done else {2, 3})
        assert (weights["w"] == last).all()


def test_the_metadata_is_json(tmp_path: Path) -> None:
    with safetensors.safe_open(saved(tmp_path), framework="np") as file:
        state = json.loads(file.metadata()["optimizer"])
    assert state["param_groups"][0]["names"] == ["w", "b"]
