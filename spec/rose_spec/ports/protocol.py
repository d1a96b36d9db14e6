"""The line protocol: requests and replies as single lines of JSON or of plain text.

A request never has expected values. Every function that reads a reply raises `ProtocolError` with the problem, the
value, and the allowed values.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal
from urllib.parse import quote

from rose_spec.arrays import hex_words, values_from_words
from rose_spec.floats import FORMATS
from rose_spec.oracle import Tensor
from rose_spec.ports.port import ProtocolError, printable
from rose_spec.replies import Answer, NoiseRequest, Refused, Reply, Request, Unsupported, Words

__all__ = ["Dialect", "read_reply", "reply_id", "reply_limit", "shortened", "write_request"]

Dialect = Literal["json", "text"]

ANSWERS: Final = ("param", "words", "refused", "unsupported")
INTERMEDIATES: Final = ("mean", "range", "denominator", "trust")
HEX: Final = re.compile(r"[0-9a-fA-F]+")
MAX_RANK: Final = 64
MAX_LENGTH: Final = 2**63 - 1


def write_request(request: Request, dialect: Dialect) -> str:
    """Return a request as a line, without its end."""
    return json_request(request) if dialect == "json" else text_request(request)


def reply_limit(request: Request, text: str) -> int:
    """Return the largest number of bytes of a reply; `text` is the request as a line.

    Each word of a parameter may come with the words of three intermediate values, and with a few blanks.
    """
    count = request.count if isinstance(request, NoiseRequest) else 0
    return 2**20 + 8 * len(text) + 16 * count


def read_reply(line: str, request: Request, operation: str, dialect: Dialect) -> Reply:
    """Return the reply in a line with a checked id; `operation` is the dtype of its intermediate values."""
    fields = json_fields(line) if dialect == "json" else text_fields(line, request.id)
    fields.pop("id", None)
    kinds = [name for name in ANSWERS if name in fields]
    if len(kinds) != 1:
        raise ProtocolError(f"a reply must have one of {', '.join(ANSWERS)}; got {listed(fields)}")
    allowed = {kinds[0], *(INTERMEDIATES if kinds[0] == "param" else ())}
    if unknown := sorted(set(fields) - allowed):
        raise ProtocolError(f"a reply with {kinds[0]} may not have {listed(unknown)}")
    if kinds[0] in ("refused", "unsupported"):
        reason = fields[kinds[0]]
        if not isinstance(reason, str):
            raise ProtocolError(f"{kinds[0]} must be the reason, a string; got {shortened(reason)}")
        reason = printable(reason)
        return Refused(reason) if kinds[0] == "refused" else Unsupported(reason)
    if kinds[0] == "words" and isinstance(request, NoiseRequest):
        return Words([int(word, 16) for word in checked_words("words", fields["words"], 4)[: request.count + 1]])
    if kinds[0] == "words" or isinstance(request, NoiseRequest):
        raise ProtocolError(f"the request was for {'a step' if kinds[0] == 'words' else 'noise'}, got {kinds[0]}")
    # An answer of another size is wrong, whatever its values, so that they are not kept.
    param, count = tensor(fields["param"]), len(request.param.values)
    if len(param.values) > count:
        param = replace(param, values=())
    names = [name for name in INTERMEDIATES if name in fields]
    return Answer(param, {name: intermediate(name, fields[name], operation)[: count + 1] for name in names})


def reply_id(line: str, dialect: Dialect, expected: str = "") -> str:
    """Return the id of a reply; the expected id tells whether a line has the other format."""
    if dialect == "text":
        if line.startswith("{"):
            raise ProtocolError(f"a reply must be text, got {shortened(line)}; --format json reads JSON")
        return line.partition(" ")[0]
    if expected and line.startswith(f"{expected} "):
        raise ProtocolError(f"a reply must be a JSON object, got {shortened(line)}; --format text reads text")
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
    """Return the fields of a JSON reply, without those that are null."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError(f"a reply must be a JSON object on one line, got {shortened(line)}") from None
    if not isinstance(fields, dict):
        raise ProtocolError(f"a reply must be a JSON object on one line, got {shortened(line)}")
    return {name: value for name, value in fields.items() if value is not None}


def text_fields(line: str, identity: str) -> dict[str, Any]:
    """Return the fields of a text reply with this id in the form of JSON."""
    rest = line[len(identity) + 1 :]
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
    if len(parts) != 3 or not all(length.isascii() and length.isdigit() and len(length) < 20 for length in lengths):
        raise ProtocolError(f"param must be dtype:lengths:words, got {shortened(value)}")
    words = parts[2].split(",") if parts[2] else []
    return {"dtype": parts[0], "shape": [int(length) for length in lengths], "words": words}


def tensor(value: Any) -> Tensor:
    """Return the array of a reply, checked."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "words"}:
        raise ProtocolError(f"param must have dtype, shape and words, got {shortened(value)}")
    dtype, shape = value["dtype"], value["shape"]
    if dtype not in tuple(FORMATS):
        raise ProtocolError(f"the dtype of param must be one of {', '.join(FORMATS)}; got {shortened(dtype)}")
    is_shape = isinstance(shape, list) and all(type(n) is int and 0 <= n <= MAX_LENGTH for n in shape)
    if not (is_shape and len(shape) <= MAX_RANK):
        raise ProtocolError(f"the shape of param must be a list of at most {MAX_RANK} lengths, got {shortened(shape)}")
    words = checked_words("param", value["words"], FORMATS[dtype].digits)
    if len(words) != math.prod(shape):
        raise ProtocolError(f"param of shape {shape} must have {math.prod(shape)} words, got {len(words)}")
    return Tensor(dtype, tuple(shape), tuple(values_from_words(dtype, words)))


def intermediate(name: str, value: Any, operation: str) -> list[float]:
    """Return intermediate values; the trust factor is a single word, the others are lists.

    A port with another operation dtype than the right one may send the words of its dtype.
    """
    words = [value] if name == "trust" else value
    other = "float32" if operation == "float64" else "float64"
    if isinstance(words, list) and words and {len(w) for w in words if isinstance(w, str)} == {FORMATS[other].digits}:
        operation = other
    return values_from_words(operation, checked_words(name, words, FORMATS[operation].digits))


def checked_words(name: str, words: Any, digits: int) -> Sequence[str]:
    """Return a list of hexadecimal words, checked to have the given number of digits."""
    if not isinstance(words, list):
        raise ProtocolError(f"{name} must be a list of words, got {shortened(words)}")
    for word in words:
        if not (isinstance(word, str) and len(word) == digits and HEX.fullmatch(word)):
            raise ProtocolError(f"the words of {name} must have {digits} hexadecimal digits, got {shortened(word)}")
    return words


def listed(names: Iterable[str]) -> str:
    """Return names of fields for an error message."""
    shown = list(names)
    rest = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return printable(", ".join(name[:40] for name in shown[:8]) or "none") + rest


def shortened(value: object) -> str:
    """Return a value for an error message, quoted and cut to the length of a line."""
    try:
        text = str(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of too many digits
        text = f"a {type(value).__name__}"
    return repr(text if len(text) <= 120 else f"{text[:117]}...")
