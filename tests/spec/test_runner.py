"""The check of one vector: steps, refusals, trajectories, digests, noise, and ports that cannot be imported."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rose_core
from rose_spec.arrays import from_array, hex_words, to_array, values_from_words
from rose_spec.check import check, check_vector
from rose_spec.oracle import Tensor
from rose_spec.ports import HarnessError, ProtocolError
from rose_spec.ports.port import Terminated
from rose_spec.ports.python_function import PythonPort
from rose_spec.refusals import refused_option
from rose_spec.replies import Answer, Refused, Words
from rose_spec.vectors import Vector, load_vectors
from tests.spec.samples import samples
from tests.spec.scripted import VECTORS, FunctionPort, ScriptedPort, outcome_of, reported


@pytest.mark.parametrize("name", VECTORS)
def test_rose_core_answers_every_sample_exactly(name: str) -> None:
    if name == "digest-many":
        pytest.skip("its digest is wrong on purpose")
    outcome = outcome_of(PythonPort("rose_core:update", "rose_core:noise_words"), name)
    assert (outcome.status, outcome.level, outcome.ulps, outcome.detail) == ("passed", "exact", 0.0, "")


def test_only_the_options_of_the_vector_are_passed() -> None:
    given: list[set[str]] = []

    def update(param: Any, grad: Any, **options: Any) -> Any:
        given.append(set(options))
        return rose_core.update(param, grad, **options)

    outcome_of(FunctionPort(update), "step-defaults")
    outcome_of(FunctionPort(update), "step-noise")
    assert given == [{"lr"}, {"lr", "noise"}]


def test_a_missing_option_is_unsupported_not_refused() -> None:
    def update(param: Any, grad: Any, lr: float, weight_decay: float = 1e-4) -> Any:
        return rose_core.update(param, grad, lr=lr, weight_decay=weight_decay)

    port = FunctionPort(update)
    port._options = frozenset({"param", "grad", "lr", "weight_decay"})
    outcome = outcome_of(port, "step-maximize")
    assert (outcome.status, outcome.detail) == ("unsupported", "no option maximize")
    assert outcome_of(port, "step-defaults").status == "passed"


@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_a_refusal_of_a_step_that_must_be_answered_fails(error: type[Exception]) -> None:
    def update(param: Any, grad: Any, **options: Any) -> Any:  # noqa: ARG001
        raise error("no scalars")

    outcome = outcome_of(FunctionPort(update), "step-scalar")
    assert outcome.status == "failed"
    assert outcome.detail == f"refused a step that it must answer: {error.__name__}: no scalars"


def test_another_exception_leaves_the_vector_unanswered() -> None:
    def update(param: Any, grad: Any, **options: Any) -> Any:  # noqa: ARG001
        raise IndexError("axis 1")

    outcome = outcome_of(FunctionPort(update), "step-scalar")
    assert (outcome.status, outcome.detail) == ("unanswered", "raised IndexError: axis 1")
    assert outcome_of(FunctionPort(update), "refuse-lr").status == "unanswered"


class Cancelled(BaseException):
    """An exception that `except Exception` does not catch, as some libraries define for cancelled tasks."""


class Raising:
    """An object whose conversion to an array raises an exception of any class."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [SystemExit("bye"), GeneratorExit("bye"), Cancelled("bye")], ids=repr)
def test_a_port_that_raises_any_exception_leaves_the_vector_unanswered(error: BaseException) -> None:
    def update(param: Any, grad: Any, **options: Any) -> Any:  # noqa: ARG001
        raise error

    assert outcome_of(FunctionPort(update, update), "step-scalar").detail == f"raised {type(error).__name__}: bye"
    assert outcome_of(FunctionPort(update, lambda *_, **__: update(0, 0)), "noise-words").status == "unanswered"
    outcome = outcome_of(FunctionPort(lambda *_, **__: Raising(error)), "step-scalar")
    assert outcome.detail == f"returned Raising, which is no array: {type(error).__name__}: bye"


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated])
def test_an_interruption_of_the_run_passes_through_a_port(error: type[BaseException]) -> None:
    def update(param: Any, grad: Any, **options: Any) -> Any:  # noqa: ARG001
        raise error

    with pytest.raises(error):
        outcome_of(FunctionPort(update), "step-scalar")


def test_not_implemented_error_is_unsupported() -> None:
    def update(param: Any, grad: Any, **options: Any) -> Any:
        raise NotImplementedError("no float64 here")

    outcome = outcome_of(FunctionPort(update), "step-scalar")
    assert (outcome.status, outcome.detail) == ("unsupported", "no float64 here")


def test_each_missing_option_is_counted() -> None:
    port = FunctionPort(rose_core.update)
    port._options = frozenset({"param", "grad", "lr", "compute_dtype"})
    report = reported(port, ["step-fp32", "step-matrix", "step-reference"])
    assert dict(report.reasons_unsupported()) == {
        "no option centralize": 1,
        "no option stabilize": 1,
        "no option weight_decay": 2,
        "no option lr_reference": 1,
    }


def test_a_refusal_must_name_the_option() -> None:
    def update(param: Any, grad: Any, **options: Any) -> Any:  # noqa: ARG001
        raise ValueError("no, lr_reference is fine")

    assert outcome_of(FunctionPort(update), "refuse-lr").detail.startswith("refused without naming lr: ValueError: no")
    assert outcome_of(FunctionPort(update), "refuse-nan").detail.startswith("refused without naming weight_decay: ")
    assert outcome_of(FunctionPort(update), "refuse-shape").status == "passed"
    assert check_vector(ScriptedPort(Refused("no")), VECTORS["refuse-lr"]).status == "failed"
    assert check_vector(ScriptedPort(Refused("a negative lr")), VECTORS["refuse-lr"]).status == "passed"
    assert check_vector(ScriptedPort(Refused("no")), VECTORS["refuse-shape"]).status == "passed"
    for reason in ("compute_dtype bf16", "bf16_sr with bf16", "noise with 16 bits"):
        assert check_vector(ScriptedPort(Refused(reason)), VECTORS["refuse-narrow-noise"]).status == "passed"
    assert check_vector(ScriptedPort(Refused("16 bits")), VECTORS["refuse-narrow-noise"]).status == "failed"


@pytest.mark.parametrize("vector", [v for v in load_vectors() if v.kind == "refusal"], ids=lambda v: v.id)
def test_the_id_of_a_refusal_names_the_option_that_is_not_allowed(vector: Vector) -> None:
    about = vector.id.removeprefix("refusals-").replace("-", "_").replace("stochastic_beside", "compute_dtype")
    option = refused_option(vector.input)
    assert about.startswith((option,) if option else ("shape", "noise"))
    assert option != "lr" or not about.startswith("lr_reference")


def test_an_answer_to_a_step_that_must_be_refused_fails() -> None:
    def update(param: Any, grad: Any, **options: Any) -> Any:  # noqa: ARG001
        return param

    assert outcome_of(FunctionPort(update), "refuse-nan").detail == "answered a step that it must refuse"


def test_a_refusal_after_the_parameter_changed_is_unanswered() -> None:
    def update(param: Any, grad: Any, **options: Any) -> Any:  # noqa: ARG001
        param += 1.0
        raise ValueError("too late")

    assert "raised after it changed the parameter (ROSE-11.3)" in outcome_of(FunctionPort(update), "refuse-lr").detail


def test_a_result_with_a_wrong_shape_or_dtype_fails() -> None:
    def one(param: Any, grad: Any, **options: Any) -> Any:
        return rose_core.update(param, grad, **options).reshape(1)

    def wide(param: Any, grad: Any, **options: Any) -> Any:
        return rose_core.update(param, grad, **options).astype(np.float64)

    shape, dtype = outcome_of(FunctionPort(one), "step-scalar"), outcome_of(FunctionPort(wide), "step-matrix")
    assert shape.detail == "the result is float64 of shape [1], not float64 of shape []"
    assert dtype.detail == "the result is float64 of shape [2, 3], not float32 of shape [2, 3]"


def test_the_values_of_a_result_with_too_many_elements_are_not_kept() -> None:
    outcome = outcome_of(FunctionPort(lambda *_, **__: np.broadcast_to(np.float32(1), (10**9, 10**6))), "step-matrix")
    assert outcome.detail == "the result is float32 of shape [1000000000, 1000000], not float32 of shape [2, 3]"
    assert outcome.reply == Answer(Tensor("float32", (10**9, 10**6), ()))


def test_a_result_that_is_not_a_floating_point_array_is_unanswered() -> None:
    outcome = outcome_of(FunctionPort(lambda *_, **__: "done"), "step-matrix")
    assert "returned str of dtype <U4" in outcome.detail


def test_a_function_may_return_and_raise_anything() -> None:
    class NoArray:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("\x1b[2J")

    class NoTextError(ValueError):
        def __str__(self) -> str:
            raise KeyError

    def raises(param: Any, grad: Any, **options: Any) -> Any:  # noqa: ARG001
        raise NoTextError

    outcome = outcome_of(FunctionPort(lambda *_, **__: NoArray()), "step-matrix")
    assert outcome.detail == r"returned NoArray, which is no array: RuntimeError: \x1b[2J"
    outcome = outcome_of(FunctionPort(raises), "step-matrix")
    assert outcome.detail.endswith("NoTextError: an error whose text raises KeyError")
    for result in (None, [[1.0], [2.0, 3.0]], {}, 1j, np.zeros(2, object)):
        assert outcome_of(FunctionPort(lambda *_, result=result, **__: result), "step-matrix").status == "unanswered"


def test_a_trajectory_continues_from_the_results_of_the_port_and_names_the_first_wrong_update() -> None:
    calls = 0

    def update(param: Any, grad: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return rose_core.update(param, grad, **options) + (0.5 if calls == 4 else 0.0)

    outcome = outcome_of(FunctionPort(update), "trajectory-schedule")
    assert outcome.status == "failed"
    assert outcome.detail.startswith("update 4 of 8 is the first to differ; 4 elements differ")
    assert len(outcome.exchanges) == 8


def test_a_trajectory_stops_at_the_first_step_without_an_answer() -> None:
    outcome = check_vector(ScriptedPort(Refused("no")), VECTORS["trajectory-schedule"])
    assert (outcome.status, len(outcome.exchanges)) == ("failed", 1)
    outcome = check_vector(ScriptedPort(Answer(Tensor("float32", (1,), (0.0,)))), VECTORS["trajectory-schedule"])
    assert "the result is float32 of shape [1]" in outcome.detail


def test_a_wrong_digest_has_the_cases_that_differ() -> None:
    def update(param: Any, grad: Any, **options: Any) -> Any:
        return rose_core.update(param, grad, **{**options, "weight_decay": 0.0})

    outcome = outcome_of(FunctionPort(update), "digest-few")
    assert outcome.status == "failed"
    assert 0 < len(outcome.exchanges) < 20
    assert f"{len(outcome.exchanges)} of the first 20 cases differ" in outcome.detail


def test_a_wrong_digest_fails_even_if_no_compared_case_differs() -> None:
    outcome = outcome_of(PythonPort("rose_core:update"), "digest-many")
    assert (outcome.status, outcome.level) == ("failed", None)
    assert outcome.detail == "the digest differs, but none of the first 1000 cases does"


def test_the_first_wrong_word_of_noise_is_named() -> None:
    wrong = check_vector(ScriptedPort(Words([0] * 7)), VECTORS["noise-words"])
    short = check_vector(ScriptedPort(Words([])), VECTORS["noise-words"])
    assert (wrong.detail, short.detail) == ("word 0: expected 381e, got 0000", "0 words, not 7")
    assert check_vector(ScriptedPort(Words([])), VECTORS["step-matrix"]).status == "failed"


def test_after_an_error_of_the_protocol_all_vectors_are_unanswered() -> None:
    outcomes = check(ScriptedPort(ProtocolError("garbage")), samples()[:3])
    assert [next(outcomes).status for _ in range(3)] == ["unanswered"] * 3
    with pytest.raises(ProtocolError, match="garbage"):
        next(outcomes)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_conversions_keep_the_word_of_a_quiet_nan(dtype: str) -> None:
    words = {"float64": "fff8000000000123", "float32": "7fffffff", "float16": "fe01", "bfloat16": "7fff"}[dtype]
    array = Tensor.from_words(dtype, (1,), [int(words, 16)])
    assert hex_words(array) == [words]
    assert hex_words(from_array(to_array(array))) in ([words], ["7fc0"])
    assert math.isnan(values_from_words(dtype, [words])[0])


@pytest.mark.parametrize("reference", ["rose_core", "rose_core:", "no_such_module:f", "rose_core:no_such_function"])
def test_a_port_that_cannot_be_imported_is_an_error_of_the_harness(reference: str) -> None:
    with pytest.raises(HarnessError, match=r"module:name|cannot be imported"):
        PythonPort(reference)


def test_a_module_that_raises_and_an_object_that_is_not_callable_are_errors_of_the_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    lines = {"kit_raises": "1 / 0", "kit_exits": "raise SystemExit(3)", "kit_typo": "x = = 1"}
    for name, line in {**lines, "kit_ends": "raise GeneratorExit"}.items():
        (tmp_path / f"{name}.py").write_text(line)
        with pytest.raises(HarnessError, match=f"{name}:update cannot be imported: "):
            PythonPort(f"{name}:update")
    with pytest.raises(HarnessError, match="math:pi must be a function or a class, got 3"):
        PythonPort("rose_core:update", "math:pi")
    with pytest.raises(HarnessError, match="textwrap:indent has no option lr; it has "):
        PythonPort("textwrap:indent")


def test_vectors_of_the_samples_have_different_ids() -> None:
    ids: list[Vector] = samples()
    assert len(VECTORS) == len(ids)
