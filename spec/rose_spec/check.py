"""One vector put to one port: what was asked, what was answered, and how near that is."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from rose_spec.cases import digest, generated_cases
from rose_spec.comparison import Comparison, Level, Scale, compare, reaches, worst
from rose_spec.oracle import Rule, Step, Tensor
from rose_spec.ports import HarnessError, Port, TrajectoryPort
from rose_spec.refusals import unnamed_option
from rose_spec.replies import (
    Answer,
    Exchange,
    Failed,
    NoiseRequest,
    Refused,
    Reply,
    Request,
    StepRequest,
    Unsupported,
    Words,
)
from rose_spec.trajectory import Trajectory, Turn
from rose_spec.vectors import Vector, number_from_json, options_from_json, tensor_from_json

__all__ = ["Outcome", "Status", "check", "check_vector", "expected_step"]

Status = Literal["passed", "failed", "unsupported", "unanswered"]

# The oracle is slow: it looks for what is wrong in a digest among so many cases.
EXAMINED: Final = 1000


@dataclass(frozen=True)
class Outcome:
    """What came of one vector.

    Attributes
    ----------
    vector : Vector
        The vector.
    status : str
        "passed" at the asked level, "failed", "unsupported", or "unanswered", which is a failure too.
    level : str or None
        The highest level reached; None for none, and where there is nothing to compare.
    reply : Reply or None
        The last reply, or the one that differs; None if nothing was asked.
    detail : str
        What is wrong, for people; empty where nothing is.
    exchanges : tuple of Exchange
        All requests with the inputs that were used, and their replies. Of a digest, those that differ.
    ulps : float
        The largest difference, in units in the last place; see `rose_spec.comparison.Comparison`.
    """

    vector: Vector
    status: Status
    level: Level | None = None
    reply: Reply | None = None
    detail: str = ""
    exchanges: tuple[Exchange, ...] = ()
    ulps: float = 0.0

    @property
    def requests(self) -> list[Request]:
        """Return all requests."""
        return [exchange.request for exchange in self.exchanges]

    @property
    def replies(self) -> list[Reply]:
        """Return all replies."""
        return [exchange.reply for exchange in self.exchanges]


class _NoAnswer(Exception):  # noqa: N818  (a way out, no error)
    """A trajectory stopped at a reply that cannot be carried on from."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def check(port: Port, vectors: Iterable[Vector], asked: Level = "exact", rule: type[Rule] = Rule) -> Iterator[Outcome]:
    """Yield the outcome of each vector; the first error of the protocol, then, for all that follow it.

    Raises
    ------
    HarnessError
        After the last outcome, if the port broke the protocol or could not be run. The vectors from there
        on are unanswered.
    """
    error: HarnessError | None = None
    for vector in vectors:
        if error is None:
            try:
                yield check_vector(port, vector, asked, rule)
                continue
            except HarnessError as raised:
                error = raised
        yield Outcome(vector, "unanswered", detail=f"not answered: {error}".splitlines()[0])
    if error is not None:
        raise error


def check_vector(port: Port, vector: Vector, asked: Level = "exact", rule: type[Rule] = Rule) -> Outcome:
    """Return the outcome of one vector; `rule` is the oracle's, of the vector's revision."""
    return _Check(port, vector, asked, rule).outcome()


def expected_step(request: StepRequest, rule: type[Rule] = Rule) -> Step:
    """Return the oracle's answer to a request, with the values on the way."""
    return rule(options_from_json(request.options)).update(request.param, request.grad, request.noise)


@dataclass(frozen=True)
class _Check:
    """One vector, put to a port."""

    port: Port
    vector: Vector
    asked: Level
    rule: type[Rule]

    def outcome(self) -> Outcome:
        """Ask, and judge the answer."""
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
            return self._without_answer(reply, exchanges)
        # Words that the port drew itself are not those of the vector's answer.
        given, own = self.vector.expected["param"], reply.noise is not None
        expected = expected_step(request, self.rule).param if own else tensor_from_json(given)
        return self._compared(compare(reply.param, expected, Scale.of(request)), exchanges)

    def _check_refusal(self) -> Outcome:
        request, reply = self._ask(StepRequest.of(self.vector))
        exchanges = (Exchange(request, reply),)
        detail = "answered what must be refused" if isinstance(reply, Answer) else ""
        if isinstance(reply, Refused):
            name = unnamed_option(self.port, self.vector.input, reply.reason)
            if name is None:
                return Outcome(self.vector, "passed", "exact", reply, "", exchanges)
            detail = f"refused without naming {name}: {reply.reason}"
        if detail:
            return Outcome(self.vector, "failed", None, reply, detail, exchanges, math.inf)
        return self._without_answer(reply, exchanges)

    def _check_noise(self) -> Outcome:
        place = {name: int(self.vector.input[name], 16) for name in ("seed", "step", "index")}
        request = NoiseRequest(self.vector.id, self.vector.input["count"], **place)
        reply = self.port.noise(request)
        exchanges = (Exchange(request, reply),)
        if not isinstance(reply, Words):
            return self._without_answer(reply, exchanges)
        expected = [int(word, 16) for word in self.vector.expected["words"]]
        if reply.words == expected:
            return Outcome(self.vector, "passed", "exact", reply, "", exchanges)
        pairs = zip(reply.words, expected, strict=False)
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        where = f"{len(reply.words)} words, not {len(expected)}" if first is None else f"word {first} differs"
        return self._compared(Comparison(None, math.inf, (), where), exchanges)

    def _check_trajectory(self) -> Outcome:
        if isinstance(self.port, TrajectoryPort):
            exchanges, result = self.port.trajectory(self.vector.id, self.vector.input)
        else:
            exchanges, result = self._played(self.vector.id, self.vector.input)
        if not isinstance(result, list):
            if isinstance(result, Answer):
                return self._compared(self._compare_exchange(exchanges[-1]), tuple(exchanges))
            return self._without_answer(result, tuple(exchanges))
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
                return self._without_answer(reply, (Exchange(request, reply),))
            results.append(self._result_for(case.noise, Exchange(request, reply)))
            if number < EXAMINED:
                exchanges.append(Exchange(request, reply))
        if digest(results) == self.vector.expected["sha256"]:
            return Outcome(self.vector, "passed", "exact", reply)
        return self._wrong_digest(exchanges)

    def _result_for(self, noise: list[int] | None, exchange: Exchange) -> Tensor:
        """Return what a port that drew words itself, and is right with them, would have given for others."""
        assert isinstance(exchange.request, StepRequest)
        assert isinstance(exchange.reply, Answer)
        if exchange.reply.noise is None or self._compare_exchange(exchange).level != "exact":
            return exchange.reply.param
        return expected_step(replace(exchange.request, noise=noise), self.rule).param

    def _wrong_digest(self, exchanges: list[Exchange]) -> Outcome:
        """Return the outcome of a digest that differs, with the cases that do."""
        comparisons = [self._compare_exchange(exchange) for exchange in exchanges]
        wrong = [i for i, comparison in enumerate(comparisons) if comparison.level != "exact"]
        if not wrong:
            detail = f"the digest differs, but none of the first {len(exchanges)} cases"
            return self._compared(Comparison(None, math.inf, (), detail), ())
        outcome = self._compared(worst(comparisons), tuple(exchanges[i] for i in wrong))
        detail = f"{len(wrong)} of the first {len(exchanges)} cases differ, first case {wrong[0]}"
        return replace(outcome, detail=detail)

    def _ask(self, request: StepRequest) -> tuple[StepRequest, Reply]:
        """Return the reply, and the request with the noise that was used."""
        reply = self.port.step(request)
        used = reply.noise if isinstance(reply, Answer) else None
        return (request if used is None else replace(request, noise=used)), reply

    def _played(self, name: str, value: Mapping[str, Any]) -> tuple[list[Exchange], list[list[Tensor]] | Reply]:
        """Drive a trajectory step by step, each from the port's own results."""
        exchanges: list[Exchange] = []

        def update(turn: Turn) -> Tensor:
            number = len(exchanges)
            request, reply = self._ask(StepRequest(f"{name}/{number}", turn.param, turn.grad, turn.options, turn.noise))
            exchanges.append(Exchange(request, reply))
            form = (turn.param.dtype, turn.param.shape)
            if not isinstance(reply, Answer) or (reply.param.dtype, reply.param.shape) != form:
                raise _NoAnswer(reply)
            return reply.param

        try:
            return exchanges, Trajectory(value).play(update)
        except _NoAnswer as stopped:
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
        """Compare one answer to a step with the oracle's."""
        assert isinstance(exchange.request, StepRequest)
        assert isinstance(exchange.reply, Answer)
        expected = expected_step(exchange.request, self.rule).param
        return compare(exchange.reply.param, expected, Scale.of(exchange.request))

    def _with_first_difference(self, outcome: Outcome) -> Outcome:
        """Say at which step a trajectory first differs from the oracle's step from the same parameter."""
        for number, exchange in enumerate(outcome.exchanges):
            if self._compare_exchange(exchange).level != "exact":
                where = f"update {number + 1} of {len(outcome.exchanges)} is the first to differ"
                return replace(outcome, reply=exchange.reply, detail=f"{where}; {outcome.detail}".rstrip("; "))
        return outcome

    def _compared(self, comparison: Comparison, exchanges: tuple[Exchange, ...]) -> Outcome:
        """Return the outcome of an answer."""
        passed = reaches(comparison.level, self.asked)
        reply = exchanges[-1].reply if exchanges else None
        detail = comparison.detail
        if comparison.level != "exact" and not detail:
            count = len(comparison.differing)
            detail = f"{count} element{'s differ' if count != 1 else ' differs'}, by up to {comparison.ulps:.3g} ulps"
        status: Status = "passed" if passed else "failed"
        return Outcome(self.vector, status, comparison.level, reply, detail, exchanges, comparison.ulps)

    def _without_answer(self, reply: Reply, exchanges: tuple[Exchange, ...]) -> Outcome:
        """Return the outcome of a reply that holds no result."""
        if isinstance(reply, Unsupported):
            return Outcome(self.vector, "unsupported", None, reply, reply.reason, exchanges)
        if isinstance(reply, Failed):
            return Outcome(self.vector, "unanswered", None, reply, reply.reason, exchanges, math.inf)
        reason = (
            f"refused what it must answer: {reply.reason}" if isinstance(reply, Refused) else f"answered with {reply}"
        )
        return Outcome(self.vector, "failed", None, reply, reason, exchanges, math.inf)
