"""The first difference between an answer and the oracle's."""

from dataclasses import dataclass
from typing import Any

from rose_spec.arrays import hex_words
from rose_spec.check import expected_step
from rose_spec.comparison import same
from rose_spec.oracle import Rule, Step, Tensor
from rose_spec.outcome import Outcome
from rose_spec.replies import Answer, Exchange, StepRequest

__all__ = ["difference"]


@dataclass(frozen=True)
class Difference:
    """The first elements at which an answer differs from the oracle's.

    Attributes
    ----------
    request : StepRequest
        The request.
    elements : list of tuple
        The first differing elements: index, expected word, expected value, word and value of the answer.
    count : int
        The number of elements that differ.
    intermediate : str
        The first intermediate value that differs, in words. Empty if none differs, or if the port returned none.
    """

    request: StepRequest
    elements: list[tuple[int, str, float, str, float]]
    count: int
    intermediate: str

    def to_json(self) -> dict[str, Any]:
        """Return the difference in the form of JSON, with the expected words and the words of the port."""
        return {
            "request": self.request.id,
            "count": self.count,
            "elements": [{"index": e[0], "expected": e[1], "got": e[3]} for e in self.elements],
            "first_intermediate": self.intermediate or None,
        }


def difference(outcome: Outcome, rule: type[Rule] = Rule) -> Difference | None:
    """Return the first difference from the oracle's answers, or None if there is nothing to compare."""
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
        return None  # a step that must be refused has no expected answer
    got, expected = answer.param, step.param
    if (got.dtype, got.shape) != (expected.dtype, expected.shape):
        return Difference(request, [], 0, "")
    pairs = zip(got.values, expected.values, strict=True)
    any_nan = request.noise is None
    indices = [i for i, (a, b) in enumerate(pairs) if not same(a, b, any_nan=any_nan)]
    if not indices:
        return None
    shown = [(i, *_word(expected, i), *_word(got, i)) for i in indices[:4]]
    return Difference(exchange.request, shown, len(indices), _first_intermediate(answer, step))  # type: ignore[arg-type]


def _first_intermediate(answer: Answer, step: Step) -> str:
    """Return the first intermediate value that differs, in words."""
    for name in ("mean", "range", "trust", "denominator"):
        expected = getattr(step, name)
        if name not in answer.intermediates or expected is None:
            continue
        got, want = answer.intermediates[name], [expected] if name == "trust" else expected
        if len(got) != len(want):
            return f"{name}: {len(got)} values, not {len(want)}"
        for index, (a, b) in enumerate(zip(got, want, strict=True)):
            if not same(a, b):
                where = "" if name == "trust" else f" of slice {index}"
                return f"{name}{where}: expected {b.hex()} ({b!r}), got {a.hex()} ({a!r})"
    return ""


def _word(tensor: Tensor, index: int) -> tuple[str, float]:
    """Return the word and the value of an element."""
    value = tensor.values[index]
    return hex_words(Tensor(tensor.dtype, (), (value,)))[0], value
