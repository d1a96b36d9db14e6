"""What a deviation is: a known way to miss the rule, as a part of it that can be exchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rose_spec.oracle import Rule
from rose_spec.trajectory import Group

__all__ = ["Deviation", "known_as"]


@dataclass(frozen=True, eq=False)
class Deviation:
    """A known way to miss the rule.

    Attributes
    ----------
    name : str
        Permanent.
    sentence : str
        What the port does, as the rest of the sentence "the port differs: ...".
    clause : str
        The clause it violates.
    rule : type of Rule
        The rule with one method exchanged, which calls the others by `super`, so that deviations combine.
    group : type of Group
        The same for what goes on from step to step.
    defaults : mapping
        Options that the port takes where none are given, as JSON has them.
    lenient : bool
        Whether the port answers what it must refuse.
    """

    name: str
    sentence: str
    clause: str
    rule: type[Rule] = Rule
    group: type[Group] = Group
    defaults: Mapping[str, Any] = field(default_factory=dict)
    lenient: bool = False

    def __str__(self) -> str:
        """Return the sentence with its clause."""
        return f"{self.sentence} ({self.clause})"


def known_as(name: str, sentence: str, clause: str, part: type[Rule] | type[Group]) -> Deviation:
    """Return the deviation of a rule, or a group, with one method exchanged."""
    if issubclass(part, Rule):
        return Deviation(name, sentence, clause, rule=part)
    return Deviation(name, sentence, clause, group=part)
