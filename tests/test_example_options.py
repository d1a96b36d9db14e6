"""The command-line options of the examples: help texts, invalid values and exit statuses."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests.backends import BACKENDS
from tests.examples import EXAMPLES, Load

CUPY = next(backend for backend in BACKENDS if backend.name == "cupy")
CASES = ("gpt", "resnet50", "lora", "small", "row", "rows64", "rows27", "rows9")
SCRIPTS = {
    "benchmark": ("cases", "dtypes", "threads", "rounds", "elements", "scaling", "full", "markdown", "json", "plot"),
    "benchmark_sharded": ("ranks", "blocks", "width", "dtype", "rounds", "markdown"),
    "compare_rules": ("rules", "steps", "seeds", "width", "layers", "processes", "full", "plot"),
    "cupy_loop": (),
    "learning_rates": ("tasks", "lrs", "seeds", "shorter"),
    "memory": ("dtypes", "width", "layers", "vocabulary", "markdown"),
    "programs.convolution": ("steps", "lr", "seed"),
    "programs.factorization": ("steps", "lr", "seed"),
    "programs.inference": ("steps", "lr", "seed"),
    "programs.pinn": ("optimizer", "steps", "lr", "seed"),
    "programs.resumed": ("folder", "steps", "lr", "every", "kill-at"),
    "programs.transformer": ("optimizer", "steps", "lr", "seed"),
    "torch_model": (),
    "train_digits": ("backend", "dtype", "steps", "seed", "batch-size", "lr", "plot", "no-plot"),
}


def test_the_list_of_scripts_is_complete() -> None:
    scripts = [path.relative_to(EXAMPLES) for path in EXAMPLES.rglob("*.py") if "__main__" in path.read_text()]
    assert set(SCRIPTS) == {".".join(path.with_suffix("").parts) for path in scripts}


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_every_option_and_runs_nothing(name: str, load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        load(name).main(["--help"])
    assert exit_.value.code == 0
    output = capsys.readouterr()
    assert output.out.startswith("usage: ")
    assert output.err == ""
    for option in SCRIPTS[name]:
        assert f" --{option}" in output.out or f"[--{option}" in output.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], r"--steps: must be an integer in \[1, 4294967295\], got 0"),
        (["--batch-size", "x"], r"--batch-size: must be an integer in \[1, 4294967295\], got x"),
        (["--seed", "-1"], r"--seed: must be an integer in \[0, 4294967295\], got -1"),
        (["--lr", "nan"], r"--lr: must be a finite number > 0, got nan"),
        (["--dtype", "float16"], r"--dtype: invalid choice: 'float16'"),
        (["--plot", "no/such/folder/plot.png"], r"--plot .*: the folder does not exist"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_invalid_option_of_train_digits_exits_with_status_2_and_is_named(
    arguments: list[str], message: str, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        load("train_digits").main(arguments)
    assert exit_.value.code == 2
    assert re.search(message, capsys.readouterr().err)


PROGRAMS = ("convolution", "factorization", "inference", "pinn", "transformer")
OF_PROGRAMS = {"--steps": ("0", "-3"), "--lr": ("-1", "0", "nan", "inf"), "--seed": ("-1", "18446744073709551616")}
INVALID = [
    *(
        (f"programs.{name}", option, value)
        for name in PROGRAMS
        for option in OF_PROGRAMS
        for value in OF_PROGRAMS[option]
    ),
    *(("programs.resumed", option, value) for option in ("--steps", "--every") for value in ("0", "-3")),
    *(("programs.resumed", "--lr", value) for value in OF_PROGRAMS["--lr"]),
    *(("learning_rates", option, "0") for option in ("--lrs", "--seeds", "--shorter")),
    *(
        ("learning_rates", option, value)
        for option, value in (("--lrs", "nan"), ("--seeds", "-1"), ("--shorter", "151"))
    ),
]


@pytest.mark.parametrize(("name", "option", "value"), INVALID)
def test_an_invalid_option_of_a_program_exits_before_training(
    name: str,
    option: str,
    value: str,
    load: Load,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        load(name).main([option, value])
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert option in message
    assert re.search(r"must be .*, got ", message)
    assert list(tmp_path.iterdir()) == []


def test_without_cupy_the_exit_status_is_2_with_the_reason(
    load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_digits, cupy_loop = load("train_digits"), load("cupy_loop")
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it raises ModuleNotFoundError
    with pytest.raises(SystemExit) as exit_:
        train_digits.main(["--backend", "cupy"])
    assert exit_.value.code == 2
    assert "--backend cupy: CuPy is not installed" in capsys.readouterr().err
    assert cupy_loop.main([]) == 2
    assert "CuPy cannot be imported" in capsys.readouterr().err


def test_without_a_cuda_device_the_exit_status_is_2_with_the_reason(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    if CUPY.missing() != "CuPy finds no CUDA device":
        pytest.skip(CUPY.missing() or "CuPy finds a CUDA device")
    with pytest.raises(SystemExit) as exit_:
        load("train_digits").main(["--backend", "cupy"])
    assert exit_.value.code == 2
    assert "--backend cupy: CuPy finds no CUDA device" in capsys.readouterr().err
    assert load("cupy_loop").main([]) == 2
    assert "CuPy finds no CUDA device" in capsys.readouterr().err


def test_the_help_of_benchmark_shows_defaults_as_they_are_typed(load: Load) -> None:
    text = " ".join(load("benchmark").build_parser().format_help().split())
    for default in ("gpt resnet50 small", "float32 bfloat16", "9", "4000000", "benchmark.png"):
        assert f"(default: {default})" in text


def test_full_changes_the_options_of_benchmark_that_are_not_given(load: Load) -> None:
    args = load("benchmark").parse(["--full", "--elements", "5000"])
    assert (tuple(args.cases), args.elements) == (CASES, 5000)
    assert max(args.scaling) == 400_000_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "gpt", "vgg"], r"--cases: invalid choice: 'vgg' \(choose from .*gpt"),
        (["--dtypes", "float16"], r"--dtypes: invalid choice: 'float16'"),
        (["--threads", "0"], rf"--threads: must be an integer in \[1, {os.cpu_count()}\], got 0"),
        (["--rounds", "8"], r"--rounds: must be an integer in \[9, 1000000\], got 8"),
        (["--elements", "x"], r"--elements: must be an integer in \[1000, 1000000000000\], got x"),
        (["--scaling", "10"], r"--scaling: must be an integer in \[1000, 1000000000000\], got 10"),
        (["--json", "no/such/folder/run.json"], r"--json .*: the folder does not exist"),
        (["--plot", "no/such/folder/plot.png"], r"--plot .*: the folder does not exist"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_invalid_option_of_benchmark_exits_before_measuring(
    arguments: list[str], message: str, load: Load, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = load("benchmark")
    monkeypatch.setattr(benchmark, "measure", None)  # not to be called
    with pytest.raises(SystemExit) as exit_:
        benchmark.main(arguments)
    assert exit_.value.code == 2
    assert re.search(message, capsys.readouterr().err)
