"""Helpers for the tables of vectors: arrays of decimals or words, and topics that collect the vectors of a file."""

import math
import operator
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

from rose_spec.floats import FLOAT32, FLOAT64, FORMATS, cast
from rose_spec.noise import noise_words
from rose_spec.oracle import Rule, Step, Tensor
from rose_spec.trajectory import Trajectory, update_by_oracle
from rose_spec.validation import reason_to_refuse
from rose_spec.vectors import NUMBERS, Vector, number_to_json, options_from_json, tensor_to_json, words_to_json

__all__ = ["Topic", "array", "bf16", "f16", "f32", "f64", "given", "group", "row", "zeros"]

# A number, rounded to the nearest value of the dtype; or a word, as a string; or nested lists of these.
Values: TypeAlias = Any


def array(dtype: str, values: Values) -> Tensor:
    """Return an array of nested values."""
    shape, flat = [], [values]
    while flat and isinstance(flat[0], list | tuple):
        shape.append(len(flat[0]))
        assert {len(part) for part in flat} == {shape[-1]}, f"uneven rows in {values}"
        flat = [value for part in flat for value in part]
    return Tensor(dtype, tuple(shape), tuple(_value(dtype, value) for value in flat))


def f64(values: Values) -> Tensor:
    """Return a float64 array."""
    return array("float64", values)


def f32(values: Values) -> Tensor:
    """Return a float32 array."""
    return array("float32", values)


def f16(values: Values) -> Tensor:
    """Return a float16 array."""
    return array("float16", values)


def bf16(values: Values) -> Tensor:
    """Return a bfloat16 array."""
    return array("bfloat16", values)


def zeros(dtype: str, *shape: int) -> Tensor:
    """Return an array of zeros."""
    return Tensor(dtype, shape, (0.0,) * math.prod(shape))


def row(count: int, *, start: float = 1.0, factor: float = -1.37) -> list[float]:
    """Return a geometric sequence, computed by products, which have the same bits on every machine."""
    return list(accumulate([factor] * (count - 1), operator.mul, initial=start))


def given(**options: Any) -> dict[str, Any]:
    """Return options as a dictionary whose values may have different types."""
    return options


def group(*params: Tensor, max_lr: float | None = None, initial_lr: float | None = None, **options: Any) -> Any:
    """Return a group of a trajectory in the form of JSON."""
    value: dict[str, Any] = {"options": _options_to_json(options)}
    for name, number in (("initial_lr", initial_lr), ("max_lr", max_lr)):
        if number is not None:
            value[name] = number_to_json(number)
    return {**value, "params": [_question(param) for param in params]}


class Topic:
    """The vectors of one file; their ids begin with its name, and their answers come from the oracle.

    Parameters
    ----------
    name : str
        The name of the file without ".json".
    title : str
        The subject of the vectors.
    revision : str
        The revision of Rose.
    rule : type of Rule
        The oracle of this revision.
    **notes : str
        The meaning of each flag.
    """

    def __init__(
        self, name: str, title: str, *, revision: str = "1.0.2", rule: type[Rule] = Rule, **notes: str
    ) -> None:
        self.name, self.title, self.revision, self.rule, self.notes = name, title, revision, rule, notes
        self.vectors: list[Vector] = []

    def contents(self) -> dict[str, Any]:
        """Return the contents of the file in the form of JSON."""
        vectors = [
            {
                "id": vector.id,
                "kind": vector.kind,
                "clauses": list(vector.clauses),
                "flags": list(vector.flags),
                "input": vector.input,
                "expected": vector.expected,
            }
            for vector in self.vectors
        ]
        return {"format": 1, "revision": self.revision, "title": self.title, "notes": self.notes, "vectors": vectors}

    def step(
        self,
        name: str,
        clauses: str,
        param: Tensor,
        grad: Tensor,
        *,
        noise: Sequence[int] | None = None,
        flags: str = "",
        show: bool = False,
        **options: Any,
    ) -> Step:
        """Add a step, by default without weight decay; with `show`, the vector has the intermediate values."""
        options = {"lr": 1.0, "weight_decay": 0.0, **options}
        return self.bare_step(name, clauses, param, grad, noise=noise, flags=flags, show=show, **options)

    def bare_step(
        self,
        name: str,
        clauses: str,
        param: Tensor,
        grad: Tensor,
        *,
        noise: Sequence[int] | None = None,
        flags: str = "",
        show: bool = False,
        **options: Any,
    ) -> Step:
        """Add a step with exactly the given options."""
        question = _step_question(param, grad, noise, options)
        parsed = options_from_json(question["options"])
        reason = reason_to_refuse(parsed, param, grad, noise)
        assert reason is None, f"{name}: {reason}"
        rule = self.rule(parsed)
        step = rule.update(param, grad, noise)
        expected = {"param": tensor_to_json(step.param), **(_intermediates(step, rule) if show else {})}
        self._add(name, "step", clauses, flags, question, expected)
        return step

    def refusal(
        self,
        name: str,
        clauses: str,
        param: Tensor,
        grad: Tensor,
        *,
        noise: Sequence[int] | None = None,
        flags: str = "",
        **options: Any,
    ) -> None:
        """Add a step that must be refused."""
        question = _step_question(param, grad, noise, options)
        assert reason_to_refuse(options_from_json(question["options"]), param, grad, noise), name
        self._add(name, "refusal", clauses, flags, question, {"refused": True})

    def noise(self, name: str, clauses: str, *, count: int, seed: int, step: int, index: int, flags: str = "") -> None:
        """Add a question about portable noise."""
        words = noise_words(count, seed=seed, step=step, index=index)
        question = {"count": count, "seed": f"{seed:016x}", "step": f"{step:08x}", "index": f"{index:08x}"}
        self._add(name, "noise", clauses, flags, question, {"words": [f"{word:04x}" for word in words]})

    def trajectory(
        self,
        name: str,
        clauses: str,
        groups: Sequence[Any],
        steps: Sequence[tuple[Sequence[float], Sequence[Sequence[Tensor | None]]]],
        *,
        flags: str = "",
    ) -> None:
        """Add several steps; each has a learning rate and the gradients for each group."""
        question = {
            "groups": list(groups),
            "steps": [
                {
                    "lr": [number_to_json(value) for value in lr],
                    "grads": [[grad and _question(grad) for grad in grads] for grads in grads_by_group],
                }
                for lr, grads_by_group in steps
            ],
        }
        params = Trajectory(question).run(update_by_oracle)
        expected = {"params": [[tensor_to_json(param) for param in of_group] for of_group in params]}
        self._add(name, "trajectory", clauses, flags, question, expected)

    def digest(self, name: str, clauses: str, flags: str, question: Mapping[str, Any], sha256: str) -> None:
        """Add a digest."""
        self._add(name, "digest", clauses, flags, question, {"sha256": sha256})

    def _add(self, name: str, kind: Any, clauses: str, flags: str, question: Any, expected: Any) -> None:
        numbers = tuple(f"ROSE-{number}" for number in clauses.split())
        vector = Vector(f"{self.name}-{name}", kind, numbers, tuple(flags.split()), question, expected)
        self.vectors.append(vector)


def _value(dtype: str, value: Any) -> float:
    form = FORMATS[dtype]
    if isinstance(value, str):
        assert len(value) == form.digits, f"{value} is not a word of {dtype}"
        return form.decode(int(value, 16))
    return cast(float(value), form)


def _question(tensor: Tensor) -> dict[str, Any]:
    return tensor_to_json(tensor, canonical=False)


def _step_question(
    param: Tensor, grad: Tensor, noise: Sequence[int] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    question = {"param": _question(param), "grad": _question(grad), "options": _options_to_json(options)}
    return question if noise is None else {**question, "noise": [f"{word:04x}" for word in noise]}


def _options_to_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in the form of JSON; an integer `wd_schedule` stays an integer (ROSE-10.3)."""
    return {
        name: number_to_json(value) if (name in NUMBERS and value is not None) or isinstance(value, float) else value
        for name, value in options.items()
    }


def _intermediates(step: Step, rule: Rule) -> dict[str, Any]:
    """Return the intermediate values of a step as words of O, without those that the rule does not compute."""
    name = "float64" if rule.operation is FLOAT64 else FLOAT32.name
    values = {"mean": step.mean, "range": step.range, "denominator": step.denominator}
    shown: dict[str, Any] = {key: words_to_json(name, value) for key, value in values.items() if value is not None}
    return shown if step.trust is None else {**shown, "trust": words_to_json(name, [step.trust])[0]}
