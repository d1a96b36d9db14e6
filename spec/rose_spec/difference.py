"""Where an answer first differs from the oracle's."""

from dataclasses import dataclass
from typing import Any

from rose_spec.arrays import hex_words
from rose_spec.check import Outcome, expected_step
from rose_spec.comparison import same
from rose_spec.oracle import Rule, Step, Tensor
from rose_spec.replies import Answer, Exchange, StepRequest

__all__ = ["Difference", "difference"]


@dataclass(frozen=True)
class Difference:
    """The first places where an answer differs from the oracle's.

    Attributes
    ----------
    request : StepRequest
        What was asked.
    elements : list of tuple
        Index, expected word, expected value, word and value of the answer.
    count : int
        How many elements differ.
    intermediate : str
        The first intermediate value that differs, in words; empty if none does, or the port gave none.
    """

    request: StepRequest
    elements: list[tuple[int, str, float, str, float]]
    count: int
    intermediate: str

    def to_json(self) -> dict[str, Any]:
        """Return the difference for programs: the words that were expected, and those that came."""
        return {
            "request": self.request.id,
            "count": self.count,
            "elements": [{"index": e[0], "expected": e[1], "got": e[3]} for e in self.elements],
            "first_intermediate": self.intermediate or None,
        }


def difference(outcome: Outcome, rule: type[Rule] = Rule) -> Difference | None:
    """Return where the answers of an outcome first differ from the oracle's, None if there is nothing to compare."""
    for exchange in outcome.exchanges:
        if isinstance(exchange.request, StepRequest) and isinstance(exchange.reply, Answer):
            found = _difference(exchange, exchange.request, exchange.reply, rule)
            if found is not None:
                return found
    return None


def _difference(exchange: Exchange, request: StepRequest, answer: Answer, rule: type[Rule]) -> Difference | None:
    try:
        step = expected_step(request, rule)
    except (TypeError, ValueError, KeyError):
        return None  # what must be refused has no expected answer
    got, expected = answer.param, step.param
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        return Difference(request, [], 0, "")
    pairs = zip(got.values, expected.values, strict=True)
    any_nan = request.noise is None
    places = [i for i, (a, b) in enumerate(pairs) if not same(a, b, any_nan=any_nan)]
    if not places:
        return None
    shown = [(i, *_word(expected, i), *_word(got, i)) for i in places[:4]]
    return Difference(exchange.request, shown, len(places), _first_intermediate(answer, step))  # type: ignore[arg-type]


def _first_intermediate(answer: Answer, step: Step) -> str:
    """Return in words which intermediate value of an answer is the first to differ."""
    for name in ("mean", "range", "trust", "denominator"):
        expected = getattr(step, name)
        if name not in answer.intermediates or expected is None:
            continue
        got, want = answer.intermediates[name], [expected] if name == "trust" else expected
        if len(got) != len(want):
            return f"{name}: {len(got)} values, not {len(want)}"
        for place, (a, b) in enumerate(zip(got, want, strict=True)):
            if not same(a, b):
                where = "" if name == "trust" else f" of slice {place}"
                return f"{name}{where}: expected {b.hex()} ({b!r}), got {a.hex()} ({a!r})"
    return ""


def _word(tensor: Tensor, place: int) -> tuple[str, float]:
    value = tensor.values[place]
    return hex_words(Tensor(tensor.dtype, (), (value,)))[0], value
