"""The conformance vectors: what a vector is, and how its arrays and numbers stand in JSON.

Floats are hexadecimal words of fixed width, never decimals: a float64 number is 16 digits, an array is
its dtype, its shape and the words of its values in C order.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any, Final, Literal

from rose_spec.floats import FORMATS
from rose_spec.oracle import Options, Tensor

__all__ = [
    "REVISIONS",
    "Kind",
    "Vector",
    "load_vectors",
    "number_from_json",
    "number_to_json",
    "options_from_json",
    "options_to_json",
    "tensor_from_json",
    "tensor_to_json",
    "vector_files",
]

# Revision of the rule: folder of its vectors.
REVISIONS: Final = {"1.0.2": "v1", "1.0.0": "v1-revision-1.0.0"}

Kind = Literal["step", "refusal", "trajectory", "digest", "noise"]
NUMBERS: Final = ("lr", "weight_decay", "lr_reference")


@dataclass(frozen=True)
class Vector:
    """One question with its answer, both as they stand in JSON.

    Attributes
    ----------
    id : str
        Permanent, never used for anything else.
    kind : str
        "step", "refusal", "trajectory", "digest" or "noise"; see CONFORMANCE.md.
    clauses : tuple of str
        The clauses of SPEC.md it tells apart from their likely misreadings.
    flags : tuple of str
        Each explained in the "notes" of its file.
    input, expected : mapping
        What a port is given, and what it must answer.
    """

    id: str
    kind: Kind
    clauses: tuple[str, ...]
    flags: tuple[str, ...]
    input: Mapping[str, Any]
    expected: Mapping[str, Any]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Vector":
        """Return the vector of a JSON object."""
        return cls(**{**value, "clauses": tuple(value["clauses"]), "flags": tuple(value["flags"])})


def vector_files(revision: str = "1.0.2") -> Iterator[Any]:
    """Return the files of a revision's vectors, sorted by name."""
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
    """Return the words of values of a dtype; every NaN has the same one where `canonical`."""
    form = FORMATS[dtype]
    return [f"{form.encode(value, canonical=canonical):0{form.digits}x}" for value in values]


def tensor_to_json(tensor: Tensor, *, canonical: bool = True) -> dict[str, Any]:
    """Return an array as JSON has it: canonical as an answer, with the payloads of its NaNs as a question."""
    return {
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "words": words_to_json(tensor.dtype, tensor.values, canonical=canonical),
    }


def tensor_from_json(value: Mapping[str, Any]) -> Tensor:
    """Return the array of a JSON object."""
    return Tensor.from_words(value["dtype"], value["shape"], [int(word, 16) for word in value["words"]])


def options_to_json(options: Options) -> dict[str, Any]:
    """Return the options that differ from their defaults as JSON has them; `lr` has no default."""
    given: dict[str, Any] = {}
    for option in fields(Options):
        value = getattr(options, option.name)
        if option.name == "lr" or value != option.default:
            is_number = option.name in NUMBERS and value is not None
            given[option.name] = number_to_json(value) if is_number else value
    return given


def options_from_json(value: Mapping[str, Any]) -> Options:
    """Return the options of a JSON object; those not given have their defaults."""
    options: dict[str, Any] = {
        name: number_from_json(option) if name in NUMBERS and isinstance(option, str) else option
        for name, option in value.items()
    }
    return Options(**options)
