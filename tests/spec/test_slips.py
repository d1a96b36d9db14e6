"""A port in NumPy conforms; with one slip it does not, and the diagnosis names the slip."""

import time

import pytest

import rose_core
from rose_spec.catalogue import CATALOGUE
from rose_spec.check import check
from rose_spec.diagnosis import explain
from rose_spec.outcome import Outcome
from rose_spec.vectors import load_vectors
from tests.spec.scripted import FunctionPort
from tests.spec.slips import SLIPS, Port, noise_slips

VECTORS = [vector for vector in load_vectors() if vector.kind != "digest" and not vector.id.startswith("recorded")]
NOISE_SLIPS = noise_slips(rose_core.noise_words)


def failures(outcomes: list[Outcome]) -> list[str]:
    return [f"{o.vector.id}: {o.detail}" for o in outcomes if o.status in ("failed", "unanswered")]


def test_the_port_without_a_slip_conforms() -> None:
    assert failures(list(check(FunctionPort(Port(), rose_core.noise_words), VECTORS))) == []


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_named(name: str) -> None:
    kind, sentence = SLIPS[name]
    outcomes = list(check(FunctionPort(kind()), VECTORS))
    assert failures(outcomes)
    assert sentence in explain(outcomes).explanations[0].text


@pytest.mark.parametrize("name", NOISE_SLIPS)
def test_a_slip_of_the_noise_is_named(name: str) -> None:
    function, sentence = NOISE_SLIPS[name]
    outcomes = list(check(FunctionPort(Port(), function), [v for v in VECTORS if v.kind in ("noise", "trajectory")]))
    wrong = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert {outcome.vector.kind for outcome in wrong} == {"noise"}
    assert all(": expected " in outcome.detail and ", got " in outcome.detail for outcome in wrong)
    (explanation,) = explain(outcomes).explanations
    assert explanation.text.startswith(f"fails {len(wrong)} of {len(outcomes)}; all {len(wrong)} are explained by: ")
    assert sentence in explanation.text


class VeryWrong(Port):
    """A port with many slips, which no combination of a few known deviations explains."""

    def decay(self, rate: float, weight_decay: float) -> float:
        return 1.0 - weight_decay * rate * 1.001

    def root(self, value: float) -> float:
        return float(value) ** 0.501

    def sum(self, values: object) -> object:
        return super().sum(values) * 1.0001

    def rate(self, lr: float) -> float:
        return lr * 0.9


def test_the_diagnosis_of_a_very_wrong_port_ends_in_time() -> None:
    outcomes = list(check(FunctionPort(VeryWrong()), VECTORS))
    assert len(failures(outcomes)) > 0.5 * len(VECTORS)
    started = time.monotonic()
    diagnosis = explain(outcomes, seconds=3.0)
    assert time.monotonic() - started < 6.0
    assert diagnosis.unexplained


def test_a_diagnosis_without_time_says_so() -> None:
    outcomes = list(check(FunctionPort(VeryWrong()), VECTORS[:40]))
    diagnosis = explain(outcomes, CATALOGUE, seconds=0.0)
    assert "the search for known deviations ended after 0 s" in diagnosis.explanations[-1].text
