"""Mutants of a module of layers: its source with one slip of the pen in a backward pass.

A slip drops an operand, a call, a mask or a sign, swaps operands or operators, changes a constant, flips a
flag or a comparison, takes one branch for the other, or detaches a product. Casts and annotations are left
alone: without them the formula is the same.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeGuard
from unittest import mock

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPARISONS = {"gt": "lt", "lt": "gt", "ge": "lt", "le": "gt", "ne": "eq"}
NOT_BACKWARD = {"forward", "setup_context", "jvp", "push"}
CASTS = {"widen", "to"}
LAYERS = "torch_backprop.layers"
TILE = 8
"""Elements of a tile in mutated modules: samples of tens of elements take the path of large tensors too."""


@dataclass(frozen=True)
class Shared:
    """A module without layers: the definitions that run in backward passes, and layers that use them."""

    roots: tuple[str, ...] = ()
    users: dict[str, tuple[str, ...]] = field(default_factory=dict)


SHARED = {
    "loss.reduction": Shared(
        ("spread", "sum_to"),
        {"loss.samples": (), "loss.regression": ("MSELoss", "L1Loss"), "loss.likelihood": ("NLLLoss",)},
    ),
    "loss.samples": Shared(
        ("Samples", "along_classes"),
        {"loss.likelihood": ("NLLLoss",), "loss.cross_entropy": ("CrossEntropyLoss",)},
    ),
    "elementwise": Shared(
        ("select", "keep", "steps", "exp_"),
        {
            "activation.smooth": ("Sigmoid", "ELU"),
            "activation.gated": ("Mish",),
            "activation.piecewise": ("ReLU", "Threshold", "LeakyReLU"),
            "loss.samples": (),
            "loss.cross_entropy": ("CrossEntropyLoss",),
        },
    ),
    "bits": Shared(("unpack",), {"dropout": ("Dropout", "AlphaDropout")}),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one module. ``owner`` is the top-level definition that holds it."""

    module: str
    owner: str
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.module.rpartition('.')[2]} {self.owner}: {self.change}"

    def users(self) -> dict[str, Any]:
        """What uses the changed definition, by name: functions and layers, and the SPECS of the layers."""
        layers = SHARED.get(self.module, Shared()).users
        sources = {self.module: self.source} | {module: source(module) for module in layers}
        names, found, specs = frozenset({self.owner}), {}, []
        with mock.patch.dict(sys.modules):
            for name, text in sources.items():
                names = _users(name, names)
                defined = self._executed(name, text)
                found |= {name: value for name, value in defined.items() if name in names}
                held = layers.get(name)
                specs += [s for s in defined.get("SPECS", ()) if held is None or s.layer.__name__ in held]
        return found | {"SPECS": specs}

    def _executed(self, name: str, text: str) -> dict[str, Any]:
        module = types.ModuleType(f"{LAYERS}.{name}")
        sys.modules[module.__name__] = module
        exec(compile(text, f"<{self}>", "exec"), vars(module))
        defined = vars(module)
        if "TILE" in defined:
            defined["TILE"] = TILE
        return defined


def source(module: str) -> str:
    """The source of the module of layers of this name."""
    return inspect.getsource(importlib.import_module(f"{LAYERS}.{module}"))


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of the module of layers of this name."""
    text = source(module)
    seen = Counter()
    for owner, part in _pullbacks(_definitions(ast.parse(text)), SHARED.get(module, Shared()).roots):
        for node in filter(_is_expression, _formulas(part)):
            for slip in _slips(node):
                change = f"{ast.unparse(node)} {'detached' if slip.endswith('.detach()') else f'-> {slip}'}"
                seen[owner, change] += 1
                repeated = seen[owner, change]
                label = change if repeated == 1 else f"{change} ({repeated})"
                yield Mutant(module, owner, label, _replaced(text, node, slip))


def _formulas(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what it holds, without annotations, and without the flag of a ``zip``."""
    yield node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            strict = isinstance(child, ast.keyword) and child.arg == "strict"
            if isinstance(child, ast.AST) and name not in ("annotation", "returns") and not strict:
                yield from _formulas(child)


def _is_expression(node: ast.AST) -> TypeGuard[ast.expr]:
    return isinstance(node, ast.expr)


def _replaced(source: str, node: ast.expr, slip: str) -> str:
    lines = source.splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: (node.end_lineno or 0) - 1])) + (node.end_col_offset or 0)
    return f"{source[:start]}({slip}){source[end:]}"


def _slips(node: ast.AST) -> Iterator[str]:
    """What may stand in the place of an expression by a slip."""
    for slip in _slips_of(node):
        yield slip if isinstance(slip, str) else ast.unparse(slip)


def _slips_of(node: ast.AST) -> Iterator[ast.expr | str]:
    match node:
        case ast.BinOp(left, operator, right):
            yield from _slips_of_operator(left, operator, right)
        case ast.UnaryOp(ast.USub(), operand):
            yield operand
        case ast.IfExp(_, body, orelse):
            yield from (body, orelse)
        case ast.Constant(bool(value)):
            yield str(not value)
        case ast.Constant(int(value) | float(value)):
            yield str(value + 1)
        case ast.Attribute(ast.Name("torch"), name) if name in COMPARISONS:
            yield f"torch.{COMPARISONS[name]}"
        case ast.Attribute(value, "mT"):
            yield value
        case ast.Compare(left, [ast.Gt()], [right]):
            yield ast.Compare(left, [ast.Lt()], [right])
        case ast.Call(function, arguments):
            yield from _slips_of_call(function, arguments)


def _slips_of_operator(left: ast.expr, operator: ast.operator, right: ast.expr) -> Iterator[ast.expr | str]:
    yield from (left, right)
    if swapped := OPERATORS.get(type(operator)):
        yield ast.BinOp(left, swapped(), right)
    if isinstance(operator, (ast.Sub, ast.Div, ast.MatMult)):
        yield ast.BinOp(right, operator, left)
    if isinstance(operator, ast.Mult):
        yield f"({ast.unparse(ast.BinOp(left, operator, right))}).detach()"


def _slips_of_call(function: ast.expr, arguments: list[ast.expr]) -> Iterator[ast.expr]:
    match function:
        case ast.Attribute(attr=name) | ast.Name(name) if name in CASTS:
            return
        case ast.Attribute(ast.Name("torch"), "where"):
            yield from arguments[1:]
        case ast.Name("select"):
            yield from arguments[:2]
        case ast.Attribute(ast.Name("torch" | "F" | "math")) | ast.Name():
            yield from (argument for argument in arguments[:1] if not isinstance(argument, ast.Starred))
        case ast.Attribute(value):
            yield value


def _definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        match node:
            case ast.ClassDef(name) | ast.FunctionDef(name) | ast.Assign([ast.Name(name)]):
                found[name] = node
    return found


def _pullbacks(definitions: dict[str, ast.stmt], roots: tuple[str, ...]) -> Iterator[tuple[str, ast.AST]]:
    """The code that runs in a backward pass: rules' own, the rows of tables, and the functions they call."""
    makers = {name for name, node in definitions.items() if _rules(node)}
    parts = {name: list(_backward_parts(node, makers)) for name, node in definitions.items()}
    reached = makers | {name for name, node in definitions.items() if name in roots or _is_rule(node, makers)}
    while more := {name for owner in reached for name in _names(*parts[owner]) if name in parts} - reached:
        reached |= more
    for name in definitions:
        if name in reached:
            yield from ((name, part) for part in parts[name])


def _is_rule(node: ast.stmt, makers: set[str]) -> bool:
    match node:
        case ast.Assign(value=ast.Call(ast.Name(name))):
            return name == "elementwise" or name in makers
        case ast.ClassDef():
            return any(getattr(method, "name", "") == "backward" for method in node.body)
    return False


def _rules(maker: ast.stmt) -> list[ast.stmt]:
    """The rules that a function makes, if it is one."""
    body = maker.body if isinstance(maker, ast.FunctionDef) else []
    return [node for node in body if isinstance(node, ast.ClassDef) and _is_rule(node, set())]


def _backward_parts(node: ast.stmt, makers: set[str]) -> Iterator[ast.AST]:
    match node:
        case ast.ClassDef():
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name not in NOT_BACKWARD:
                    yield from method.body
        case ast.FunctionDef(name) if name in makers:
            for rule in _rules(node):
                yield from _backward_parts(rule, makers)
        case ast.FunctionDef():
            yield from node.body
        case ast.Assign(value=ast.Call(ast.Name("elementwise"), [_, _, pullback, *_])):
            yield pullback
        case ast.Assign(value=ast.Call(ast.Name(name), arguments)) if name in makers:
            yield from (argument for argument in arguments if isinstance(argument, ast.Lambda))


@cache
def _users(module: str, used: frozenset[str]) -> frozenset[str]:
    """What is used, and what in the module uses it."""
    named = {name: _names(node) for name, node in _definitions(ast.parse(source(module))).items()}
    users = used
    while more := {name for name, names in named.items() if users & names} - users:
        users |= more
    return users


def _names(*nodes: ast.AST) -> set[str]:
    return {name.id for node in nodes for name in ast.walk(node) if isinstance(name, ast.Name)}
