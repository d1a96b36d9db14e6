"""Generate the vector files from the tables in `topics`, with the answers of the oracle."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from rose_spec.topics import TOPICS
from rose_spec.vectors import REVISIONS

__all__ = ["generate", "render"]

VECTORS: Final = Path(__file__).parent / "vectors"


def generate(*, check: bool = False, names: Collection[str] | None = None) -> list[str]:
    """Write the vector files that differ from their tables.

    Parameters
    ----------
    check : bool
        If true, compare the files byte for byte and write nothing.
    names : collection of str, optional
        The names of the files without ".json". By default all files are generated, and files without a topic are
        reported too.

    Returns
    -------
    list of str
        The paths of the files that differ.

    Raises
    ------
    ValueError
        If `names` has a name without a topic.

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
        path, text = VECTORS / REVISIONS[topic.revision] / f"{name}.json", render(topic.contents())
        if not path.exists() or path.read_bytes() != text.encode():
            differing.append(str(path))
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode())
    if names is None:
        differing += [str(path) for path in sorted(VECTORS.glob("*/*.json")) if path.stem not in TOPICS]
    return differing


def render(contents: dict[str, Any]) -> str:
    """Return the text of a file, with one vector on each line, so that a diff shows the vectors that change."""
    head = {key: value for key, value in contents.items() if key != "vectors"}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    vectors = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in contents["vectors"])
    return "\n".join(["{", *lines, '"vectors": [', vectors, "]", "}", ""])
