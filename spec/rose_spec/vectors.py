"""The conformance vectors, and the form of their arrays and numbers in JSON.

Floats are hexadecimal words of fixed width, never decimals. A float64 number has 16 digits. An array has a dtype, a
shape, and the words of its values in C order.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Literal

from rose_spec.floats import FORMATS
from rose_spec.oracle import Options, Tensor

__all__ = [
    "NUMBERS",
    "REVISIONS",
    "Kind",
    "Vector",
    "load_vectors",
    "number_from_json",
    "number_to_json",
    "options_from_json",
    "tensor_from_json",
    "tensor_to_json",
    "vector_files",
    "words_to_json",
]

# Maps each revision of the rule to the folder of its vectors.
REVISIONS: Final = {"1.0.2": "v1", "1.0.0": "v1-revision-1.0.0"}

Kind = Literal["step", "refusal", "trajectory", "digest", "noise"]
# The options of a step whose values are float64 words in JSON.
NUMBERS: Final = ("lr", "weight_decay", "lr_reference", "max_step")


@dataclass(frozen=True)
class Vector:
    """One question and its answer, both in the form of JSON.

    Attributes
    ----------
    id : str
        Permanent, and never reused.
    kind : str
        "step", "refusal", "trajectory", "digest" or "noise"; see CONFORMANCE.md.
    clauses : tuple of str
        The clauses of SPEC.md whose likely misreadings fail this vector.
    flags : tuple of str
        Labels, each explained in the "notes" of the vector's file.
    input, expected : mapping
        The question and the answer.
    """

    id: str
    kind: Kind
    clauses: tuple[str, ...]
    flags: tuple[str, ...]
    input: Mapping[str, Any]
    expected: Mapping[str, Any]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Vector":
        """Return the vector that a JSON object describes."""
        return cls(**{**value, "clauses": tuple(value["clauses"]), "flags": tuple(value["flags"])})


def vector_files(revision: str = "1.0.2") -> Iterator[Any]:
    """Yield the vector files of a revision, sorted by name."""
    folder = files("rose_spec") / "vectors" / REVISIONS[revision]
    yield from sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)


def load_vectors(revision: str = "1.0.2") -> list[Vector]:
    """Return all vectors of a revision."""
    contents = (json.loads(file.read_text()) for file in vector_files(revision))
    return [Vector.from_json(vector) for content in contents for vector in content["vectors"]]


def number_to_json(value: float) -> str:
    """Return the float64 word of a number."""
    return struct.pack(">d", value).hex()


def number_from_json(word: str) -> float:
    """Return the number of a float64 word."""
    return float(struct.unpack(">d", bytes.fromhex(word))[0])


def words_to_json(dtype: str, values: Sequence[float], *, canonical: bool = True) -> list[str]:
    """Return the words of values of a dtype; with `canonical`, every NaN has the same word."""
    form = FORMATS[dtype]
    return [f"{form.encode(value, canonical=canonical):0{form.digits}x}" for value in values]


def tensor_to_json(tensor: Tensor, *, canonical: bool = True) -> dict[str, Any]:
    """Return an array in the form of JSON; NaNs keep their payloads unless `canonical`."""
    return {
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "words": words_to_json(tensor.dtype, tensor.values, canonical=canonical),
    }


def tensor_from_json(value: Mapping[str, Any]) -> Tensor:
    """Return the array that a JSON object describes."""
    return Tensor.from_words(value["dtype"], value["shape"], [int(word, 16) for word in value["words"]])


def options_from_json(value: Mapping[str, Any]) -> Options:
    """Return the options that a JSON object describes; an option that is left out has its default, lr has NaN."""
    options: dict[str, Any] = {
        name: number_from_json(option) if name in NUMBERS and isinstance(option, str) else option
        for name, option in value.items()
    }
    return Options(**{"lr": math.nan, **options})
