"""The line protocol: requests and replies as single lines of JSON or of plain text.

A request never has expected values. Every function that reads a reply raises `ProtocolError` with the problem, the
value, and the allowed values.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote

from rose_spec.arrays import hex_words, values_from_words
from rose_spec.floats import FORMATS
from rose_spec.oracle import Tensor
from rose_spec.ports.port import ProtocolError
from rose_spec.replies import Answer, NoiseRequest, Refused, Reply, Request, StepRequest, Unsupported, Words

__all__ = ["Dialect", "read_reply", "reply_id", "shortened", "write_request"]

Dialect = Literal["json", "text"]

ANSWERS: Final = ("param", "words", "refused", "unsupported")
INTERMEDIATES: Final = ("mean", "range", "denominator", "trust")
HEX: Final = re.compile(r"[0-9a-fA-F]+")


def write_request(request: Request, dialect: Dialect) -> str:
    """Return a request as a line, without its end."""
    return json_request(request) if dialect == "json" else text_request(request)


def read_reply(line: str, request: Request, operation: str, dialect: Dialect) -> Reply:
    """Return the reply in a line with a checked id; `operation` is the dtype of its intermediate values."""
    fields = json_fields(line) if dialect == "json" else text_fields(line)
    fields.pop("id", None)
    kinds = [name for name in ANSWERS if name in fields]
    if len(kinds) != 1:
        raise ProtocolError(f"a reply must have one of {', '.join(ANSWERS)}; got {', '.join(fields) or 'none'}")
    allowed = {kinds[0], *(INTERMEDIATES if kinds[0] == "param" else ())}
    if unknown := sorted(set(fields) - allowed):
        raise ProtocolError(f"a reply with {kinds[0]} may not have {', '.join(unknown)}")
    if kinds[0] in ("refused", "unsupported"):
        reason = str(fields[kinds[0]])
        return Refused(reason) if kinds[0] == "refused" else Unsupported(reason)
    if (kinds[0] == "param") != isinstance(request, StepRequest):
        raise ProtocolError(f"the request was for {'a step' if kinds[0] == 'words' else 'noise'}, got {kinds[0]}")
    if kinds[0] == "words":
        return Words([int(word, 16) for word in checked_words("words", fields["words"], 4)])
    names = [name for name in INTERMEDIATES if name in fields]
    return Answer(tensor(fields["param"]), {name: intermediate(name, fields[name], operation) for name in names})


def reply_id(line: str, dialect: Dialect) -> str:
    """Return the id of a reply."""
    if dialect == "text":
        return line.partition(" ")[0]
    value = json_fields(line).get("id")
    if not isinstance(value, str):
        raise ProtocolError(f"a reply must have the id of its request, a string; got {shortened(line)}")
    return value


def json_request(request: Request) -> str:
    """Return a request as a JSON object."""
    if isinstance(request, NoiseRequest):
        return json.dumps({"id": request.id, "kind": "noise", "count": request.count, **noise_numbers(request)})
    arrays = {name: json_tensor(value) for name, value in (("param", request.param), ("grad", request.grad))}
    noise = {} if request.noise is None else {"noise": [f"{word:04x}" for word in request.noise]}
    return json.dumps({"id": request.id, "kind": "step", **arrays, "options": dict(request.options), **noise})


def text_request(request: Request) -> str:
    """Return a request as fields separated by single spaces."""
    if isinstance(request, NoiseRequest):
        fields: Mapping[str, str] = {"count": str(request.count), **noise_numbers(request)}
        return " ".join(["noise", request.id, *(f"{name}={value}" for name, value in fields.items())])
    fields = {"param": text_tensor(request.param), "grad": text_tensor(request.grad)}
    fields |= {name: text_option(value) for name, value in request.options.items()}
    if request.noise is not None:
        fields["noise"] = ",".join(f"{word:04x}" for word in request.noise)
    return " ".join(["step", request.id, *(f"{name}={value}" for name, value in fields.items())])


def noise_numbers(request: NoiseRequest) -> dict[str, str]:
    """Return the seed, step and index of a request for noise."""
    return {"seed": f"{request.seed:016x}", "step": f"{request.step:08x}", "index": f"{request.index:08x}"}


def json_tensor(value: Tensor) -> dict[str, Any]:
    """Return an array in the form of JSON."""
    return {"dtype": value.dtype, "shape": list(value.shape), "words": hex_words(value)}


def text_tensor(value: Tensor) -> str:
    """Return an array as ``dtype:lengths:words``."""
    return f"{value.dtype}:{','.join(map(str, value.shape))}:{','.join(hex_words(value))}"


def text_option(value: Any) -> str:
    """Return the value of an option as text; blanks are percent-encoded, since they separate fields."""
    if value is None:
        return "none"
    return str(int(value)) if isinstance(value, bool) else quote(str(value))


def json_fields(line: str) -> dict[str, Any]:
    """Return the fields of a JSON reply."""
    try:
        fields = json.loads(line)
    except ValueError:
        raise ProtocolError(f"a reply must be a JSON object on one line, got {shortened(line)}") from None
    if not isinstance(fields, dict):
        raise ProtocolError(f"a reply must be a JSON object on one line, got {shortened(line)}")
    return fields


def text_fields(line: str) -> dict[str, Any]:
    """Return the fields of a text reply in the form of JSON."""
    _, _, rest = line.partition(" ")
    for name in ("refused", "unsupported"):
        if rest == name or rest.startswith(f"{name} "):
            return {name: rest[len(name) + 1 :]}
    pairs = [field.partition("=") for field in rest.split(" ")]
    if bad := [name for name, equals, _ in pairs if not equals]:
        raise ProtocolError(f"a field of a reply must be name=value, got {shortened(bad[0])} in {shortened(line)}")
    fields: dict[str, Any] = {name: value.split(",") if value else [] for name, _, value in pairs}
    if len(fields) < len(pairs):
        raise ProtocolError(f"a reply must have each field only once, got {shortened(line)}")
    if "trust" in fields:
        fields["trust"] = ",".join(fields["trust"])
    if "param" in fields:
        fields["param"] = text_array(",".join(fields["param"]))
    return fields


def text_array(value: str) -> dict[str, Any]:
    """Return an array of a text reply in the form of JSON."""
    parts = value.split(":")
    lengths = parts[1].split(",") if len(parts) == 3 and parts[1] else []
    if len(parts) != 3 or not all(length.isascii() and length.isdigit() for length in lengths):
        raise ProtocolError(f"param must be dtype:lengths:words, got {shortened(value)}")
    words = parts[2].split(",") if parts[2] else []
    return {"dtype": parts[0], "shape": [int(length) for length in lengths], "words": words}


def tensor(value: Any) -> Tensor:
    """Return the array of a reply, checked."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "words"}:
        raise ProtocolError(f"param must have dtype, shape and words, got {shortened(str(value))}")
    dtype, shape = value["dtype"], value["shape"]
    if dtype not in tuple(FORMATS):
        raise ProtocolError(f"the dtype of param must be one of {', '.join(FORMATS)}; got {dtype!r}")
    if not (isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)):
        raise ProtocolError(f"the shape of param must be a list of lengths, got {shortened(str(shape))}")
    words = checked_words("param", value["words"], FORMATS[dtype].digits)
    if len(words) != math.prod(shape):
        raise ProtocolError(f"param of shape {shape} must have {math.prod(shape)} words, got {len(words)}")
    return Tensor(dtype, tuple(shape), tuple(values_from_words(dtype, words)))


def intermediate(name: str, value: Any, operation: str) -> list[float]:
    """Return intermediate values; the trust factor is a single word, the others are lists."""
    words = [value] if name == "trust" else value
    return values_from_words(operation, checked_words(name, words, FORMATS[operation].digits))


def checked_words(name: str, words: Any, digits: int) -> Sequence[str]:
    """Return a list of hexadecimal words, checked to have the given number of digits."""
    if not isinstance(words, list):
        raise ProtocolError(f"{name} must be a list of words, got {shortened(str(words))}")
    for word in words:
        if not (isinstance(word, str) and len(word) == digits and HEX.fullmatch(word)):
            raise ProtocolError(f"the words of {name} must have {digits} hexadecimal digits, got {word!r}")
    return words


def shortened(text: str) -> str:
    """Return a text for an error message, quoted and cut to the length of a line."""
    return repr(text if len(text) <= 120 else f"{text[:117]}...")
