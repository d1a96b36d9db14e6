"""Every known deviation fails vectors and is diagnosed, alone and together with another one."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import pytest

from rose_spec.catalogue import CATALOGUE, SUCCESSOR, Deviation, Variant, VariantPort, deviation_named
from rose_spec.check import check
from rose_spec.diagnosis import Diagnosis, explain
from rose_spec.machine import machine_arithmetic
from rose_spec.oracle import Tensor
from rose_spec.outcome import Outcome
from rose_spec.replies import Answer, Failed, Reply, StepRequest
from rose_spec.revision_1_0_0 import Rule100
from rose_spec.vectors import Vector, load_vectors

PAIRS = list(combinations(CATALOGUE, 2))
# Twelve pairs at regular intervals. CI runs two thirds of the deviations and of the pairs, in the slow tests.
SAMPLE = PAIRS[:: len(PAIRS) // 12][:12]


@pytest.fixture(scope="module")
def vectors() -> list[Vector]:
    """Return every second step and all other vectors without digests and the recorded vectors, which are slow."""
    kept = [v for v in load_vectors() if v.kind != "digest" and not v.id.startswith("recorded")]
    few = ("step-lr-", "sums-half-", "sums-truncated-")  # each concerns a single deviation
    return [v for index, v in enumerate(kept) if v.kind != "step" or index % 2 == 0 or v.id.startswith(few)]


def outcomes_of(deviations: tuple[Deviation, ...], vectors: list[Vector]) -> list[Outcome]:
    with machine_arithmetic():
        return list(check(VariantPort(deviations), vectors))


def alternatives(diagnosis: Diagnosis) -> list[set[Deviation]]:
    first = diagnosis.explanations[0]
    return [set(deviations) for deviations in (first.deviations, *first.equivalents)]


def test_names_and_sentences_of_the_deviations_are_unique_and_all_have_a_clause() -> None:
    assert len(CATALOGUE) >= 30
    assert len({deviation.name for deviation in CATALOGUE}) == len(CATALOGUE)
    assert len({deviation.sentence for deviation in CATALOGUE}) == len(CATALOGUE)
    assert all(deviation.clause.startswith("ROSE-") for deviation in CATALOGUE)


def test_the_oracle_without_deviations_passes(vectors: list[Vector]) -> None:
    outcomes = outcomes_of((), vectors)
    assert [outcome.vector.id for outcome in outcomes if outcome.status != "passed"] == []
    diagnosis = explain(outcomes)
    assert (diagnosis.explanations, diagnosis.unexplained) == ([], [])


def mostly_slow(values: Sequence[Any]) -> list[Any]:
    """Return parameters. Every third one is tested always, the others by the slow tests."""
    return [pytest.param(value, marks=[pytest.mark.slow] * (number % 3 > 0)) for number, value in enumerate(values)]


@pytest.mark.parametrize("deviation", mostly_slow(CATALOGUE), ids=lambda deviation: deviation.name)
def test_a_deviation_fails_and_is_diagnosed(deviation: Deviation, vectors: list[Vector]) -> None:
    outcomes = outcomes_of((deviation,), vectors)
    failed = [outcome for outcome in outcomes if outcome.status != "passed"]
    assert failed
    # A third of the passed vectors is enough to tell deviations apart.
    passed = [outcome for outcome in outcomes if outcome.status == "passed"]
    diagnosis = explain([*failed, *passed[::3]])
    assert {deviation} in alternatives(diagnosis)
    assert diagnosis.explanations[0].count == len(failed)
    assert diagnosis.unexplained == []


@pytest.mark.parametrize("pair", mostly_slow(SAMPLE), ids=lambda pair: "+".join(deviation.name for deviation in pair))
def test_a_pair_is_diagnosed(pair: tuple[Deviation, ...], vectors: list[Vector]) -> None:
    outcomes = outcomes_of(pair, vectors)
    diagnosis = explain(outcomes)
    assert diagnosis.unexplained == []
    # One deviation may hide the other, so that fewer or other deviations explain the same answers.
    assert set(pair) in alternatives(diagnosis) or len(diagnosis.explanations[0].deviations) <= len(pair)


def test_the_text_has_the_number_of_failures_and_the_sentences() -> None:
    vectors = [vector for vector in load_vectors() if vector.id.startswith("decay-")]
    diagnosis = explain(outcomes_of((deviation_named("l2-decay"),), vectors))
    text = diagnosis.explanations[0].text
    failing = diagnosis.explanations[0].count
    assert text.startswith(f"fails {failing} of {len(vectors)}; all {failing} are explained by: ")
    assert "weight decay is added to the gradient (ROSE-3.1)" in text


def test_failures_without_an_explanation_stay_unexplained(vectors: list[Vector]) -> None:
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


class ExceptPort(VariantPort):
    """A port with deviations whose answers to some requests are right."""

    def __init__(self, names: list[str], is_right: Callable[[StepRequest], bool]) -> None:
        super().__init__([deviation_named(name) for name in names])
        self.is_right = is_right

    def step(self, request: StepRequest) -> Reply:
        return Variant(()).step(request) if self.is_right(request) else super().step(request)


class SilentPort(VariantPort):
    """A port that fails to answer requests of some dtypes, by default of all."""

    dtypes: tuple[str, ...] = ("bfloat16", "float16", "float32", "float64")

    def step(self, request: StepRequest) -> Reply:
        if request.param.dtype in self.dtypes:
            return Failed(f"TypeError: no {', '.join(self.dtypes)}")
        return super().step(request)


def steps_of(*prefixes: str) -> list[Vector]:
    return [v for v in load_vectors() if v.kind in ("step", "refusal") and v.id.startswith(prefixes)]


def test_a_pair_is_diagnosed_although_rank_0_is_right() -> None:
    port = ExceptPort(["l2-decay", "sample-deviation"], lambda request: not request.param.shape)
    outcomes = list(check(port, steps_of("decay-", "gate-", "step-", "defaults-")))
    failed = [outcome for outcome in outcomes if outcome.status != "passed"]
    diagnosis = explain(outcomes)
    assert set(port.variant.deviations) in alternatives(diagnosis)
    assert diagnosis.explanations[0].text.startswith(f"fails {len(failed)} of {len(outcomes)}; all {len(failed)} are ")
    assert diagnosis.unexplained == []


def test_the_unexplained_rest_is_counted_if_a_deviation_explains_most() -> None:
    class Wrong(VariantPort):
        def step(self, request: StepRequest) -> Reply:
            return Answer(request.grad) if request.id.startswith("decay-rank-0") else super().step(request)

    vectors = steps_of("decay-")
    diagnosis = explain(list(check(Wrong([deviation_named("l2-decay")]), vectors)))
    assert alternatives(diagnosis) == [{deviation_named("l2-decay")}]
    count, rest = diagnosis.explanations[0].count, len(diagnosis.unexplained)
    text = f"fails {count + rest} of {len(vectors)}; {count} are explained by: weight decay is added to the gradient"
    assert rest
    assert diagnosis.explanations[0].text.startswith(text)
    assert diagnosis.explanations[-1].text.endswith(f"; {rest} are explained by no known deviation")


def test_a_changed_default_is_diagnosed_among_other_failures() -> None:
    port = ExceptPort(["magnitude-range", "default-no-decay"], lambda request: request.param.dtype == "float16")
    outcomes = list(check(port, steps_of("defaults-", "statistics-", "decay-")))
    diagnosis = explain(outcomes)
    assert set(port.variant.deviations) in alternatives(diagnosis)
    assert diagnosis.unexplained == []


def test_missing_answers_are_grouped_by_the_reason_of_the_port() -> None:
    vectors = steps_of("step-", "layout-", "special-")
    diagnosis = explain(list(check(SilentPort(()), vectors)))
    reason = "TypeError: no bfloat16, float16, float32, float64"
    text = f"fails {len(vectors)} of {len(vectors)}; all {len(vectors)} have no answer: {reason}"
    assert [(e.text, e.deviations) for e in diagnosis.explanations] == [(text, ())]
    assert diagnosis.unexplained == []


def test_missing_answers_hide_no_deviation(vectors: list[Vector]) -> None:
    port = SilentPort([deviation_named("l2-decay")])
    port.dtypes = ("float16",)
    diagnosis = explain(list(check(port, vectors)))
    assert alternatives(diagnosis) == [{deviation_named("l2-decay")}]
    assert [e.text.partition(" ")[2] for e in diagnosis.explanations[1:]] == ["have no answer: TypeError: no float16"]
    assert diagnosis.unexplained == []


def test_a_deviation_that_contradicts_more_than_it_explains_is_not_named() -> None:
    port = ExceptPort(["maximize-ignored", "l2-decay"], lambda request: not request.id.startswith("decay-rank-0"))
    diagnosis = explain(list(check(port, steps_of("decay-"))))
    assert diagnosis.explanations == []
    assert diagnosis.unexplained


def test_the_answers_of_a_later_revision_are_diagnosed() -> None:
    vectors = [v for v in load_vectors("1.0.0") if v.kind == "step"][::5]
    diagnosis = explain(list(check(VariantPort(()), vectors, "exact", Rule100)), (SUCCESSOR,))
    assert diagnosis.explanations[0].text.endswith("are explained by: the port implements revision 1.0.2 (ROSE-A.1)")
    assert diagnosis.unexplained == []


def test_a_port_is_diagnosed_at_the_required_level() -> None:
    class Near(VariantPort):
        def step(self, request: StepRequest) -> Reply:
            reply = super().step(request)
            if not isinstance(reply, Answer) or request.param.dtype != "float64":
                return reply
            values = tuple(value * (1 + 2.0**-52) for value in reply.param.values)
            return Answer(Tensor("float64", reply.param.shape, values))

    outcomes = list(check(Near([deviation_named("l2-decay")]), steps_of("decay-"), "rounded"))
    diagnosis = explain(outcomes, required="rounded")
    assert {deviation_named("l2-decay")} in alternatives(diagnosis)
    assert " at level " not in diagnosis.explanations[0].text
