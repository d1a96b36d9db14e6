"""`diagnose` has the same numbers in every adapter, and changes nothing. Its table, plot and plain values."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
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
    ranges = {"range_min", "range_median", "range_max", "zero_denominators"}
    of_update = {"update_rms", "relative_update", "largest_step"}
    assert of_weight == {"trust", "centered_share"} | ranges | of_update
    of_others = [name for name in scalars if "scale" in name or "bias" in name]
    assert of_others == [f"train/scale/{name}" for name in ("update_rms", "relative_update", "largest_step")]


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


TABLE = """
parameter         shape        range:            zero  cen-  update step
                         trust    min median max den. tered /weight  /lr
------------------------------------------------------------------------
w[0] of group 0   2x2               0      1   2  50%   89%    0.18  0.5
scale of group 0  scalar                                       0.12    1
unused of group 0 2
empty of group 0  0x2
nan of group 0    2x2             nan    nan nan   0%   nan     nan  nan
fixed of group 0  3x1               0      0   0 100%  100%       0    0
one of group 1    2x1     0.50      0      1   2   0%          0.37    2
w[0] of group 0: centering removes 89% of the gradient
unused of group 0: no gradient
empty of group 0: empty
nan of group 0: not finite
fixed of group 0: stays in place: centered slices of one element
one of group 1: slices of one element
"""


@pytest.mark.filterwarnings("ignore:.*slices of one element:UserWarning")
def test_a_diagnosis_prints_as_a_table_of_80_columns_with_remarks_below() -> None:
    assert str(diagnosis_with_every_remark()) == TABLE.strip()


def one_of(name: str, values: Any, grad: Any, **options: Any) -> Diagnosis:
    optimizer = rose_numpy.Rose({name: np.asarray(values)}, **({"lr": 0.25} | options))
    return rose_numpy.diagnose(optimizer, {name: np.asarray(grad)})


LONG = "model.layers.0.self_attention.query_projection.weight"


@pytest.mark.parametrize("name", ["w[0]", "[bold]end\\\\", LONG, "layers." * 300 + "weight"])
def test_a_wide_table_has_names_unchanged(name: str) -> None:
    lines = one_of(name, [[1.0, 2.0]], [[1.0, 3.0]]).table(width=None).splitlines()
    assert lines[3].startswith(f"{name:9} 1x2 ")
    assert lines[4:] == [f"{name}: centering removes 80% of the gradient"]


@pytest.mark.parametrize("name", [LONG, "layers." * 300 + "weight"])
def test_in_80_columns_a_long_name_loses_its_middle_and_numbers_are_not_cut(name: str) -> None:
    found = one_of(name, np.ones((2, 2)), np.asarray([[1.0, 3.0], [2e-5, 4e-5]]), lr=1e-4)
    lines = str(found).splitlines()
    assert all(len(line) <= 80 for line in lines)
    start, end = lines[3].split()[0].split("…")
    assert name.startswith(start)
    assert name.endswith(end)
    assert lines[3].split()[1:] == ["2x2", "0.50", "2.0e-5", "1", "2", "0%", "80%", "4.7e-5", "0.67"]


def test_a_table_has_at_least_80_columns() -> None:
    with raises(ValueError, "width must be None or an integer >= 80, got 79"):
        of_numpy().table(79)


def test_printing_needs_no_other_library() -> None:
    code = """
import sys
sys.modules |= dict.fromkeys(("rich", "matplotlib"))
import numpy as np
from rose_numpy import Rose, diagnose
print(diagnose(Rose({"w": np.ones((2, 2))}, lr=0.5), {"w": np.eye(2)}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[3].split()[:2] == ["w", "2x2"]


def test_a_share_removed_by_centering_is_remarked_on_above_one_half() -> None:
    """The mean of a slice is 2, and its deviations are 1 and -1, or 3 and -3."""
    assert one_of("w", np.ones((1, 2)), [[1.0, 3.0]])[0].centered_share == (2.0 / math.sqrt(5.0)) ** 2
    assert str(one_of("w", np.ones((1, 2)), [[1.0, 3.0]])).endswith("\nw: centering removes 80% of the gradient")
    assert one_of("w", np.ones((1, 2)), [[-1.0, 5.0]])[0].centered_share == (2.0 / math.sqrt(13.0)) ** 2
    assert "removes" not in str(one_of("w", np.ones((1, 2)), [[-1.0, 5.0]]))
    assert "removes" not in str(one_of("w", np.ones((1, 2)), [[0.0, 2.0]]))  # exactly one half
    assert str(one_of("w", np.ones((1, 2)), [[0.01, 2.0]])).endswith("\nw: centering removes 50% of the gradient")
    assert one_of("w", np.ones((1, 2)), [[1.0, 3.0]], centralize=False)[0].centered_share is None
    assert one_of("w", np.ones(2), [1.0, 3.0])[0].centered_share is None
    assert one_of("w", np.ones((1, 2)), [[0.0, 0.0]])[0].centered_share == 0.0


def test_a_step_of_more_than_10_times_lr_is_remarked_on() -> None:
    found = one_of("log_deviations", [1.0, 1.0, 1.0], [1.0, 1.0, 1.0 + 2.0**-20])
    assert found[0].largest_step == 2.0**20 + 1.0
    assert str(found).endswith("\nlog_deviations: an element moves by 1.0e6 times lr")
    assert one_of("b", [1.0, 1.0], [9.0, 10.0])[0].largest_step == 10.0
    assert "moves" not in str(one_of("b", [1.0, 1.0], [9.0, 10.0]))
    assert str(one_of("b", [1.0, 1.0], [9.001, 10.0])).endswith("\nb: an element moves by 10 times lr")


def test_a_parameter_of_zeros_shows_its_update() -> None:
    lines = str(one_of("w", np.zeros((2, 2)), [[1.0, 3.0], [2.0, 4.0]])).splitlines()
    assert lines[3].split()[-2] == "0.12*"
    assert lines[-1] == "* the weights are 0, and this is the update itself"


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


def test_without_matplotlib_the_error_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with raises(ImportError, "the plot of a diagnosis needs matplotlib: pip install matplotlib"):
        of_numpy().plot(tmp_path / "diagnosis.png")


def test_a_plot_shows_the_smallest_ranges_beside_a_range_of_0() -> None:
    zero = diagnose_parameter("zero", np.ones((2, 2)), np.asarray([[1.0, 1.0], [0.0, 1e6]]), Hyperparameters(lr=0.25))
    small = diagnose_parameter(
        "small", np.ones((2, 2)), np.asarray([[0.0, 1e-6], [0.0, 1e-3]]), Hyperparameters(lr=0.25)
    )
    ranges = rose_diagnosis.plot.draw([zero, small]).axes[0]
    left, right = ranges.get_xlim()
    assert left < small.range_min < zero.range_max < right  # type: ignore[operator]
    (zeros,) = [line for line in ranges.lines if line.get_label() == "0"]
    assert (list(zeros.get_xdata()), list(zeros.get_ydata())) == ([left], [0])
    assert not zeros.get_clip_on()  # the axis would cut off one half of the triangle
