"""`diagnose` has the same numbers in every adapter, and changes nothing. Its table, plot and plain values."""

import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rich.console
import torch
from torch import nn

import rose_diagnosis.plot
import rose_numpy
import rose_torch
from rose_core import Hyperparameters
from rose_diagnosis import Diagnosis
from rose_diagnosis.parameter import diagnose_parameter
from tests.adapters.models import grads, model, parameter
from tests.adapters.refusals import raises, snapshot
from tests.bits import DTYPES


def of_torch(dtype: str = "float32", **options: Any) -> rose_torch.Rose:
    """Return an optimizer over the model. "bias" has no gradient."""
    params = {name: parameter(x, grads(0, dtype)[name]) for name, x in model(dtype).items()}
    params["bias"].grad = None
    return rose_torch.Rose(list(params.items()), **({"lr": 0.25, "sr_seed": 0} | options))


def of_numpy(dtype: str = "float32") -> Diagnosis:
    return rose_numpy.diagnose(rose_numpy.Rose(model(dtype), lr=0.25), grads(0, dtype) | {"bias": None})


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_and_torch_have_the_same_diagnosis(dtype: str) -> None:
    options = Hyperparameters(lr=0.25)
    given = grads(0, dtype) | {"bias": None}
    expected = Diagnosis(diagnose_parameter(name, x, given[name], options) for name, x in model(dtype).items())
    assert of_numpy(dtype) == expected == rose_torch.diagnose(of_torch(dtype))


SOURCES: dict[str, dict[str, Any]] = {
    "a seed": {"sr_seed": 0},
    "a generator": {"sr_seed": None, "bf16_sr": torch.Generator().manual_seed(3)},
    "torch's generator": {"sr_seed": None},
}


@pytest.mark.parametrize("options", SOURCES.values(), ids=SOURCES)
def test_a_diagnosis_changes_nothing(options: dict[str, Any]) -> None:
    optimizer = of_torch("bfloat16", **options)
    before, state = snapshot(optimizer), torch.get_rng_state().tolist()
    rose_torch.diagnose(optimizer)
    assert snapshot(optimizer) == before
    assert torch.get_rng_state().tolist() == state


def test_names_come_from_the_optimizer_then_from_the_model_then_from_positions() -> None:
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    named = rose_torch.Rose(layers[0].named_parameters(), lr=0.1)
    assert [entry.name for entry in rose_torch.diagnose(named, layers)] == ["weight", "bias"]
    unnamed = rose_torch.Rose([{"params": list(layer.parameters())} for layer in layers], lr=0.1)
    assert [entry.name for entry in rose_torch.diagnose(unnamed, layers)] == ["0.weight", "0.bias", "1.weight"]
    positions = ["parameter 0 of group 0", "parameter 1 of group 0", "parameter 0 of group 1"]
    assert [entry.name for entry in rose_torch.diagnose(unnamed)] == positions


def test_names_of_arrays_have_the_number_of_the_group() -> None:
    grouped = rose_numpy.Rose([{"params": {"w": np.ones(2)}}, {"params": [np.ones(2), np.ones(3)]}], lr=0.1)
    found = rose_numpy.diagnose(grouped, [{"w": None}, [None, None]])
    assert [entry.name for entry in found] == ["w of group 0", "params[0] of group 1", "params[1] of group 1"]


def test_each_group_is_diagnosed_with_its_options() -> None:
    params = [np.full((2, 2), 2.0), np.full((2, 2), 2.0)]
    optimizer = rose_numpy.Rose(
        [{"params": params[:1]}, {"params": params[1:], "lr": 0.5, "stabilize": False}], lr=0.25
    )
    grad = np.asarray([[1.0, 3.0], [2.0, 4.0]])
    first, second = rose_numpy.diagnose(optimizer, [[grad], [grad]])
    assert (first.trust, first.update_rms) == (1.0, 0.125)
    assert (second.trust, second.update_rms) == (None, 0.25)


def test_an_optimizer_wrapped_by_a_framework_is_found() -> None:
    optimizer = of_torch()
    wrapped = SimpleNamespace(optimizer=SimpleNamespace(optimizer=optimizer))
    assert rose_torch.diagnose(wrapped) == rose_torch.diagnose(optimizer)


def test_equal_names_in_several_groups_get_the_number_of_the_group() -> None:
    groups = [{"params": list(nn.Linear(2, 2).named_parameters())} for _ in range(2)]
    groups[1]["params"] = groups[1]["params"][:1]
    names = [entry.name for entry in rose_torch.diagnose(rose_torch.Rose(groups, lr=0.1))]
    assert names == ["weight of group 0", "bias", "weight of group 1"]


def test_freed_gradients_raise() -> None:
    layer = nn.Linear(3, 2)
    optimizer = rose_torch.attach(layer, lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    with raises(RuntimeError, "the gradient of weight was used in backward and freed by rose_torch.attach"):
        rose_torch.diagnose(optimizer)


def test_other_optimizers_and_models_raise() -> None:
    with raises(TypeError, "model must be a torch.nn.Module or None, got str"):
        rose_torch.diagnose(of_torch(), "model")  # type: ignore[arg-type]
    with raises(TypeError, "optimizer must be a rose_torch.Rose or a wrapper of one, got SGD"):
        rose_torch.diagnose(torch.optim.SGD([nn.Parameter(torch.ones(2))]))
    with raises(TypeError, "optimizer must be a Rose of rose_numpy or rose_cupy, got Rose"):
        rose_numpy.diagnose(of_torch(), {})  # type: ignore[arg-type]


@pytest.fixture
def one_rank() -> Iterator[Any]:
    """Return the mesh of a process group of one process."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_a_sharded_parameter_is_gathered(one_rank: Any) -> None:
    from torch.distributed.tensor import Shard, distribute_tensor

    plain = of_torch()
    weight = plain.param_groups[0]["params"][3]
    sharded = nn.Parameter(distribute_tensor(weight.detach(), one_rank, [Shard(0)]))
    sharded.grad = distribute_tensor(weight.grad, one_rank, [Shard(0)])
    optimizer = rose_torch.Rose([("weight", sharded)], lr=0.25)
    assert list(rose_torch.diagnose(optimizer)) == [rose_torch.diagnose(plain)[3]]


def test_a_diagnosis_is_a_sequence() -> None:
    found = of_numpy()
    assert len(found) == len(list(found)) == 5
    assert found[0] == next(iter(found))
    assert found[1:3] == Diagnosis([found[1], found[2]])
    assert found != found[:2]
    assert hash(found) == hash(of_numpy())
    assert eval(repr(found), {"Diagnosis": Diagnosis, "ParameterDiagnosis": type(found[0])}) == found


def test_json_keeps_a_diagnosis() -> None:
    found = of_numpy()
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert [entry["name"] for entry in found.to_dict()["parameters"]] == list(model())


def test_scalars_contain_the_numbers_that_are_not_none() -> None:
    scalars = of_numpy().scalars(prefix="train")
    assert all(isinstance(value, float) for value in scalars.values())
    of_weight = {name.removeprefix("train/weight/") for name in scalars if name.startswith("train/weight/")}
    assert of_weight == {"trust", "range_min", "range_median", "range_max", "zero_denominators", "relative_update"}
    assert [name for name in scalars if "scale" in name or "bias" in name] == ["train/scale/relative_update"]


def diagnosis_with_every_remark() -> Diagnosis:
    """Return a diagnosis with every possible remark."""
    arrays = {
        "w[0]": np.asarray([[0.5, 0.5], [0.5, 0.5]]),
        "scale": np.asarray(2.0),
        "unused": np.ones(2),
        "empty": np.ones((0, 2)),
        "nan": np.ones((2, 2)),
        "fixed": np.ones((3, 1)),
    }
    given = {
        "w[0]": np.asarray([[1.0, 3.0], [2.0, 2.0]]),
        "scale": np.asarray(1.0),
        "unused": None,
        "empty": np.ones((0, 2)),
        "nan": np.full((2, 2), math.nan),
        "fixed": np.ones((3, 1)),
    }
    groups = [{"params": arrays, "stabilize": False}, {"params": {"one": np.ones((2, 1))}, "centralize": False}]
    return rose_numpy.diagnose(rose_numpy.Rose(groups, lr=0.25), [given, {"one": np.asarray([[1.0], [-1.0]])}])


@pytest.mark.filterwarnings("ignore:.*slices of one element:UserWarning")
def test_a_diagnosis_prints_as_a_table() -> None:
    found = diagnosis_with_every_remark()
    rows = [list(map(str, row)) for row in zip(*(column.cells for column in found.table().columns), strict=True)]
    assert rows == [
        ["w[0] of group 0", "2 x 2", "float64", "", "0.00e+00", "1.00e+00", "2.00e+00", "50.0%", "1.77e-01", ""],
        ["scale of group 0", "scalar", "float64", "", "", "", "", "", "1.25e-01", ""],
        ["unused of group 0", "2", "float64", "", "", "", "", "", "", "no gradient"],
        ["empty of group 0", "0 x 2", "float64", "", "", "", "", "", "", "empty"],
        ["nan of group 0", "2 x 2", "float64", "", "nan", "nan", "nan", "0%", "nan", "not finite"],
        [
            *("fixed of group 0", "3 x 1", "float64", "", "0.00e+00", "0.00e+00", "0.00e+00", "100.0%", "0.00e+00"),
            "stays in place: centred slices of one element",
        ],
        [
            *("one of group 1", "2 x 1", "float64", "0.500", "0.00e+00", "1.00e+00", "2.00e+00", "0%", "3.73e-01"),
            "slices of one element",
        ],
    ]
    printed = str(found).splitlines()
    for row, line in zip(rows, printed[-len(rows) :], strict=True):
        assert all(cell in line for cell in row)


def one_of(name: str, values: Any, grad: Any, **options: Any) -> Diagnosis:
    optimizer = rose_numpy.Rose({name: np.asarray(values)}, **({"lr": 0.25} | options))
    return rose_numpy.diagnose(optimizer, {name: np.asarray(grad)})


@pytest.mark.parametrize("name", ["w[0]", "a:fire:b", "[bold]end\\", "layers." * 300 + "weight"])
def test_a_name_is_printed_unchanged(name: str) -> None:
    found = one_of(name, [[1.0, 2.0]], [[1.0, 3.0]])
    assert sum(line.strip().startswith(name) for line in str(found).splitlines()) == 1


def test_numbers_are_not_cut_in_a_table_of_80_columns() -> None:
    name = "model.layers.0.self_attention.query_projection.weight"
    numbers = {"w": one_of(name, np.ones((2, 2)), np.asarray([[1.0, 3.0], [2e-5, 4e-5]]), lr=1e-4)}["w"]
    text = io.StringIO()
    rich.console.Console(file=text, width=80).print(numbers.table())
    assert all(len(line) <= 80 for line in text.getvalue().splitlines())
    entry = numbers[0]
    for value in (entry.range_min, entry.range_median, entry.range_max, entry.relative_update):
        assert f"{value:.2e}" in text.getvalue()


def test_str_is_plain_text_in_a_notebook_and_with_forced_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_numpy()
    expected = str(found)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    assert str(found) == expected
    assert "\x1b" not in expected
    assert "weight" in expected


def test_the_root_mean_square_does_not_overflow_or_underflow() -> None:
    for size in (1e200, 1e-200, 2.0**-1074, 2.0**1023):
        entry = one_of("w", np.full((2, 2), size), [[1.0, 3.0], [2.0, 4.0]])[0]
        assert entry.param_rms == size
        assert entry.relative_update == 0.125 / size
    entry = one_of("w", np.ones((2, 2)), [[1.0, 3.0], [2.0, 4.0]], lr=1e200)[0]
    assert entry.update_rms == 0.5e200


@pytest.mark.filterwarnings("ignore:.*slices of one element:UserWarning")
def test_a_plot_is_one_png_file(tmp_path: Path) -> None:
    path = tmp_path / "diagnosis.png"
    diagnosis_with_every_remark().plot(path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_parameters_with_long_names_are_plotted(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if count < 1000:
        monkeypatch.setattr(rose_diagnosis.plot, "_LABELLED", 20)
        monkeypatch.setattr(rose_diagnosis.plot, "_TALLEST", 8.0)
    names = [f"{'layers.' * 50}{number}.weight" for number in range(count)]
    entries = [diagnose_parameter(name, np.ones(2), np.arange(2.0), Hyperparameters(lr=0.25)) for name in names]
    Diagnosis(entries).plot(tmp_path / "diagnosis.png")
    assert (tmp_path / "diagnosis.png").stat().st_size > 0


def test_an_empty_diagnosis_can_be_plotted_and_printed(tmp_path: Path) -> None:
    Diagnosis([]).plot(tmp_path / "diagnosis.png")
    assert (tmp_path / "diagnosis.png").stat().st_size > 0
    assert "parameter" in str(Diagnosis([]))


def test_without_rich_or_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = of_numpy()
    for module in ("rich.table", "rich.console", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    table = "the table of a diagnosis needs rich: pip install 'rose-core[diagnosis]'"
    with raises(ImportError, table):
        found.table()
    with raises(ImportError, table):
        str(found)
    with raises(ImportError, "the plot of a diagnosis needs matplotlib: pip install 'rose-core[diagnosis]'"):
        found.plot(tmp_path / "diagnosis.png")
