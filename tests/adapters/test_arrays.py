"""A step of rose_numpy has the bits of the core for every structure, dtype, option and memory layout."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from rose_numpy import Rose
from tests.adapters.models import OVERRIDES, assert_same_model, core_step, grads, model, normal
from tests.bits import DTYPES, assert_same_bits
from tests.strategies import COMPUTE_DTYPES, LAYOUTS

Arrays = dict[str, Any]
SR_COMPUTE_DTYPES = ("fp64", "fp32", None)


class Structure(NamedTuple):
    """Functions that turn named arrays into parameters and into gradients of one structure."""

    params: Callable[[Arrays], Any]
    grads: Callable[[Arrays], Any]


def halves(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """Return the first two arrays, and the others."""
    names = list(arrays)
    return {name: arrays[name] for name in names[:2]}, {name: arrays[name] for name in names[2:]}


STRUCTURES = {
    "mapping": Structure(dict, dict),
    "mapping in another order": Structure(dict, lambda a: dict(reversed(a.items()))),
    "list": Structure(lambda a: list(a.values()), lambda a: list(a.values())),
    "tuple and generator": Structure(lambda a: tuple(a.values()), lambda a: (x for x in a.values())),
    "generator and view": Structure(lambda a: (x for x in a.values()), lambda a: a.values()),
    "a group of a mapping": Structure(lambda a: [{"params": a}], lambda a: [a]),
    "a group of a mapping, twice": Structure(lambda a: [{"params": a}], lambda a: [{"params": a}]),
    "a generator of groups": Structure(
        lambda a: ({"params": list(half.values())} for half in halves(a)),
        lambda a: (half.values() for half in halves(a)),
    ),
    "groups of generators": Structure(
        lambda a: [{"params": (x for x in half.values())} for half in halves(a)],
        lambda a: [{"params": (x for x in half.values())} for half in halves(a)],
    ),
    "groups of a mapping and a list": Structure(
        lambda a: [{"params": halves(a)[0]}, {"params": list(halves(a)[1].values())}],
        lambda a: [halves(a)[0], tuple(halves(a)[1].values())],
    ),
    "groups of one array": Structure(
        lambda a: [{"params": x} for x in a.values()],
        lambda a: [[x] for x in a.values()],
    ),
    "groups of one array, twice": Structure(
        lambda a: [{"params": x} for x in a.values()],
        lambda a: [{"params": x} for x in a.values()],
    ),
    "groups of one array, bare gradients": Structure(
        lambda a: [{"params": x} for x in a.values()],
        lambda a: list(a.values()),
    ),
    "groups of an array named params": Structure(
        lambda a: [{"params": {"params": x}} for x in a.values()],
        lambda a: [{"params": x} for x in a.values()],
    ),
    "groups of an array named params, twice": Structure(
        lambda a: [{"params": {"params": x}} for x in a.values()],
        lambda a: [{"params": {"params": x}} for x in a.values()],
    ),
}


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_a_step_in_any_structure_equals_the_core(structure: Structure) -> None:
    params = model("bfloat16")
    expected = core_step(params, grads(dtype="bfloat16"), lr=0.1)
    optimizer = Rose(structure.params(params), lr=0.1)
    optimizer.step(structure.grads(grads(dtype="bfloat16")))
    assert_same_model(params, expected, "rose_numpy")


@pytest.mark.parametrize("compute_dtype", COMPUTE_DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_in_every_dtype_equal_the_core(dtype: str, compute_dtype: str | None) -> None:
    params = model(dtype)
    seed = 7 if compute_dtype in SR_COMPUTE_DTYPES else None
    optimizer = Rose(params, lr=0.1, bf16_sr=seed is not None, compute_dtype=compute_dtype, sr_seed=seed or 0)
    expected = copy.deepcopy(params)
    for step in range(3):
        gradients = grads(step, dtype)
        expected = core_step(expected, gradients, seed=seed, step=step, lr=0.1, compute_dtype=compute_dtype)
        optimizer.step(gradients)
        assert_same_model(params, expected, "rose_numpy")


@pytest.mark.parametrize("grad_dtype", DTYPES)
def test_a_gradient_may_have_another_dtype_and_is_not_changed(grad_dtype: str) -> None:
    params, gradients = model("bfloat16"), grads(dtype=grad_dtype)
    expected = core_step(params, gradients, lr=0.1)
    Rose(params, lr=0.1).step(gradients)
    assert_same_model(params, expected, "rose_numpy")
    assert_same_model(gradients, grads(dtype=grad_dtype), "rose_numpy")


@pytest.mark.parametrize("option", OVERRIDES)
def test_an_option_of_a_group_affects_this_group_only(option: str) -> None:
    given, core_options = OVERRIDES[option]
    params, others = model("bfloat16"), model("bfloat16")
    gradients, count = grads(dtype="bfloat16"), len(params)
    expected = core_step(params, gradients, **({"lr": 0.1} | core_options))
    unaffected = core_step(others, gradients, lr=0.1, first_index=count)
    Rose([{"params": params, **given}, {"params": others}], lr=0.1).step([gradients, gradients])
    assert_same_model(params, expected, "rose_numpy")
    assert_same_model(others, unaffected, "rose_numpy")


@pytest.mark.parametrize("option", OVERRIDES)
def test_an_option_of_the_constructor_affects_all_groups(option: str) -> None:
    given, core_options = OVERRIDES[option]
    params, gradients = model("bfloat16"), grads(dtype="bfloat16")
    expected = core_step(params, gradients, **({"lr": 0.1} | core_options))
    Rose(params, **({"lr": 0.1} | given)).step(gradients)
    assert_same_model(params, expected, "rose_numpy")


def test_a_skipped_parameter_counts_in_the_index_of_the_noise() -> None:
    params = model("bfloat16")
    gradients: Arrays = grads(dtype="bfloat16") | {"bias": None, "scale": None}
    Rose(params, lr=0.1).step(gradients)
    assert_same_model(params, core_step(model("bfloat16"), gradients, lr=0.1), "rose_numpy")
    counted_from_0 = core_step({"weight": model("bfloat16")["weight"]}, gradients, lr=0.1)
    assert params["weight"].tobytes() != counted_from_0["weight"].tobytes()


def test_the_index_of_the_noise_counts_across_groups() -> None:
    first, second = model("bfloat16"), model("bfloat16")
    no_gradients = dict.fromkeys(first)
    expected = core_step(second, grads(dtype="bfloat16"), first_index=len(first), lr=0.1)
    Rose([{"params": first}, {"params": second}], lr=0.1).step([no_gradients, grads(dtype="bfloat16")])
    assert_same_model(first, model("bfloat16"), "rose_numpy")
    assert_same_model(second, expected, "rose_numpy")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_memory_layout_changes_no_bit(dtype: str, layout: str) -> None:
    params = {name: LAYOUTS[layout](np.copy, x) for name, x in model(dtype).items()}
    gradients = {name: LAYOUTS[layout](np.copy, x) for name, x in grads(dtype=dtype).items()}
    held = dict(params)
    Rose(params, lr=0.1).step(gradients)
    assert_same_model(held, core_step(model(dtype), grads(dtype=dtype), lr=0.1), "rose_numpy")


def test_parameters_are_updated_in_place() -> None:
    params = model()
    held = dict(params)
    optimizer = Rose(params, lr=0.1)
    optimizer.step(grads())
    assert all(params[name] is array for name, array in held.items())
    assert all(param is array for param, array in zip(optimizer.param_groups[0]["params"], held.values(), strict=True))
    assert_same_model(held, core_step(model(), grads(), lr=0.1), "rose_numpy")


def test_a_view_is_updated_and_the_rest_of_its_array_is_not() -> None:
    whole = normal(0, (6, 8))
    expected = whole.copy()
    view, grad = whole[1:5:2, ::-3], normal(1, (2, 3))
    expected[1:5:2, ::-3] = core_step({"view": view}, {"view": grad}, lr=0.1)["view"]
    Rose([view], lr=0.1).step([grad])
    assert_same_bits(whole, expected, backend="rose_numpy")


def test_a_memory_map_is_updated(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "weight", np.float32, "w+", shape=(4, 6))
    mapped[...] = model()["weight"]
    Rose([mapped], lr=0.1).step([grads()["weight"]])
    mapped.flush()
    stored = np.fromfile(tmp_path / "weight", np.float32).reshape(4, 6)
    assert_same_bits(stored, core_step(model(), grads(), lr=0.1)["weight"], backend="rose_numpy")


def test_a_parameter_may_be_its_gradient() -> None:
    params = model()
    expected = core_step(params, params, lr=0.1)
    Rose(params, lr=0.1).step(params)
    assert_same_model(params, expected, "rose_numpy")


def test_the_gradient_of_a_scalar_may_be_a_numpy_scalar() -> None:
    param = np.ones((), np.float32)
    Rose([param], lr=0.25, weight_decay=0.0).step([np.float32(-3)])
    assert_same_bits(param, np.asarray(1.25, np.float32), backend="rose_numpy")


def test_an_added_group_has_its_options_and_continues_the_index_of_the_noise() -> None:
    params, added = model("bfloat16"), model("bfloat16")
    gradients = grads(dtype="bfloat16")
    expected = core_step(added, gradients, first_index=len(params), lr=0.5)
    group = {"params": added, "lr": 0.5}
    optimizer = Rose(params, lr=0.1)
    optimizer.add_param_group(group)
    optimizer.step([gradients, {"params": gradients}])
    assert_same_model(params, core_step(model("bfloat16"), gradients, lr=0.1), "rose_numpy")
    assert_same_model(added, expected, "rose_numpy")
    assert group == {"params": added, "lr": 0.5}


def test_the_representation_shows_the_options_of_each_group() -> None:
    shown = repr(Rose([{"params": model(), "lr": 0.5}, {"params": [np.ones(2)]}], lr=0.1))
    assert shown.startswith("Rose (\n  group 0: 5 arrays\n    lr: 0.5\n    weight_decay: 0.0001\n")
    assert "\n  group 1: 1 arrays\n    lr: 0.1\n" in shown
    assert shown.endswith("\n    sr_seed: 0\n    max_step: None\n    step: 0\n  nonfinite: propagate\n  fused: None\n)")
