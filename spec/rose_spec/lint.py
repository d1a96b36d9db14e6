"""The strict check of the vectors' files: what the schema says, and what a schema cannot say."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from itertools import chain
from typing import Any, Final

from jsonschema import Draft202012Validator

from rose_spec.floats import FORMATS
from rose_spec.generate import rendered
from rose_spec.vectors import REVISIONS

__all__ = ["SIZE_LIMIT", "clause_ids", "lint", "lint_contents", "schema"]

SIZE_LIMIT: Final = 1_000_000  # bytes of all files in `vectors`

Contents = Mapping[str, Any]


def lint() -> list[str]:
    """Check all files of vectors.

    Returns
    -------
    list of str
        What is wrong, each with the file and the vector; empty where nothing is.
    """
    problems: list[str] = []
    total = sum(_sizes(files("rose_spec") / "vectors"))
    if total > SIZE_LIMIT:
        problems.append(f"vectors: {total} bytes in all; allowed are {SIZE_LIMIT}")
    for revision, folder_name in REVISIONS.items():
        folder = files("rose_spec") / "vectors" / folder_name
        names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".json")) if folder.is_dir() else []
        texts = {f"{folder_name}/{name}": (folder / name).read_text() for name in names}
        contents = {name: json.loads(text) for name, text in texts.items()}
        for name, content in contents.items():
            problems += [f"{name}: {problem}" for problem in lint_contents(content, revision=revision)]
            if texts[name] != rendered(content):
                problems.append(f"{name}: not written as `generate` writes it")
        problems += _repeated(contents)
    return problems


def lint_contents(content: Contents, *, revision: str = "1.0.2") -> list[str]:
    """Check one file.

    Parameters
    ----------
    content : mapping
        The file, as JSON has it.
    revision : str
        The revision of the rule that it must be of.

    Returns
    -------
    list of str
        What is wrong. What only a valid file can be asked is asked if the schema finds nothing.
    """
    errors = sorted(Draft202012Validator(schema()).iter_errors(content), key=lambda error: list(map(str, error.path)))
    if errors:
        return [f"{_place(content, list(error.absolute_path))}: {error.message}" for error in errors]
    problems = [] if content["revision"] == revision else [f"revision is {content['revision']}, not {revision}"]
    problems += _flag_problems(content)
    for vector in content["vectors"]:
        problems += [f"{vector['id']}: {problem}" for problem in _vector_problems(vector, revision)]
    return problems


def schema() -> dict[str, Any]:
    """Return the JSON schema of a file."""
    return dict(json.loads((files("rose_spec") / "schema.json").read_text()))


def clause_ids() -> list[str]:
    """Return the numbers of all clauses of SPEC.md, as the kit carries them."""
    return list(json.loads((files("rose_spec") / "clauses.json").read_text()))


def _sizes(folder: Any) -> Iterator[int]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sizes(entry)
        else:
            yield len(entry.read_bytes())


def _place(content: Contents, path: list[Any]) -> str:
    """Return where an error is, by the id of the vector."""
    if len(path) >= 2 and path[0] == "vectors" and isinstance(content["vectors"][path[1]], dict):
        name = content["vectors"][path[1]].get("id", f"vector {path[1]}")
        return "/".join([str(name), *map(str, path[2:])])
    return "/".join(map(str, path)) or "the file"


def _flag_problems(content: Contents) -> Iterator[str]:
    used = {flag for vector in content["vectors"] for flag in vector["flags"]}
    for flag in sorted(used ^ set(content["notes"])):
        yield f'flag "{flag}" is ' + ("not explained in notes" if flag in used else "in notes, but no vector has it")


def _repeated(contents: Mapping[str, Contents]) -> Iterator[str]:
    """Yield ids and questions that stand in a revision's files more than once."""
    vectors = [(name, vector) for name, content in contents.items() for vector in content.get("vectors", [])]
    for name, vector in vectors:
        stem = name.rpartition("/")[2].removesuffix(".json")
        if not str(vector.get("id")).startswith(f"{stem}-"):
            yield f'{name}: id "{vector.get("id")}" does not begin with the name of its file, "{stem}-"'
    for key, what in (("id", "id"), ("input", "input")):
        values = Counter(json.dumps(vector.get(key), sort_keys=True) for _, vector in vectors)
        for value, count in values.items():
            if count > 1:
                ids = [vector["id"] for _, vector in vectors if json.dumps(vector.get(key), sort_keys=True) == value]
                yield f"{count} vectors have the same {what}: {', '.join(ids)}"


def _vector_problems(vector: Contents, revision: str) -> Iterator[str]:
    if revision == "1.0.2":
        for clause in sorted(set(vector["clauses"]) - set(clause_ids())):
            yield f"clause {clause} is not in SPEC.md"
    for place, tensor in _tensors(vector):
        yield from (f"{place}: {problem}" for problem in _tensor_problems(tensor, place.startswith("expected")))
    yield from _KIND_PROBLEMS[vector["kind"]](vector)


def _tensors(vector: Contents, place: str = "") -> Iterator[tuple[str, Contents]]:
    """Yield every array in a vector with its place."""
    for key, value in vector.items() if isinstance(vector, Mapping) else enumerate(vector):
        where = f"{place}/{key}" if place else str(key)
        if isinstance(value, Mapping) and "words" in value and "dtype" in value:
            yield where, value
        elif isinstance(value, Mapping | list):
            yield from _tensors(value, where)  # type: ignore[arg-type]


def _tensor_problems(tensor: Contents, is_answer: bool) -> Iterator[str]:
    count = math.prod(tensor["shape"])
    if len(tensor["words"]) != count:
        yield f"{len(tensor['words'])} words for shape {tensor['shape']}, which has {count} elements"
    form = FORMATS[tensor["dtype"]]
    nan = f"{form.encode(math.nan):0{form.digits}x}"
    for word in tensor["words"] if is_answer else ():
        if word != nan and math.isnan(form.decode(int(word, 16))):
            yield f"the NaN {word}; an answer has {nan}"


def _step_problems(vector: Contents) -> Iterator[str]:
    question, answer = vector["input"], vector["expected"]
    param = question["param"]
    if len(question.get("noise", param["words"])) != len(param["words"]):
        yield f"{len(question['noise'])} words of noise for {len(param['words'])} elements"
    if "param" not in answer:
        return
    if (answer["param"]["dtype"], answer["param"]["shape"]) != (param["dtype"], param["shape"]):
        yield "the answer has another dtype or shape than the parameter"
    if question["grad"]["shape"] != param["shape"]:
        yield f"the gradient has shape {question['grad']['shape']}, the parameter {param['shape']}"
    yield from _count_problems(param, answer)


def _count_problems(param: Contents, answer: Contents) -> Iterator[str]:
    """Yield what is wrong with the number of intermediate values."""
    slices = param["shape"][0] if len(param["shape"]) > 1 else 1
    for name in ("mean", "range", "denominator"):
        # In revision 1.0.0 a column is one slice (ROSE-A.4).
        if (
            name in answer
            and len(answer[name]) != slices
            and not (len(answer[name]) == 1 and set(param["shape"][1:]) == {1})
        ):
            yield f"{len(answer[name])} values of {name} for {slices} slices"


def _trajectory_problems(vector: Contents) -> Iterator[str]:
    groups = [[param["shape"] for param in group["params"]] for group in vector["input"]["groups"]]
    for number, step in enumerate(vector["input"]["steps"]):
        if len(step["lr"]) != len(groups):
            yield f"step {number} has {len(step['lr'])} learning rates for {len(groups)} groups"
        if [len(grads) for grads in step["grads"]] != [len(shapes) for shapes in groups]:
            yield f"step {number} has other numbers of gradients than there are parameters"
        pairs = zip(chain(*step["grads"]), chain(*groups), strict=False)
        if any(grad is not None and grad["shape"] != shape for grad, shape in pairs):
            yield f"step {number} has a gradient of another shape than its parameter"
    if [[param["shape"] for param in params] for params in vector["expected"]["params"]] != groups:
        yield "the answer has other shapes than the parameters"


def _noise_problems(vector: Contents) -> Iterator[str]:
    if len(vector["expected"]["words"]) != vector["input"]["count"]:
        yield f"{len(vector['expected']['words'])} words for a count of {vector['input']['count']}"


def _no_problems(vector: Contents) -> Iterator[str]:  # noqa: ARG001  (one signature for all kinds)
    return iter(())


_KIND_PROBLEMS: Final[Mapping[str, Callable[[Contents], Iterator[str]]]] = {
    "step": _step_problems,
    "refusal": _step_problems,
    "trajectory": _trajectory_problems,
    "noise": _noise_problems,
    "digest": _no_problems,
}
