"""rose_numpy remembers what the checks of steps have found, and does what a new optimizer does, whatever changes."""

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
    for remembers in (True, False):  # if not, then another optimizer does the first steps
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


def test_a_change_of_the_rounding_is_seen() -> None:
    params = [normal(0, (5, 8), "bfloat16") for _ in range(2)]
    optimizer, grad = Rose(params[:1], lr=0.125), normal(1, (5, 8), "bfloat16")
    optimizer.step([grad])
    params[1][...] = params[0]
    optimizer.param_groups[0]["bf16_sr"] = False
    optimizer.step([grad])
    Rose(params[1:], lr=0.125, bf16_sr=False).step([grad])
    assert_same_bits(*params)


def test_options_hold_for_the_parameters_of_their_group() -> None:
    """Though in both steps two parameters of one kind have a gradient, and two groups have these options."""
    params, grads = [normal(number, (5, 8)) for number in range(3)], [normal(3 + number, (5, 8)) for number in range(3)]
    expected = [x.copy() for x in params]
    groups = [{"params": params[:2], "compute_dtype": "fp64"}, {"params": params[2:], "compute_dtype": "fp32"}]
    optimizer = Rose(groups, lr=0.125)
    for own in ([0, 2], [0, 1]):
        given = [grad if place in own else None for place, grad in enumerate(grads)]
        optimizer.step([given[:2], given[2:]])
        for place in own:
            compute = "fp64" if place < 2 else "fp32"
            expected[place] = rose_core.update(expected[place], grads[place], lr=0.125, compute_dtype=compute)
    for got, want in zip(params, expected, strict=True):
        assert_same_bits(got, want)


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
