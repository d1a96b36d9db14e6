"""Ask a port one vector, and compare its answer with the expected one."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from rose_spec.cases import digest, generated_cases
from rose_spec.comparison import Comparison, Level, Scale, compare, reaches, worst
from rose_spec.oracle import Rule, Step, Tensor
from rose_spec.outcome import Outcome, Status
from rose_spec.ports import HarnessError, Port, TrajectoryPort
from rose_spec.refusals import unnamed_option
from rose_spec.replies import Answer, Exchange, Failed, NoiseRequest, Refused, Reply, StepRequest, Unsupported, Words
from rose_spec.trajectory import ParamStep, Trajectory
from rose_spec.vectors import Vector, number_from_json, options_from_json, tensor_from_json

__all__ = ["check", "check_vector", "expected_step"]

# If a digest differs, the slow oracle recomputes only this many of its cases.
COMPARED_CASES: Final = 1000


class _Stopped(Exception):  # noqa: N818  (no error)
    """Ends a trajectory at a reply that has no parameter to continue from."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def check(
    port: Port,
    vectors: Iterable[Vector],
    required: Level = "exact",
    rule: type[Rule] = Rule,
    deadline: float = math.inf,
) -> Iterator[Outcome]:
    """Yield the outcome of each vector; after an error of the protocol, the remaining vectors are unanswered.

    The same holds after the deadline, which is a time of `time.monotonic`.

    Raises
    ------
    HarnessError
        After the last outcome, if the port broke the protocol, could not be run, or was too slow.
    """
    error: HarnessError | None = None
    for vector in vectors:
        if error is None and time.monotonic() > deadline:
            error = HarnessError("the time limit of the run is reached; --total-timeout sets another one")
        if error is None:
            try:
                yield check_vector(port, vector, required, rule)
                continue
            except HarnessError as raised:
                error = raised
        yield Outcome(vector, "unanswered", detail=f"not answered: {error}".splitlines()[0])
    if error is not None:
        raise error


def check_vector(port: Port, vector: Vector, required: Level = "exact", rule: type[Rule] = Rule) -> Outcome:
    """Return the outcome of one vector; `rule` is the oracle of the vector's revision."""
    return _Check(port, vector, required, rule).outcome()


def expected_step(request: StepRequest, rule: type[Rule] = Rule) -> Step:
    """Return the oracle's answer to a request, with the intermediate values."""
    return rule(options_from_json(request.options)).update(request.param, request.grad, request.noise)


@dataclass(frozen=True)
class _Check:
    """The check of one vector."""

    port: Port
    vector: Vector
    required: Level
    rule: type[Rule]

    def outcome(self) -> Outcome:
        """Ask the port, and return the outcome."""
        checks: Mapping[str, Callable[[], Outcome]] = {
            "step": self._check_step,
            "refusal": self._check_refusal,
            "noise": self._check_noise,
            "trajectory": self._check_trajectory,
            "digest": self._check_digest,
        }
        return checks[self.vector.kind]()

    def _check_step(self) -> Outcome:
        request, reply = self._ask(StepRequest.of(self.vector))
        exchanges = (Exchange(request, reply),)
        if not isinstance(reply, Answer):
            return self._unusable(reply, exchanges)
        expected = tensor_from_json(self.vector.expected["param"])
        if reply.noise is not None:  # the port drew other noise than the vector has
            expected = expected_step(request, self.rule).param
        return self._compared(compare(reply.param, expected, Scale.of(request)), exchanges)

    def _check_refusal(self) -> Outcome:
        request, reply = self._ask(StepRequest.of(self.vector))
        exchanges = (Exchange(request, reply),)
        detail = "answered a step that it must refuse" if isinstance(reply, Answer) else ""
        if isinstance(reply, Refused):
            name = unnamed_option(self.port, self.vector.input, reply.reason)
            if name is None:
                return Outcome(self.vector, "passed", "exact", reply, "", exchanges)
            detail = f"refused without naming {name}: {reply.reason}"
        if detail:
            return Outcome(self.vector, "failed", None, reply, detail, exchanges, math.inf)
        return self._unusable(reply, exchanges)

    def _check_noise(self) -> Outcome:
        numbers = {name: int(self.vector.input[name], 16) for name in ("seed", "step", "index")}
        request = NoiseRequest(self.vector.id, self.vector.input["count"], **numbers)
        reply = self.port.noise(request)
        exchanges = (Exchange(request, reply),)
        if not isinstance(reply, Words):
            return self._unusable(reply, exchanges)
        expected = [int(word, 16) for word in self.vector.expected["words"]]
        if reply.words == expected:
            return Outcome(self.vector, "passed", "exact", reply, "", exchanges)
        pairs = enumerate(zip(reply.words, expected, strict=False))
        first = next((f"word {i}: expected {b:04x}, got {a:04x}" for i, (a, b) in pairs if a != b), "")
        number = f"{len(reply.words)} words, not {len(expected)}" if len(reply.words) != len(expected) else ""
        detail = "; ".join(part for part in (number, first) if part)
        return self._compared(Comparison(None, math.inf, (), detail), exchanges)

    def _check_trajectory(self) -> Outcome:
        if isinstance(self.port, TrajectoryPort):
            exchanges, result = self.port.trajectory(self.vector.id, self.vector.input)
        else:
            exchanges, result = self._run_trajectory()
        if not isinstance(result, list):
            if isinstance(result, Answer):
                return self._compared(self._compare_exchange(exchanges[-1]), tuple(exchanges))
            return self._unusable(result, tuple(exchanges))
        comparisons = list(self._compare_groups(result))
        outcome = self._compared(worst(comparisons), tuple(exchanges))
        return outcome if outcome.status == "passed" else self._with_first_difference(outcome)

    def _check_digest(self) -> Outcome:
        results: list[Tensor] = []
        exchanges: list[Exchange] = []
        for number, case in enumerate(generated_cases(int(self.vector.input["seed"], 16), self.vector.input["count"])):
            name = f"{self.vector.id}/{number}"
            request, reply = self._ask(StepRequest(name, case.param, case.grad, case.options, case.noise))
            if not isinstance(reply, Answer):
                return self._unusable(reply, (Exchange(request, reply),))
            results.append(self._result_for(case.noise, Exchange(request, reply)))
            if number < COMPARED_CASES:
                exchanges.append(Exchange(request, reply))
        if digest(results) == self.vector.expected["sha256"]:
            return Outcome(self.vector, "passed", "exact", reply)
        return self._wrong_digest(exchanges)

    def _result_for(self, noise: list[int] | None, exchange: Exchange) -> Tensor:
        """Return the result for `noise`; for a port that drew other noise and is right, the oracle computes it."""
        assert isinstance(exchange.request, StepRequest)
        assert isinstance(exchange.reply, Answer)
        if exchange.reply.noise is None or self._compare_exchange(exchange).level != "exact":
            return exchange.reply.param
        return expected_step(replace(exchange.request, noise=noise), self.rule).param

    def _wrong_digest(self, exchanges: list[Exchange]) -> Outcome:
        """Return the outcome of a digest that differs, with the cases that differ."""
        comparisons = [self._compare_exchange(exchange) for exchange in exchanges]
        wrong = [i for i, comparison in enumerate(comparisons) if comparison.level != "exact"]
        if not wrong:
            detail = f"the digest differs, but none of the first {len(exchanges)} cases does"
            return self._compared(Comparison(None, math.inf, (), detail), ())
        outcome = self._compared(worst(comparisons), tuple(exchanges[i] for i in wrong))
        first = comparisons[wrong[0]].detail or comparisons[wrong[0]].first
        detail = f"{len(wrong)} of the first {len(exchanges)} cases differ, case {wrong[0]} first; {first}"
        return replace(outcome, detail=detail)

    def _ask(self, request: StepRequest) -> tuple[StepRequest, Reply]:
        """Return the request, with the noise that was used, and the reply."""
        reply = self.port.step(request)
        used = reply.noise if isinstance(reply, Answer) else None
        return (request if used is None else replace(request, noise=used)), reply

    def _run_trajectory(self) -> tuple[list[Exchange], list[list[Tensor]] | Reply]:
        """Take the steps of a trajectory one by one, each from the port's result of the previous one."""
        exchanges: list[Exchange] = []

        def update(step: ParamStep) -> Tensor:
            request, reply = self._ask(step.request(f"{self.vector.id}/{len(exchanges)}"))
            exchanges.append(Exchange(request, reply))
            form = (step.param.dtype, step.param.shape)
            if not isinstance(reply, Answer) or (reply.param.dtype, reply.param.shape) != form:
                raise _Stopped(reply)
            return reply.param

        try:
            return exchanges, Trajectory(self.vector.input).run(update)
        except _Stopped as stopped:
            return exchanges, stopped.reply

    def _compare_groups(self, result: list[list[Tensor]]) -> Iterator[Comparison]:
        """Compare the last parameters of all groups."""
        steps = self.vector.input["steps"]
        for number, group in enumerate(self.vector.input["groups"]):
            lr = max(number_from_json(step["lr"][number]) for step in steps)
            answers = self.vector.expected["params"][number]
            for start, got, expected in zip(group["params"], result[number], answers, strict=True):
                param = tensor_from_json(start)
                noise = [0] if param.dtype == "bfloat16" and group["options"].get("bf16_sr", True) else None
                compute = {key: group["options"][key] for key in ("compute_dtype",) if key in group["options"]}
                request = StepRequest(self.vector.id, param, param, {"lr": lr, **compute}, noise)
                yield compare(got, tensor_from_json(expected), replace(Scale.of(request), steps=len(steps)))

    def _compare_exchange(self, exchange: Exchange) -> Comparison:
        """Compare one answer with the oracle's."""
        assert isinstance(exchange.request, StepRequest)
        assert isinstance(exchange.reply, Answer)
        expected = expected_step(exchange.request, self.rule).param
        return compare(exchange.reply.param, expected, Scale.of(exchange.request))

    def _with_first_difference(self, outcome: Outcome) -> Outcome:
        """Name the first step of a trajectory at which the port differs from the oracle, given the same parameter."""
        for number, exchange in enumerate(outcome.exchanges):
            if self._compare_exchange(exchange).level != "exact":
                first = f"update {number + 1} of {len(outcome.exchanges)} is the first to differ"
                return replace(outcome, reply=exchange.reply, detail=f"{first}; {outcome.detail}".rstrip("; "))
        return outcome

    def _compared(self, comparison: Comparison, exchanges: tuple[Exchange, ...]) -> Outcome:
        """Return the outcome of a comparison."""
        passed = reaches(comparison.level, self.required)
        reply = exchanges[-1].reply if exchanges else None
        detail = comparison.detail
        if comparison.level != "exact" and not detail:
            count = len(comparison.differing)
            number = f"{count} element{'s differ' if count != 1 else ' differs'}"
            detail = f"{number}, by up to {comparison.ulps:.3g} ulps; {comparison.first}"
        status: Status = "passed" if passed else "failed"
        return Outcome(self.vector, status, comparison.level, reply, detail, exchanges, comparison.ulps)

    def _unusable(self, reply: Reply, exchanges: tuple[Exchange, ...]) -> Outcome:
        """Return the outcome of a reply that has nothing to compare."""
        if isinstance(reply, Unsupported):
            return Outcome(self.vector, "unsupported", None, reply, reply.reason, exchanges)
        if isinstance(reply, Failed):
            return Outcome(self.vector, "unanswered", None, reply, reply.reason, exchanges, math.inf)
        refused = isinstance(reply, Refused) and f"refused a step that it must answer: {reply.reason}"
        detail = refused or f"answered with {reply}"
        return Outcome(self.vector, "failed", None, reply, detail, exchanges, math.inf)
