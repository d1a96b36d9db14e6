"""rose_numpy remembers what the checks of the last step found, and does what a new optimizer does, whatever changes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rose_arrays import optimizer as optimizer_module
from rose_numpy import Rose
from tests.adapters.models import normal
from tests.bits import assert_same_bits

SHAPES = [(5, 8), (5, 8), (8, 5), (40,)]
Grads = list[Any]


class Own(np.ndarray):
    """A subclass, of which nothing is known but that it is an array."""


def made() -> list[np.ndarray]:
    return [normal(number, shape) for number, shape in enumerate(SHAPES)]


def gradients() -> Grads:
    return [normal(10 + number, shape) for number, shape in enumerate(SHAPES)]


def put(place: int, what: Callable[[Any], Any]) -> Callable[[Rose, Grads], None]:
    """Put another array in the place of a parameter."""

    def change(optimizer: Rose, grads: Grads) -> None:  # noqa: ARG001
        params = optimizer.param_groups[0]["params"]
        params[place] = what(params[place])

    return change


def give(place: int, what: Callable[[Any], Any]) -> Callable[[Rose, Grads], None]:
    """Give another gradient."""

    def change(optimizer: Rose, grads: Grads) -> None:  # noqa: ARG001
        grads[place] = what(grads[place])

    return change


def option(name: str, value: object) -> Callable[[Rose, Grads], None]:
    return lambda optimizer, _: optimizer.param_groups[0].update({name: value})


def read_only(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


CHANGES: dict[str, Callable[[Rose, Grads], None]] = {
    "nothing": lambda *_: None,
    "a parameter's dtype": put(1, lambda x: x.astype(np.float16)),
    "a parameter's shape": put(1, lambda x: x.reshape(4, 10)),
    "a parameter's strides": put(1, lambda x: x.copy(order="F")),
    "a parameter's type": put(1, lambda x: x.view(Own)),
    "a parameter that is no array": put(1, list),
    "a parameter that becomes read-only": put(1, read_only),
    "a gradient's dtype": give(1, lambda x: x.astype(np.float64)),
    "a gradient's byte order": give(1, lambda x: x.astype(">f4")),
    "a gradient's shape": give(1, lambda x: x.reshape(4, 10)),
    "a gradient's strides": give(1, lambda x: x[::-1, ::-1]),
    "a gradient's type": give(1, lambda x: x.view(Own)),
    "a masked gradient": give(1, np.ma.masked_array),
    "a gradient that is no array": give(1, list),
    "a gradient that is its parameter": lambda optimizer, grads: grads.__setitem__(
        1, optimizer.param_groups[0]["params"][0]
    ),
    "no first gradient": give(0, lambda _: None),
    "no last gradient": give(3, lambda _: None),
    "no gradient": lambda _, grads: grads.__setitem__(slice(None), [None] * len(SHAPES)),
    "two parameters changed places": lambda optimizer, _: optimizer.param_groups[0]["params"].reverse(),
    "both in other places": lambda optimizer, grads: (optimizer.param_groups[0]["params"].reverse(), grads.reverse()),
    "lr": option("lr", 0.5),
    "centralize": option("centralize", False),
    "stabilize": option("stabilize", False),
    "compute_dtype": option("compute_dtype", "fp32"),
    "maximize": option("maximize", True),
    "a bad option": option("bf16_sr", None),
}


def outcome(optimizer: Rose, grads: Grads) -> list[np.ndarray] | str:
    """Return the parameters after a step, or the error."""
    try:
        optimizer.step(grads)
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return optimizer.param_groups[0]["params"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("skipped", [None, 0, 2])
@pytest.mark.parametrize("fused", [None, False], ids=["kernels", "core"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_between_two_steps_is_seen(
    change: Callable[[Rose, Grads], Any], fused: bool | None, skipped: int | None
) -> None:
    results = []
    for remembers in (True, False):
        optimizer, start = Rose(made(), lr=0.125, fused=fused), gradients()
        if skipped is not None:
            start[skipped] = None
        stepping = optimizer if remembers else Rose(optimizer.param_groups[0]["params"], lr=0.125, fused=fused)
        for _ in range(2):
            stepping.step(start)
        grads = gradients()
        change(optimizer, grads)
        results.append([outcome(optimizer, grads), outcome(optimizer, gradients())])
    for result, expected in zip(*results, strict=True):
        if isinstance(expected, str):
            assert result == expected
            continue
        for got, want in zip(result, expected, strict=True):
            assert_same_bits(np.asarray(got), np.asarray(want))


def test_parameters_that_are_skipped_by_turns_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    check = optimizer_module.checked_compute_dtype
    monkeypatch.setattr(
        optimizer_module,
        "checked_compute_dtype",
        lambda *args, **options: calls.append(args) or check(*args, **options),
    )
    optimizer = Rose(made(), lr=0.125)
    for step in range(6):
        optimizer.step([None if place % 2 == step % 2 else grad for place, grad in enumerate(gradients())])
    assert len(calls) == len(SHAPES)
