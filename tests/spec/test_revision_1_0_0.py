"""Revision 1.0.0: small steps that are computed by hand, and its vectors."""

import math

import pytest

from rose_spec.catalogue import VariantPort, deviation_named
from rose_spec.check import check
from rose_spec.oracle import Options, Rule, Step, Tensor
from rose_spec.revision_1_0_0 import Rule100
from rose_spec.vectors import load_vectors

LR = 0.5


def step(shape: tuple[int, ...], grad: list[float], rule: type[Rule] = Rule100, **options: bool) -> Step:
    """Return a step from zeros, in float64."""
    zeros = Tensor("float64", shape, (0.0,) * len(grad))
    return rule(Options(LR, weight_decay=0.0, **options)).update(zeros, Tensor("float64", shape, tuple(grad)))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 1, 1)])
def test_one_element_moves_by_a_softsign_at_every_rank(shape: tuple[int, ...]) -> None:
    """ROSE-A.2, ROSE-A.3."""
    taken = step(shape, [-0.25])
    floor = math.nextafter(1e-5, 1.0)
    assert taken.denominator is not None
    assert taken.denominator[0] == pytest.approx(0.25 + floor, rel=1e-15)
    assert taken.param.values == (-LR * -0.25 / taken.denominator[0],)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1)])
def test_slices_of_one_element_share_the_denominator_range_plus_one(shape: tuple[int, ...]) -> None:
    """ROSE-A.2, ROSE-A.4: the range is 3 - 1 and the denominator 3."""
    taken = step(shape, [1.0, 3.0, 2.0])
    assert (taken.range, taken.denominator) == ([2.0], [3.0])
    assert taken.param.values == (-LR * 1.0 / 3.0, -LR * 3.0 / 3.0, -LR * 2.0 / 3.0)


def test_other_slices_have_the_range_max_minus_min() -> None:
    """ROSE-A.5: the range of (-1, -3) is 2, and 4 in revision 1.0.2."""
    assert step((1, 2), [-1.0, -3.0], centralize=False, stabilize=False).range == [2.0]
    assert step((1, 2), [-1.0, -3.0], Rule, centralize=False, stabilize=False).range == [4.0]


def test_a_port_of_the_revision_conforms_to_its_vectors_and_not_to_the_others() -> None:
    """ROSE-A.1."""
    port = VariantPort([deviation_named("1.0.0")])
    outcomes = list(check(port, load_vectors("1.0.0"), rule=Rule100))
    assert {outcome.status for outcome in outcomes} == {"passed"}
    steps = [vector for vector in load_vectors() if vector.kind == "step"]
    assert "failed" in {outcome.status for outcome in check(port, steps)}
