"""Mutants of the oracle: for each, one comparison, bound, constant, branch or operation of its source is changed.

A mutant stands for a wrong port. A mutant whose answers to all vectors are right survives: it shows a vector that is
missing, or it is equivalent to the oracle.
"""

import ast
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

__all__ = ["MODULES", "Mutant", "mutants"]

# The modules of the oracle that are mutated. Each one imports only modules before it.
MODULES: Final = ("floats", "noise", "summation", "oracle", "validation", "trajectory")

COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATIONS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitOr,
}
NAMES: Final = {"min": "max", "any": "all", "add": "sub", "mul": "div", "FLOAT64": "FLOAT32", "FLOAT16": "BFLOAT16"}
OTHERS: Final = {**NAMES, **{second: first for first, second in NAMES.items()}}
ATTRIBUTES: Final = {"isnan": "isinf", "isinf": "isnan", "isfinite": "isnan", "operation": "compute"}
# Calls that are replaced by their first argument, such as `self.rc(value)`.
DROPPED: Final = frozenset({"abs", "cast", "copysign", "load", "rc", "sign", "sqrt", "to_compute", "to_operation"})


@dataclass(frozen=True)
class Mutant:
    """A changed module of the oracle.

    Attributes
    ----------
    name : str
        The place and the change; unique.
    module : str
        The name of the module.
    function : str or None
        The method or function that is changed, qualified. None outside of all functions.
    tree : ast.Module
        The source. It is valid only until the next mutant is drawn.
    """

    name: str
    module: str
    function: str | None
    tree: ast.Module


@dataclass(frozen=True)
class _Place:
    """A node of the tree, and where it is."""

    parent: ast.AST
    field: str
    index: int | None
    function: str | None

    def put(self, node: Any) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants(module: str) -> Iterator[Mutant]:
    """Yield all mutants of a module of the oracle."""
    tree = ast.parse((files("rose_spec") / f"{module}.py").read_text(encoding="utf-8"))
    names: Counter[str] = Counter()
    for place, node in list(_places(tree, None, "")):
        for changed in _changes(node):
            before, after = (ast.unparse(one).partition("\n")[0] for one in (node, changed))  # without a body
            name = f"{module}.{place.function or 'module'}: {before} -> {after}"
            names[name] += 1
            ast.fix_missing_locations(ast.copy_location(changed, node))
            place.put(changed)
            yield Mutant(f"{name} ({names[name]})" if names[name] > 1 else name, module, place.function, tree)
            place.put(node)


def _places(node: ast.AST, function: str | None, prefix: str) -> Iterator[tuple[_Place, ast.AST]]:
    """Yield the nodes that may be changed: no annotations, docstrings, decorators, imports and messages."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        prefix = f"{prefix}{node.name}."
        if isinstance(node, ast.FunctionDef) and function is None and not _is_cached(node):
            function = prefix[:-1]
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases", "ctx", "ops"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _has_no_effect(child):
                continue
            # A default is evaluated outside of its function.
            inside = None if isinstance(node, ast.arguments) else function
            yield _Place(node, field, index, inside), child
            yield from _places(child, inside if isinstance(node, ast.arguments) else function, prefix)


def _is_cached(node: ast.FunctionDef) -> bool:
    """Tell whether a function is called only once, for all answers."""
    return any(isinstance(part, ast.Name) and part.id == "cached_property" for part in node.decorator_list)


def _has_no_effect(node: ast.AST) -> bool:
    """Tell whether a node has no effect on answers: docstrings, names, imports, messages, ..."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    if isinstance(node, ast.keyword):
        return node.arg == "strict"
    if isinstance(node, ast.If):  # the arithmetic of the machine, which the oracle does not use
        return "by_machine(" in ast.unparse(node.test)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Raise)


def _changes(node: ast.AST) -> Iterator[Any]:
    """Yield the changed forms of a node."""
    yield from _other_conditions(node)
    yield from _other_operations(node)
    yield from _other_values(node)


def _other_conditions(node: ast.AST) -> Iterator[Any]:
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                for other in COMPARISONS[type(op)]:
                    yield ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1 :]], node.comparators)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            yield from node.values
        case ast.If():
            for value in (True, False):
                yield ast.If(ast.Constant(value), node.body, node.orelse)
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.comprehension(ifs=[_, *_]):
            yield ast.comprehension(node.target, node.iter, [], node.is_async)


def _other_operations(node: ast.AST) -> Iterator[Any]:
    match node:
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.BinOp():
            yield ast.BinOp(node.left, OPERATIONS[type(node.op)](), node.right)
        case ast.AugAssign():
            yield ast.AugAssign(node.target, OPERATIONS[type(node.op)](), node.value)
            yield ast.Pass()
        case ast.Expr():
            yield ast.Pass()
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in DROPPED and node.args:
            yield node.args[0]


def _other_values(node: ast.AST) -> Iterator[Any]:
    match node:
        case ast.Constant():
            yield from (ast.Constant(value) for value in _constants(node.value))
        case ast.Name(id=name) if name in OTHERS and isinstance(node.ctx, ast.Load):
            yield ast.Name(OTHERS[name], node.ctx)
        case ast.Attribute(attr=name) if name in ATTRIBUTES and isinstance(node.ctx, ast.Load):
            yield ast.Attribute(node.value, ATTRIBUTES[name], node.ctx)


def _constants(value: Any) -> Iterator[Any]:
    """Yield the changed values of a constant."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, float):
        yield from (2.0 * value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf)) if value else (1.0,)
    elif isinstance(value, str):
        yield f"{value}?"
