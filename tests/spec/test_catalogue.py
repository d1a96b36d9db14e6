"""Every known deviation fails the vectors and is told by its name, alone and with another."""

from itertools import combinations
from typing import Any

import pytest

from rose_spec.catalogue import CATALOGUE, Deviation, VariantPort, deviation_named
from rose_spec.check import Outcome, check
from rose_spec.diagnosis import Diagnosis, explain
from rose_spec.vectors import Vector, load_vectors

PAIRS = list(combinations(CATALOGUE, 2))
# 12 pairs, far apart in the catalogue.
SAMPLE = PAIRS[:: len(PAIRS) // 12][:12]


@pytest.fixture(scope="module")
def vectors() -> list[Vector]:
    """Return every second step and all else, but the recorded and the generated, which are long and tell nothing."""
    kept = [
        v for v in load_vectors() if v.kind in ("step", "refusal", "trajectory") and not v.id.startswith("recorded")
    ]
    return [vector for place, vector in enumerate(kept) if vector.kind != "step" or place % 2 == 0]


def outcomes_of(deviations: tuple[Deviation, ...], vectors: list[Vector]) -> list[Outcome]:
    return list(check(VariantPort(deviations), vectors))


def alternatives(diagnosis: Diagnosis) -> list[set[Deviation]]:
    first = diagnosis.explanations[0]
    return [set(deviations) for deviations in (first.deviations, *first.equivalents)]


def test_there_are_many_deviations_with_names_sentences_and_clauses_of_their_own() -> None:
    assert len(CATALOGUE) >= 30
    assert len({deviation.name for deviation in CATALOGUE}) == len(CATALOGUE)
    assert len({deviation.sentence for deviation in CATALOGUE}) == len(CATALOGUE)
    assert all(deviation.clause.startswith("ROSE-") for deviation in CATALOGUE)


def test_the_oracle_without_deviations_passes(vectors: list[Vector]) -> None:
    outcomes = outcomes_of((), vectors)
    assert [outcome.vector.id for outcome in outcomes if outcome.status != "passed"] == []
    diagnosis = explain(outcomes)
    assert (diagnosis.explanations, diagnosis.unexplained) == ([], [])


@pytest.mark.parametrize("deviation", CATALOGUE, ids=lambda deviation: deviation.name)
def test_a_deviation_fails_and_is_told(deviation: Deviation, vectors: list[Vector]) -> None:
    outcomes = outcomes_of((deviation,), vectors)
    failed = [outcome for outcome in outcomes if outcome.status != "passed"]
    assert failed
    # A third of the vectors that are passed is enough to tell deviations apart.
    passed = [outcome for outcome in outcomes if outcome.status == "passed"]
    diagnosis = explain([*failed, *passed[::3]])
    assert {deviation} in alternatives(diagnosis)
    assert diagnosis.explanations[0].count == len(failed)
    assert diagnosis.unexplained == []


@pytest.mark.parametrize("pair", SAMPLE, ids=lambda pair: "+".join(deviation.name for deviation in pair))
def test_a_pair_is_told(pair: tuple[Deviation, ...], vectors: list[Vector]) -> None:
    outcomes = outcomes_of(pair, vectors)
    diagnosis = explain(outcomes)
    assert diagnosis.unexplained == []
    # One may hide the other; then fewer, or others, explain the same answers.
    assert set(pair) in alternatives(diagnosis) or len(diagnosis.explanations[0].deviations) <= len(pair)


def test_the_text_counts_and_names() -> None:
    vectors = [vector for vector in load_vectors() if vector.id.startswith("decay-")]
    diagnosis = explain(outcomes_of((deviation_named("l2-decay"),), vectors))
    text = diagnosis.explanations[0].text
    failing = diagnosis.explanations[0].count
    assert text.startswith(f"fails {failing} of {len(vectors)}; all {failing} are explained by: ")
    assert "weight decay is added to the gradient (ROSE-3.1)" in text


def test_what_nothing_explains_is_left_unexplained(vectors: list[Vector]) -> None:
    class Wrong(VariantPort):
        def step(self, request: Any) -> Any:
            reply = super().step(request)
            param = getattr(reply, "param", None)
            if param is None or not request.id.startswith("gate-"):
                return reply
            return type(reply)(type(param)(param.dtype, param.shape, tuple(v + 1.0 for v in request.param.values)))

    steps = [vector for vector in vectors if vector.kind == "step"]
    diagnosis = explain(list(check(Wrong(()), steps)))
    assert diagnosis.unexplained
    assert all(outcome.vector.id.startswith("gate-") for outcome in diagnosis.unexplained)
