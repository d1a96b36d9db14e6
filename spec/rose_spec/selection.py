"""The selection of vectors by clause, kind, topic, id and size."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath

from rose_spec.ports import HarnessError
from rose_spec.vectors import REVISIONS, Vector, vector_files

__all__ = ["Selection", "select"]


@dataclass(frozen=True)
class Entry:
    """A vector, the name of its file, and the notes on its flags."""

    vector: Vector
    topic: str
    notes: dict[str, str]


@dataclass(frozen=True)
class Selection:
    """Conditions on a vector; a condition that is None admits every vector.

    Attributes
    ----------
    clause : str or None
        A clause, or a section: "ROSE-4" stands for 4.1, 4.2 and 4.3.
    kind, topic : str or None
        The kind of the vector, and the name of its file without ".json".
    pattern : str or None
        A shell pattern for the id.
    volume : int or None
        The largest number of cases of a digest.
    """

    clause: str | None = None
    kind: str | None = None
    topic: str | None = None
    pattern: str | None = None
    volume: int | None = None

    def __str__(self) -> str:
        """Return the conditions as arguments of the command line, without the volume."""
        given = {"select" if name == "pattern" else name: value for name, value in vars(self).items()}
        return " ".join(
            f"--{name} {value!r}" for name, value in given.items() if value is not None and name != "volume"
        )

    def admits(self, entry: Entry) -> bool:
        """Tell whether an entry meets all conditions."""
        vector = entry.vector
        if self.clause and not any(c == self.clause or c.startswith(f"{self.clause}.") for c in vector.clauses):
            return False
        if self.pattern and not fnmatchcase(vector.id, self.pattern):
            return False
        if self.volume is not None and vector.kind == "digest" and vector.input["count"] > self.volume:
            return False
        return self.kind in (None, vector.kind) and self.topic in (None, entry.topic)


def _load_entries(revision: str) -> Iterator[Entry]:
    """Yield all vectors of a revision."""
    try:
        contents = [(file.name, json.loads(file.read_text())) for file in vector_files(revision)]
    except (OSError, ValueError) as error:
        raise HarnessError(f"the vectors of revision {revision} cannot be read: {error}") from error
    for name, content in contents:
        for value in content["vectors"]:
            yield Entry(Vector.from_json(value), PurePath(name).stem, content["notes"])


def select(revision: str, selection: Selection) -> list[Entry]:
    """Return the vectors that meet the conditions, at least one."""
    if revision not in REVISIONS:
        raise HarnessError(f"the revision must be one of {', '.join(REVISIONS)}; got {revision!r}")
    chosen = [entry for entry in _load_entries(revision) if selection.admits(entry)]
    if not chosen:
        raise HarnessError(f"no vector of revision {revision} matches {selection}; list prints the ids")
    return chosen
