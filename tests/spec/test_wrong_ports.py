"""Ports with one slip each, of kinds that are easy to make: every one of them fails a vector."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rose_spec.catalogue import VariantPort, deviation_named
from rose_spec.check import check
from rose_spec.oracle import Rule
from rose_spec.replies import Answer, Refused, Reply, StepRequest
from rose_spec.vectors import load_vectors, options_from_json

VECTORS = [vector for vector in load_vectors() if vector.kind in ("step", "refusal", "trajectory")]


class LenientPort(VariantPort):
    """The oracle, except that it answers some of the refusals, as if their noise were left out or were allowed."""

    def __init__(self, is_answered: Callable[[StepRequest], bool], *, keeps_noise: bool = False) -> None:
        super().__init__(())
        self.is_answered, self.keeps_noise = is_answered, keeps_noise

    def step(self, request: StepRequest) -> Reply:
        reply = super().step(request)
        if not (isinstance(reply, Refused) and self.is_answered(request)):
            return reply
        if self.keeps_noise:
            rule = Rule(options_from_json(request.options))
            return Answer(rule.update(request.param, request.grad, request.noise).param)
        return super().step(replace(request, noise=None))


def has_other_dtype(request: StepRequest) -> bool:
    return request.noise is not None and request.param.dtype != "bfloat16"


def is_narrow(request: StepRequest) -> bool:
    return str(request.options.get("compute_dtype")).endswith("16")


def variant(name: str) -> Callable[[], VariantPort]:
    return lambda: VariantPort([deviation_named(name)])


PORTS: dict[str, Callable[[], VariantPort]] = {
    "stochastic rounding saturates": variant("stochastic-saturates"),
    "lr has a default": variant("default-lr-0.001"),
    "10.4 is checked for bfloat16 parameters only": lambda: LenientPort(
        lambda request: has_other_dtype(request) and is_narrow(request)
    ),
    "noise of another dtype is ignored": lambda: LenientPort(has_other_dtype),
    "noise of another dtype rounds to bfloat16": lambda: LenientPort(has_other_dtype, keeps_noise=True),
    "w <= 1/2": variant("half-belongs-to-mean"),
    "the gate is skipped for one slice": variant("one-slice-without-gate"),
}


@pytest.mark.parametrize("name", PORTS)
def test_a_port_with_one_slip_fails_a_vector(name: str) -> None:
    port: Any = PORTS[name]()
    statuses = {outcome.status for outcome in check(port, VECTORS)}
    assert "failed" in statuses
