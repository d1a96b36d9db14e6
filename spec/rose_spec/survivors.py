"""Which mutants of the oracle answer all vectors right."""

import builtins
import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from types import CodeType, FrameType, ModuleType
from typing import Any, Final

from rose_spec.mutation import MODULES, Mutant, mutants
from rose_spec.vectors import Vector, load_vectors

__all__ = ["Count", "count_mutants", "equivalents"]

# The modules of a mutated oracle: those that are mutated, and those between them. Each imports only earlier ones.
CHAIN: Final = ("floats", "noise", "summation", "oracle", "vectors", "replies", "validation", "trajectory")
# The seconds after which a mutant counts as caught: it does not answer.
LIMIT: Final = 10.0

# Tells whether the answer to a vector is right.
Answers = Callable[[Vector], bool]


@dataclass
class Count:
    """The numbers of mutants.

    Attributes
    ----------
    made, caught, equivalent : int
        All mutants, those that fail a vector, and the surviving ones that are recorded as equivalent.
    surviving : list of str
        The names of the other survivors.
    stale : list of str
        The names that are recorded as equivalent, but fail a vector or do not exist.
    """

    made: int = 0
    caught: int = 0
    equivalent: int = 0
    surviving: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the numbers in a sentence."""
        numbers = f"{self.caught} caught, {self.equivalent} equivalent, {len(self.surviving)} surviving"
        return f"{self.made} mutants of the oracle: {numbers}"


def count_mutants(modules: Sequence[str] = MODULES) -> Count:
    """Run all mutants of the modules against the vectors without digests, in this process."""
    vectors = [vector for vector in load_vectors() if vector.kind != "digest"]
    oracle = _Oracle()
    reached = _reached(oracle, vectors)
    reasons, count = equivalents(), Count()
    unseen = {name for name in reasons if name.partition(".")[0] in modules}
    for mutant in itertools.chain.from_iterable(map(mutants, modules)):
        count.made += 1
        is_caught = _is_caught(oracle, mutant, reached.get((mutant.module, mutant.function), []))
        names = {mutant.name, f"{mutant.module}.{mutant.function}"}
        unseen -= names
        if is_caught:
            count.caught += 1
            count.stale += sorted(names & set(reasons))
        elif names & set(reasons):
            count.equivalent += 1
        else:
            count.surviving.append(mutant.name)
    count.stale += sorted(unseen)
    return count


def equivalents() -> dict[str, str]:
    """Return the mutants that no vector can catch, each with the reason.

    The name of a function stands for all of its mutants.
    """
    content = json.loads((files("rose_spec") / "equivalent_mutants.json").read_text(encoding="utf-8"))
    return {name: reason for reason, names in content.items() for name in names}


class _Oracle:
    """The modules of the oracle, executed apart from the imported ones, with one of them replaced by a mutant."""

    def __init__(self) -> None:
        sources = {name: files("rose_spec") / f"{name}.py" for name in CHAIN}
        self.codes = {name: compile(file.read_bytes(), f"<{name}>", "exec") for name, file in sources.items()}
        self.modules = self.executed({}, CHAIN)

    def executed(self, modules: Mapping[str, ModuleType], names: Sequence[str]) -> dict[str, ModuleType]:
        """Return modules with some of them executed again, in order."""
        found = dict(modules)

        def load(name: str, *arguments: Any) -> Any:
            module = found.get(name.removeprefix("rose_spec."))
            return builtins.__import__(name, *arguments) if module is None else module

        for name in names:
            # The decorator of dataclasses finds the module of a class by its name, so the module must be imported.
            import_module(f"rose_spec.{name}")
            module = ModuleType(f"rose_spec.{name}")
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": load}
            exec(self.codes[name], module.__dict__)
            found[name] = module
        return found

    def mutated(self, name: str, code: CodeType) -> dict[str, ModuleType]:
        """Return the modules, one of them with the code of a mutant."""
        right: CodeType = self.codes[name]
        self.codes[name] = code
        try:
            return self.executed(self.modules, CHAIN[CHAIN.index(name) :])
        finally:
            self.codes[name] = right


def _is_caught(oracle: _Oracle, mutant: Mutant, vectors: Sequence[Vector]) -> bool:
    """Tell whether a mutant fails a vector, raises an error, or does not answer in time."""
    code = compile(mutant.tree, f"<{mutant.module}>", "exec")  # a mutant that does not compile is a fault of the kit
    try:
        with _time_limit(LIMIT):
            answers = _answers(oracle.mutated(mutant.module, code))
            return not all(map(answers, vectors))
    except Exception:  # a mutant may raise anything
        return True


def _answers(modules: Mapping[str, ModuleType]) -> Answers:
    """Return a function that tells whether the oracle of these modules answers a vector."""
    vectors, oracle, trajectory = (modules[name] for name in ("vectors", "oracle", "trajectory"))
    reason_to_refuse, noise_words = modules["validation"].reason_to_refuse, modules["noise"].noise_words

    def step(value: Any, expected: Any) -> bool:
        options = vectors.options_from_json(value["options"])
        param, grad = vectors.tensor_from_json(value["param"]), vectors.tensor_from_json(value["grad"])
        noise = [int(word, 16) for word in value["noise"]] if "noise" in value else None
        refused = reason_to_refuse(options, param, grad, noise) is not None
        if refused or "refused" in expected:
            return refused and "refused" in expected
        result = oracle.Rule(options).update(param, grad, noise).param
        return bool(vectors.tensor_to_json(result) == expected["param"])

    def noise(value: Any, expected: Any) -> bool:
        numbers = {name: int(value[name], 16) for name in ("seed", "step", "index")}
        return bool([f"{word:04x}" for word in noise_words(value["count"], **numbers)] == expected["words"])

    def steps(value: Any, expected: Any) -> bool:
        groups = trajectory.Trajectory(value).run(trajectory.update_by_oracle)
        return bool([[vectors.tensor_to_json(param) for param in params] for params in groups] == expected["params"])

    kinds = {"step": step, "refusal": step, "noise": noise, "trajectory": steps}
    return lambda vector: kinds[vector.kind](vector.input, vector.expected)


def _reached(oracle: _Oracle, vectors: Sequence[Vector]) -> dict[tuple[str, str | None], list[Vector]]:
    """Return the vectors that reach each function of the oracle, the quickest first; for None, all vectors."""
    answers = _answers(oracle.modules)
    found: dict[tuple[str, str | None], list[Vector]] = {}
    costs: dict[str, float] = {}
    for vector in vectors:
        started, functions = time.perf_counter(), set[tuple[str, str | None]]()
        with _profile(functions):
            assert answers(vector), vector.id
        costs[vector.id] = time.perf_counter() - started
        for function in (*functions, *((module, None) for module in MODULES)):
            found.setdefault(function, []).append(vector)
    return {function: sorted(some, key=lambda vector: costs[vector.id]) for function, some in found.items()}


@contextmanager
def _profile(functions: set[tuple[str, str | None]]) -> Iterator[None]:
    """Add the functions of the oracle that are called."""

    def add(frame: FrameType, event: str, argument: Any) -> None:  # noqa: ARG001  (the signature of a profiler)
        if event == "call" and frame.f_code.co_filename.startswith("<"):
            functions.add((frame.f_code.co_filename.strip("<>"), _outermost(frame)))

    sys.setprofile(add)
    try:
        yield
    finally:
        sys.setprofile(None)


def _outermost(frame: FrameType) -> str:
    """Return the qualified name of the function of a frame, or of the function around it."""
    owner = frame.f_locals.get("self", frame.f_locals.get("cls"))
    name = frame.f_code.co_name
    if owner is None:
        return name
    for base in (owner if isinstance(owner, type) else type(owner)).__mro__:
        if name in vars(base):
            return f"{base.__name__}.{name}"
    return name


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after some seconds, if this is the main thread of a POSIX system."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
