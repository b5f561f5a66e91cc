"""Mutants of a module of layers: its source with one slip of the pen in a backward pass.

A slip drops an operand, a call, a mask or a sign, swaps operands or operators, changes a constant, flips a
flag or a comparison, takes one branch for the other, or detaches a product. Casts are left alone: without
them the formula is the same.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPARISONS = {"gt": "lt", "lt": "gt", "ge": "lt", "le": "gt", "ne": "eq"}
NOT_BACKWARD = {"forward", "setup_context", "jvp", "push"}
CASTS = {"widen", "to"}


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
        """What uses the changed definition, by name: functions and layers of the mutated module."""
        module = types.ModuleType(self.module)
        exec(compile(self.source, f"<{self}>", "exec"), vars(module))
        names = _users(_definitions(ast.parse(self.source)), self.owner)
        return {name: vars(module)[name] for name in names}


def mutants(name: str) -> Iterator[Mutant]:
    """Every mutant of the module of this name."""
    source = inspect.getsource(importlib.import_module(name))
    seen = Counter()
    for owner, part in _pullbacks(_definitions(ast.parse(source))):
        for node in filter(_is_expression, ast.walk(part)):
            for slip in _slips(node):
                change = f"{ast.unparse(node)} {'detached' if slip.endswith('.detach()') else f'-> {slip}'}"
                seen[owner, change] += 1
                repeated = seen[owner, change]
                label = change if repeated == 1 else f"{change} ({repeated})"
                yield Mutant(name, owner, label, _replaced(source, node, slip))


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


def _pullbacks(definitions: dict[str, ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """The code that runs in a backward pass: rules' own, the rows of tables, and the functions they call."""
    parts = {name: list(_backward_parts(node)) for name, node in definitions.items()}
    reached = {name for name, node in definitions.items() if _is_rule(node)}
    while more := {name for owner in reached for name in _names(*parts[owner]) if name in parts} - reached:
        reached |= more
    for name in definitions:
        if name in reached:
            yield from ((name, part) for part in parts[name])


def _is_rule(node: ast.stmt) -> bool:
    match node:
        case ast.Assign(value=ast.Call(ast.Name("elementwise"))):
            return True
        case ast.ClassDef():
            return any(getattr(method, "name", "") == "backward" for method in node.body)
    return False


def _backward_parts(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.ClassDef():
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name not in NOT_BACKWARD:
                    yield from method.body
        case ast.FunctionDef():
            yield from node.body
        case ast.Assign(value=ast.Call(ast.Name("elementwise"), [_, _, pullback, *_])):
            yield pullback


def _users(definitions: dict[str, ast.stmt], owner: str) -> set[str]:
    users = {owner}
    while more := {name for name, node in definitions.items() if users & _names(node)} - users:
        users |= more
    return users


def _names(*nodes: ast.AST) -> set[str]:
    return {name.id for node in nodes for name in ast.walk(node) if isinstance(name, ast.Name)}
