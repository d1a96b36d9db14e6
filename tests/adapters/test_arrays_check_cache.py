"""rose_numpy caches the results of its checks. After any change it steps like a new optimizer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rose_core
from rose_arrays import optimizer as optimizer_module
from rose_numpy import Rose
from tests.adapters.models import normal
from tests.bits import assert_same_bits

SHAPES = [(5, 8), (5, 8), (8, 5), (40,)]
Grads = list[Any]


class Subclass(np.ndarray):
    """An array of another type."""


def new_params() -> list[np.ndarray]:
    return [normal(number, shape) for number, shape in enumerate(SHAPES)]


def new_grads() -> Grads:
    return [normal(10 + number, shape) for number, shape in enumerate(SHAPES)]


def param_becomes(index: int, changed: Callable[[Any], Any]) -> Callable[[Rose, Grads], None]:
    """Return a function that replaces a parameter of the optimizer."""

    def change(optimizer: Rose, grads: Grads) -> None:  # noqa: ARG001
        params = optimizer.param_groups[0]["params"]
        params[index] = changed(params[index])

    return change


def grad_becomes(index: int, changed: Callable[[Any], Any]) -> Callable[[Rose, Grads], None]:
    """Return a function that replaces a gradient."""

    def change(optimizer: Rose, grads: Grads) -> None:  # noqa: ARG001
        grads[index] = changed(grads[index])

    return change


def option(name: str, value: object) -> Callable[[Rose, Grads], None]:
    return lambda optimizer, _: optimizer.param_groups[0].update({name: value})


def read_only(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


CHANGES: dict[str, Callable[[Rose, Grads], None]] = {
    "nothing": lambda *_: None,
    "a parameter's dtype": param_becomes(1, lambda x: x.astype(np.float16)),
    "a parameter's shape": param_becomes(1, lambda x: x.reshape(4, 10)),
    "a parameter's strides": param_becomes(1, lambda x: x.copy(order="F")),
    "a parameter's type": param_becomes(1, lambda x: x.view(Subclass)),
    "a parameter that is a list": param_becomes(1, list),
    "a parameter that becomes read-only": param_becomes(1, read_only),
    "a gradient's dtype": grad_becomes(1, lambda x: x.astype(np.float64)),
    "a gradient's byte order": grad_becomes(1, lambda x: x.astype(">f4")),
    "a gradient's shape": grad_becomes(1, lambda x: x.reshape(4, 10)),
    "a gradient's strides": grad_becomes(1, lambda x: x[::-1, ::-1]),
    "a gradient's type": grad_becomes(1, lambda x: x.view(Subclass)),
    "a masked gradient": grad_becomes(1, np.ma.masked_array),
    "a gradient that is a list": grad_becomes(1, list),
    "a gradient that is a parameter": lambda optimizer, grads: grads.__setitem__(
        1, optimizer.param_groups[0]["params"][0]
    ),
    "no first gradient": grad_becomes(0, lambda _: None),
    "no last gradient": grad_becomes(3, lambda _: None),
    "no gradient": lambda _, grads: grads.__setitem__(slice(None), [None] * len(SHAPES)),
    "parameters in another order": lambda optimizer, _: optimizer.param_groups[0]["params"].reverse(),
    "parameters and gradients in another order": lambda optimizer, grads: (
        optimizer.param_groups[0]["params"].reverse(),
        grads.reverse(),
    ),
    "lr": option("lr", 0.5),
    "centralize": option("centralize", False),
    "stabilize": option("stabilize", False),
    "compute_dtype": option("compute_dtype", "fp32"),
    "maximize": option("maximize", True),
    "an invalid option": option("bf16_sr", None),
}


def outcome(optimizer: Rose, grads: Grads) -> list[np.ndarray] | str:
    """Return the parameters after a step, or the text of its error."""
    try:
        optimizer.step(grads)
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return optimizer.param_groups[0]["params"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("skipped", [None, 0, 2])
@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_between_two_steps_takes_effect(
    change: Callable[[Rose, Grads], Any], fused: bool | None, skipped: int | None
) -> None:
    results = []
    for caches in (True, False):  # if False, another optimizer takes the first steps
        optimizer, start = Rose(new_params(), lr=0.125, fused=fused), new_grads()
        if skipped is not None:
            start[skipped] = None
        stepping = optimizer if caches else Rose(optimizer.param_groups[0]["params"], lr=0.125, fused=fused)
        for _ in range(2):
            stepping.step(start)
        grads = new_grads()
        change(optimizer, grads)
        results.append([outcome(optimizer, grads), outcome(optimizer, new_grads())])
    for result, expected in zip(*results, strict=True):
        if isinstance(expected, str):
            assert result == expected
            continue
        for got, want in zip(result, expected, strict=True):
            assert_same_bits(np.asarray(got), np.asarray(want))


def test_a_change_of_bf16_sr_takes_effect() -> None:
    params = [normal(0, (5, 8), "bfloat16") for _ in range(2)]
    optimizer, grad = Rose(params[:1], lr=0.125), normal(1, (5, 8), "bfloat16")
    optimizer.step([grad])
    params[1][...] = params[0]
    optimizer.param_groups[0]["bf16_sr"] = False
    optimizer.step([grad])
    Rose(params[1:], lr=0.125, bf16_sr=False).step([grad])
    assert_same_bits(*params)


def test_cached_results_belong_to_the_options_of_a_group() -> None:
    """Both steps have two gradients of the same kind. In the second step they belong to one group."""
    params, grads = [normal(number, (5, 8)) for number in range(3)], [normal(3 + number, (5, 8)) for number in range(3)]
    expected = [x.copy() for x in params]
    groups = [{"params": params[:2], "compute_dtype": "fp64"}, {"params": params[2:], "compute_dtype": "fp32"}]
    optimizer = Rose(groups, lr=0.125)
    for indices in ([0, 2], [0, 1]):
        given = [grad if index in indices else None for index, grad in enumerate(grads)]
        optimizer.step([given[:2], given[2:]])
        for index in indices:
            compute = "fp64" if index < 2 else "fp32"
            expected[index] = rose_core.update(expected[index], grads[index], lr=0.125, compute_dtype=compute)
    for got, want in zip(params, expected, strict=True):
        assert_same_bits(got, want)


def test_parameters_that_are_skipped_in_turn_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    check = optimizer_module.checked_compute_dtype
    monkeypatch.setattr(
        optimizer_module,
        "checked_compute_dtype",
        lambda *args, **options: calls.append(args) or check(*args, **options),
    )
    optimizer = Rose(new_params(), lr=0.125)
    for step in range(6):
        optimizer.step([None if index % 2 == step % 2 else grad for index, grad in enumerate(new_grads())])
    assert len(calls) == len(SHAPES)
