"""The examples run and print correct results, and their comparison of bits can fail."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import rose_numpy
from tests.backends import BACKENDS
from tests.examples import EXAMPLES, Load

CUPY = next(backend for backend in BACKENDS if backend.name == "cupy")
HASH = re.compile(r"^  (\S.*\S) +([0-9a-f]{56})$", re.MULTILINE)
VERDICT = re.compile(r"identical: one hash on (\d+) backends?")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def device() -> None:
    """Skip the test, with the reason, if CuPy cannot run."""
    if reason := CUPY.missing():
        pytest.skip(reason)


def run(script: str, *arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    # One thread, since the arrays are small, and waiting for other threads is slow on a busy machine.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **variables}
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def assert_one_hash(output: str, *, backends: set[str]) -> None:
    hashes = dict(HASH.findall(output))
    assert backends <= set(hashes), output
    assert all(len(line.group()) <= 80 for line in HASH.finditer(output)), output
    assert len(set(hashes.values())) == 1, output
    verdict = VERDICT.fullmatch(output.splitlines()[-1])
    assert verdict, output
    # The training has a hash, too, and is not counted as a backend.
    assert int(verdict[1]) == len(hashes) - 1


def test_train_digits_prints_one_hash_and_saves_a_plot(tmp_path: Path) -> None:
    done = run("train_digits.py", "--steps", "12", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^test accuracy \d+\.\d% \(360 images\)$", done.stdout, re.MULTILINE)
    assert "replayed 12 steps of recorded gradients (17,226 parameters, float32)" in done.stdout
    assert_one_hash(done.stdout, backends={"training on numpy", "numpy", "torch", "array-api-strict"})
    assert (tmp_path / "train_digits.png").read_bytes().startswith(PNG)
    assert "loss=" in done.stderr  # the progress bar


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_recorded_gradients_have_one_hash_on_every_backend(
    backend: str, dtype: str, load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "curves.png"
    arguments = ["--backend", backend, "--dtype", dtype, "--steps", "8", "--seed", "3", "--plot", str(plot)]
    assert load("train_digits").main(arguments) == 0
    assert_one_hash(capsys.readouterr().out, backends={f"training on {backend}", "numpy", "torch"})
    assert plot.read_bytes().startswith(PNG)


def test_a_backend_that_is_off_by_one_bit_exits_with_status_1(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OffByOneBit(rose_numpy.Rose):
        def step(self, grads: Any) -> None:
            super().step(grads)
            last = self.param_groups[-1]["params"][-1]
            last[-1] = np.nextafter(last[-1], np.float32(1))

    backends = load("backends")
    wrong = dataclasses.replace(backends.open_backend("numpy"), name="wrong", rose=OffByOneBit)
    monkeypatch.setitem(backends.BACKENDS, "wrong", lambda: wrong)
    assert load("train_digits").main(["--steps", "1", "--no-plot"]) == 1
    output = capsys.readouterr().out
    hashes = dict(HASH.findall(output))
    assert hashes.pop("wrong") not in hashes.values()
    assert len(set(hashes.values())) == 1
    assert output.splitlines()[-1].startswith(f"DIFFERENT: 2 hashes on {len(hashes)} backends")


def test_a_training_with_another_hash_than_its_replays_is_reported(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    replay = load("replay")
    values = {"weight": np.zeros((2, 2), np.float32)}
    recording = replay.Recording("numpy", 0, initial=values, final=values)
    same, other = replay.digest(values), replay.digest({"weight": np.ones((2, 2), np.float32)})
    assert replay.report(recording, {"numpy": same, "torch": same}, {"cupy": "CuPy is not installed"})
    assert "cupy               not run: CuPy is not installed" in capsys.readouterr().out
    assert not replay.report(recording, {"numpy": other, "torch": other}, {})
    assert capsys.readouterr().out.splitlines()[-1].startswith("DIFFERENT: 2 hashes on 2 backends")


@pytest.mark.parametrize("name", ["numpy", "torch", "array-api-strict"])
def test_a_backend_copies_arrays_in_both_directions(name: str, load: Load) -> None:
    backend, original = load("backends").open_backend(name), np.ones(3, np.float32)
    array = backend.array(original)
    host = backend.host(array)
    array[...] = 2.0
    assert original.tolist() == host.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_the_digest_depends_on_names_order_and_signs_of_zero_but_not_on_bits_of_nan(load: Load, dtype: Any) -> None:
    digest = load("replay").digest
    zero, minus_zero, nan = (np.asarray([value], dtype) for value in (0.0, -0.0, np.nan))
    parameters = [
        {"a": zero, "b": zero},
        {"a": zero, "c": zero},
        {"a": minus_zero, "b": zero},
        {"a": zero, "b": minus_zero},
        {"a": nan, "b": zero},
    ]
    assert len({digest(each) for each in parameters}) == len(parameters)
    assert digest({"a": -nan, "b": zero}) == digest(parameters[-1])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_the_defaults_reach_a_test_accuracy_above_95_percent(seed: int, load: Load) -> None:
    example = load("train_digits")
    args = example.build_parser().parse_args(["--seed", str(seed)])
    backend, digits = example.open_backend("numpy"), example.load_split(seed)
    recording = example.train(backend, digits, args)
    assert example.evaluate(backend, recording, digits) > 0.95


def test_the_learning_rate_rises_to_its_peak_then_falls_and_is_never_0(load: Load) -> None:
    example = load("train_digits")
    args = example.build_parser().parse_args(["--steps", "100", "--lr", "0.5"])
    rates = example.train(example.open_backend("numpy"), example.load_split(0), args).learning_rates
    assert max(rates) == 0.5
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert min(rates) > 0.0


def test_the_gradients_equal_central_differences_of_the_loss(load: Load) -> None:
    network = load("digits_network")
    rng = np.random.default_rng(0)
    parameters = {name: value.astype(np.float64) for name, value in network.initial_parameters(rng).items()}
    images, targets = rng.normal(size=(5, 64)), np.eye(10)[:5]
    _, gradients = network.loss_and_gradients(parameters, images, targets)
    for name, value in parameters.items():
        direction = rng.normal(size=value.shape)
        direction /= np.linalg.norm(direction)
        ahead, behind = (
            network.loss_and_gradients({**parameters, name: value + h * direction}, images, targets)[0]
            for h in (1e-5, -1e-5)
        )
        # The error of a central difference is about h**2 plus the rounding error of the loss over h, below 1e-9.
        assert (ahead - behind) / 2e-5 == pytest.approx(np.sum(gradients[name] * direction), abs=1e-9)


def test_the_network_uses_only_the_array_api_standard(load: Load) -> None:
    network, backend = load("digits_network"), load("backends").open_backend("array-api-strict")
    rng = np.random.default_rng(0)
    initial = network.initial_parameters(rng)
    images, targets = rng.normal(size=(5, 64)).astype(np.float32), np.eye(10, dtype=np.float32)[:5]
    parameters = {name: backend.array(value) for name, value in initial.items()}
    loss, gradients = network.loss_and_gradients(parameters, backend.array(images), backend.array(targets))
    # array-api-strict computes with NumPy, so the results are equal.
    expected_loss, expected = network.loss_and_gradients(initial, images, targets)
    assert loss == expected_loss
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(backend.host(gradient), expected[name])


def test_torch_model_learns_and_resumes_with_the_same_bits(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load("torch_model").main([])
    accuracy, resumed = capsys.readouterr().out.splitlines()
    assert float(re.fullmatch(r"test accuracy (\d+\.\d)% \(360 images\)", accuracy)[1]) > 95.0
    assert resumed == "resumed at step 80: the weights are the same to the last bit"


def test_cupy_loop_learns_with_numpy(load: Load) -> None:
    assert load("cupy_loop").train(np, rose_numpy.Rose, steps=100) > 0.95


@pytest.mark.gpu
@pytest.mark.usefixtures("device")
def test_cupy_loop_learns_on_a_gpu(tmp_path: Path) -> None:
    done = run("cupy_loop.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"accuracy (\d+\.\d)%", done.stdout)[1]) > 95.0


@pytest.mark.gpu
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_on_a_gpu_has_one_hash_on_every_backend(dtype: str, tmp_path: Path) -> None:
    done = run("train_digits.py", "--backend", "cupy", "--dtype", dtype, "--steps", "12", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_one_hash(done.stdout, backends={"training on cupy", "numpy", "torch", "cupy"})


@pytest.mark.slow
def test_attach_needs_the_least_memory_and_adamw_the_most(tmp_path: Path, load: Load) -> None:
    if reason := load("benchmark_measurement").memory_obstacle():
        pytest.skip(f"memory cannot be measured: {reason}")
    options = ("--dtypes", "float32", "--width", "512", "--layers", "4", "--vocabulary", "1000", "--markdown")
    done = run("memory.py", *options, folder=tmp_path, MALLOC_MMAP_THRESHOLD_="1048576")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "Peak memory of training, float32: 13.1 M parameters take 50 MiB, the largest gradient takes 4.0"
    )
    rows = re.findall(r"^\| (\S.*?) +\| +[\d.,]+ \| +([\d.,]+) \|", done.stdout, re.MULTILINE)
    beyond = {name: float(value) for name, value in rows[-4:]}
    assert beyond["Rose, attached"] < 0.7 * beyond["Rose"], done.stdout
    assert beyond["Rose"] < 0.6 * beyond["AdamW"], done.stdout


@pytest.mark.slow
def test_benchmark_sharded_counts_collectives(tmp_path: Path) -> None:
    options = ("--ranks", "2", "--blocks", "2", "--width", "16", "--rounds", "1", "--markdown")
    done = run("benchmark_sharded.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12 parameters, 0.0 M elements of float32, 2 ranks" in done.stdout
    rows = re.findall(r"^\| (\S.*?) +\| +[\d.]+ \| +[\d.]+-[\d.]+ \| +(\d+) \| +([\d.]+) \|", done.stdout, re.MULTILINE)
    collectives = {name: int(count) for name, count, _ in rows}
    not_sharded = {"Rose, one process": 0, "Rose, one process, core": 0, "AdamW, FSDP2": 0}
    assert collectives == not_sharded | {"Rose, FSDP2": 4, "Rose, columns": 3}
