"""The linter of the vector files: the JSON schema, and the rules that a schema cannot express."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from itertools import chain
from typing import Any, Final

from jsonschema import Draft202012Validator

from rose_spec.floats import FORMATS
from rose_spec.generate import render
from rose_spec.vectors import REVISIONS

__all__ = ["clause_ids", "lint", "lint_contents"]

SIZE_LIMIT: Final = 1_000_000  # bytes of all files in the folder `vectors`

Contents = Mapping[str, Any]


def lint() -> list[str]:
    """Check all vector files.

    Returns
    -------
    list of str
        The problems, each with the name of the file and the id of the vector.
    """
    problems: list[str] = []
    total = sum(_sizes(files("rose_spec") / "vectors"))
    if total > SIZE_LIMIT:
        problems.append(f"vectors: {total} bytes in all; {SIZE_LIMIT} are allowed")
    for revision, folder_name in REVISIONS.items():
        problems += _revision_problems(revision, folder_name)
    return problems


def _revision_problems(revision: str, folder_name: str) -> Iterator[str]:
    """Yield the problems of a revision's files."""
    folder = files("rose_spec") / "vectors" / folder_name
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".json")) if folder.is_dir() else []
    texts = {f"{folder_name}/{name}": (folder / name).read_text() for name in names}
    contents = {name: json.loads(text) for name, text in texts.items()}
    for name, content in contents.items():
        yield from (f"{name}: {problem}" for problem in lint_contents(content, revision=revision))
        if texts[name] != render(content):
            yield f"{name}: differs from the form that the generate command writes"
    yield from _duplicates(contents)


def lint_contents(content: Contents, *, revision: str = "1.0.2") -> list[str]:
    """Check the contents of one file.

    Parameters
    ----------
    content : mapping
        The file as JSON.
    revision : str
        The revision that the file must have.

    Returns
    -------
    list of str
        The problems that the schema finds. If there are none, the problems that a schema cannot find.
    """
    errors = sorted(Draft202012Validator(_schema()).iter_errors(content), key=lambda error: list(map(str, error.path)))
    if errors:
        return [f"{_location(content, list(error.absolute_path))}: {error.message}" for error in errors]
    problems = [] if content["revision"] == revision else [f"revision is {content['revision']}, not {revision}"]
    problems += _flag_problems(content)
    for vector in content["vectors"]:
        problems += [f"{vector['id']}: {problem}" for problem in _vector_problems(vector, revision)]
    return problems


def clause_ids() -> list[str]:
    """Return the ids of all clauses of SPEC.md, from the kit's copy of the list."""
    return list(json.loads((files("rose_spec") / "clauses.json").read_text()))


def _schema() -> dict[str, Any]:
    """Return the JSON schema of a file."""
    return dict(json.loads((files("rose_spec") / "schema.json").read_text()))


def _sizes(folder: Any) -> Iterator[int]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sizes(entry)
        else:
            yield len(entry.read_bytes())


def _location(content: Contents, path: list[Any]) -> str:
    """Return the location of an error, beginning with the id of the vector."""
    if len(path) >= 2 and path[0] == "vectors" and isinstance(content["vectors"][path[1]], dict):
        name = content["vectors"][path[1]].get("id", f"vector {path[1]}")
        return "/".join([str(name), *map(str, path[2:])])
    return "/".join(map(str, path)) or "the file"


def _flag_problems(content: Contents) -> Iterator[str]:
    used = {flag for vector in content["vectors"] for flag in vector["flags"]}
    for flag in sorted(used ^ set(content["notes"])):
        yield f'flag "{flag}" is ' + ("not explained in notes" if flag in used else "in notes, but no vector has it")


def _duplicates(contents: Mapping[str, Contents]) -> Iterator[str]:
    """Yield ids and questions that a revision has more than once, and ids without the name of their file."""
    vectors = [(name, vector) for name, content in contents.items() for vector in content.get("vectors", [])]
    for name, vector in vectors:
        stem = name.rpartition("/")[2].removesuffix(".json")
        if not str(vector.get("id")).startswith(f"{stem}-"):
            yield f'{name}: id "{vector.get("id")}" does not begin with the name of its file, "{stem}-"'
    for key in ("id", "input"):
        values = Counter(json.dumps(vector.get(key), sort_keys=True) for _, vector in vectors)
        for value, count in values.items():
            if count > 1:
                ids = [vector["id"] for _, vector in vectors if json.dumps(vector.get(key), sort_keys=True) == value]
                yield f"{count} vectors have the same {key}: {', '.join(ids)}"


def _vector_problems(vector: Contents, revision: str) -> Iterator[str]:
    if revision == "1.0.2":
        for clause in sorted(set(vector["clauses"]) - set(clause_ids())):
            yield f"clause {clause} is not in SPEC.md"
    for path, tensor in _tensors(vector):
        yield from (f"{path}: {problem}" for problem in _tensor_problems(tensor, path.startswith("expected")))
    yield from _KIND_PROBLEMS[vector["kind"]](vector)


def _tensors(vector: Contents, parent: str = "") -> Iterator[tuple[str, Contents]]:
    """Yield the path of every array in a vector, and the array."""
    for key, value in vector.items() if isinstance(vector, Mapping) else enumerate(vector):
        path = f"{parent}/{key}" if parent else str(key)
        if isinstance(value, Mapping) and "words" in value and "dtype" in value:
            yield path, value
        elif isinstance(value, Mapping | list):
            yield from _tensors(value, path)  # type: ignore[arg-type]


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
        yield "the dtype or shape of the answer differs from that of the parameter"
    if question["grad"]["shape"] != param["shape"]:
        yield f"the gradient has shape {question['grad']['shape']}, the parameter {param['shape']}"
    yield from _count_problems(param, answer)


def _count_problems(param: Contents, answer: Contents) -> Iterator[str]:
    """Yield the intermediate values whose number is wrong."""
    slices = param["shape"][0] if len(param["shape"]) > 1 else 1
    for name in ("mean", "range", "denominator"):
        # In revision 1.0.0 a column has one common range (ROSE-A.4).
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
            yield f"step {number} has a different number of gradients than of parameters"
        pairs = zip(chain(*step["grads"]), chain(*groups), strict=False)
        if any(grad is not None and grad["shape"] != shape for grad, shape in pairs):
            yield f"step {number} has a gradient whose shape differs from that of its parameter"
    if [[param["shape"] for param in params] for params in vector["expected"]["params"]] != groups:
        yield "the shapes of the answer differ from those of the parameters"


def _noise_problems(vector: Contents) -> Iterator[str]:
    if len(vector["expected"]["words"]) != vector["input"]["count"]:
        yield f"{len(vector['expected']['words'])} words for a count of {vector['input']['count']}"


_KIND_PROBLEMS: Final[Mapping[str, Callable[[Contents], Iterator[str]]]] = {
    "step": _step_problems,
    "refusal": _step_problems,
    "trajectory": _trajectory_problems,
    "noise": _noise_problems,
    "digest": lambda vector: iter(()),  # noqa: ARG005  (one signature for all kinds)
}
