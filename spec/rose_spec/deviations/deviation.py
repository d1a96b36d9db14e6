"""The form of a deviation: a known mistake in a port, as an override of one method of the oracle."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rose_spec.oracle import Rule
from rose_spec.trajectory import Group

__all__ = ["Deviation", "known_as"]


@dataclass(frozen=True, eq=False)
class Deviation:
    """A known mistake in a port.

    Attributes
    ----------
    name : str
        The permanent name.
    sentence : str
        The mistake in words, as a sentence without a full stop.
    clause : str
        The clause that it violates.
    rule : type of Rule
        The rule with one method overridden. The method calls others through `super`, so that deviations combine.
    group : type of Group
        The same for the state that a group keeps from step to step.
    defaults : mapping
        Options that the port uses if they are left out, in the form of JSON.
    noise : callable or None
        A function like `rose_spec.noise.noise_words`, if the port computes other words.
    lenient : bool
        Whether the port answers steps that it must refuse.
    """

    name: str
    sentence: str
    clause: str
    rule: type[Rule] = Rule
    group: type[Group] = Group
    defaults: Mapping[str, Any] = field(default_factory=dict)
    noise: Callable[..., list[int]] | None = None
    lenient: bool = False

    def __str__(self) -> str:
        """Return the sentence with its clause."""
        return f"{self.sentence} ({self.clause})"


def known_as(name: str, sentence: str, clause: str, part: type[Rule] | type[Group]) -> Deviation:
    """Return the deviation of a rule or a group with one method overridden."""
    if issubclass(part, Rule):
        return Deviation(name, sentence, clause, rule=part)
    return Deviation(name, sentence, clause, group=part)
