"""The files of the vectors, built from the tables in `topics` with the oracle's answers."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from rose_spec.topics import TOPICS
from rose_spec.vectors import REVISIONS

__all__ = ["generate", "rendered"]

VECTORS: Final = Path(__file__).parent / "vectors"


def generate(*, check: bool = False, names: Collection[str] | None = None) -> list[str]:
    """Build the files of vectors byte for byte.

    Parameters
    ----------
    check : bool
        Whether to compare with what is on disk instead of writing it.
    names : collection of str, optional
        The files, without ".json"; all if left out. Only then are files looked for that no topic builds.

    Returns
    -------
    list of str
        The paths that differed, or, with `check`, that differ.

    Raises
    ------
    ValueError
        If there is no topic of a name.

    Examples
    --------
    >>> generate(check=True, names=["noise"])
    []
    """
    if unknown := sorted(set(names or ()) - set(TOPICS)):
        raise ValueError(f"names has {', '.join(unknown)}; allowed are {', '.join(TOPICS)}")
    differing = []
    for name in TOPICS if names is None else names:
        topic = TOPICS[name]()
        path, text = VECTORS / REVISIONS[topic.revision] / f"{name}.json", rendered(topic.contents())
        if not path.exists() or path.read_bytes() != text.encode():
            differing.append(str(path))
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode())
    if names is None:
        differing += [str(path) for path in sorted(VECTORS.glob("*/*.json")) if path.stem not in TOPICS]
    return differing


def rendered(contents: dict[str, Any]) -> str:
    """Return a file's text: one vector a line, so that a change shows which vector it changes."""
    head = {key: value for key, value in contents.items() if key != "vectors"}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    vectors = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in contents["vectors"])
    return "\n".join(["{", *lines, '"vectors": [', vectors, "]", "}", ""])
