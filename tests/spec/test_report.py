"""The report of a run: the verdict, the smallest failing vector, the statement and the JSON."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import rose_core
from rose_spec.check import check, check_vector
from rose_spec.difference import difference
from rose_spec.oracle import Tensor
from rose_spec.ports.python_function import PythonPort
from rose_spec.replies import Answer, Refused, Unsupported
from rose_spec.report import ClauseResult, is_required
from rose_spec.statement import statement
from rose_spec.text import ulps_text
from tests.spec.scripted import VECTORS, FunctionPort, ScriptedPort, reported


def test_the_report_of_a_port_that_conforms() -> None:
    report = reported(PythonPort("rose_core:update", "rose_core:noise_words"))
    assert (report.status, report.level, report.smallest_failure()) == (0, "exact", None)
    assert report.verdict() == "rose_core:update conforms to Rose 1.0.2 at level exact."
    assert "| ROSE-4 (2 clauses) | exact | 2 | 2 | 0 | 0 |  |" in statement(report)


def test_the_verdict_counts_unsupported_vectors() -> None:
    report = reported(PythonPort("rose_core:update"))
    assert report.status == 0
    assert report.verdict().endswith("at level exact in all vectors that it supports (1 of 22 vectors is unsupported).")
    assert report.reasons_unsupported() == [("no portable noise; --noise-function names one", 1)]
    nothing = reported(PythonPort("rose_core:update"), ["noise-words"])
    assert (nothing.status, nothing.level) == (1, None)
    assert nothing.verdict() == "rose_core:update supports too little to judge (1 of 1 vector is unsupported)."


def test_a_port_that_supports_no_plain_step_or_refuses_everything_is_not_judged() -> None:
    report = reported(ScriptedPort(Unsupported("no such thing")))
    assert (report.status, "supports too little to judge (22 of 22 vectors are" in report.verdict()) == (1, True)
    report.selection, report.available = "--select '*'", 22
    assert "too little to judge in the 22 vectors selected by --select '*' (22 in all) (" in report.verdict()
    refused = check(ScriptedPort(Refused("no")), [VECTORS["refuse-shape"]])
    report.outcomes = [*refused, *(o for o in report.outcomes if o.vector.kind != "refusal")]
    assert report.status == 1
    report.selection = ""
    assert report.status == 1


def test_one_required_vector_that_is_unsupported_is_too_little() -> None:
    report = reported(PythonPort("rose_core:update"))
    required = [i for i, outcome in enumerate(report.outcomes) if is_required(outcome.vector)]
    assert {report.outcomes[i].vector.id for i in required} == {
        *("step-matrix", "step-defaults", "step-scalar", "step-vector"),
    }
    report.outcomes[required[0]] = replace(report.outcomes[required[0]], status="unsupported")
    assert (report.status, "too little to judge" in report.verdict()) == (1, True)


def test_the_smallest_failing_vector_is_shown_with_its_first_difference() -> None:
    port = FunctionPort(lambda param, grad, **options: rose_core.update(param, -grad, **options))
    report = reported(port, ["step-matrix", "step-scalar", "step-vector"])
    smallest = report.smallest_failure()
    assert smallest is not None
    assert smallest.vector.id == "step-scalar"
    found = difference(smallest)
    assert found is not None
    assert found.elements[0] == (0, "4003ffcb923a29c8", 2.4999000000000002, "3ff7ff972474538f", 1.4999)


@pytest.mark.parametrize(("ulps", "text"), [(2.0, "2"), (1e6, "1e+06"), (1.1e6, ">1e6"), (math.inf, "inf")])
def test_a_large_number_of_ulps_is_not_printed(ulps: float, text: str) -> None:
    assert ulps_text(ClauseResult("ROSE-1.1", level=None, ulps=ulps)) == text


def test_the_first_wrong_intermediate_value_is_named() -> None:
    vector = VECTORS["step-matrix"]
    right = {"mean": [0.75, 1.5416666666666667], "range": [4.25, 9.0]}
    reply = Answer(Tensor("float32", (2, 3), (0.0,) * 6), right)
    found = difference(check_vector(ScriptedPort(reply), vector))
    assert found is not None
    assert found.intermediate.startswith("range of slice 1: expected 0x1.3000000000000p+3 (9.5), got 0x1.2")


def test_the_json_report_has_every_vector_and_no_infinity() -> None:
    port = FunctionPort(lambda param, grad, **options: rose_core.update(param, grad, **options) * np.nan)
    report = reported(port, ["step-fp32", "step-scalar"])
    content = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert [vector["ulps"] for vector in content["vectors"]] == [None, None]
    assert (content["conforms"], content["counts"]["failed"]) == (False, 2)
