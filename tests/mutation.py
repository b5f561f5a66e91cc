"""Mutants of the layers: a function that runs in a backward pass, with one slip of the pen in it.

A slip drops an operand, a call, a mask or a sign, swaps operands or operators, changes a constant, turns a
comparison round, or detaches a product. Casts and annotations are left alone: without them the formula is
the same.

The slip is made in the code of the living function, so that every layer that uses it has it at once.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import pkgutil
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType

from torch_backprop import layers

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPARISONS = {"gt": "lt", "lt": "gt", "ge": "lt", "le": "gt", "ne": "eq"}
NOT_BACKWARD = {"forward", "setup_context", "jvp", "push"}
CASTS = {"widen", "to"}
NESTED = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
TILE = 8
"""Elements of a tile while mutants are tried."""
TAKEN = 16
"""One mutant of so many is tried, chosen by its name, so that an edit elsewhere chooses no others."""

Key = tuple[str, str, int, bytes]
"""A function's code, however often it was made."""
Line = tuple[Key, int]
"""A line that runs, of a function."""


@dataclass(frozen=True)
class Mutant:
    """One change of one line of a module. ``owner`` is the top-level definition that holds it."""

    module: str
    line: int
    owner: str
    change: str
    source: str

    def __str__(self) -> str:
        return f"{self.module.rpartition('.')[2]} {self.owner}: {self.change}"

    @cached_property
    def functions(self) -> dict[Key, CodeType]:
        """The code of every function that the change is in, and what it becomes."""
        return {
            key(a): b
            for a, b in zip(_codes(self.module), _codes(self.module, self.source), strict=True)
            if a != b
        }

    def runs(self, running: frozenset[Key]) -> bool:
        """Whether one of its functions is among those that run."""
        return not running.isdisjoint(self.functions)

    def is_in(self, running: frozenset[Line]) -> bool:
        """Whether its line is among those that run."""
        return any((function, self.line) in running for function in self.functions)

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Within, the layers have the slip."""
        changed = [(function, code) for k, code in self.functions.items() for function in living()[k]]
        assert changed, f"{self}: no such function is alive"
        before = [function.__code__ for function, _ in changed]
        try:
            for function, code in changed:
                function.__code__ = code
            yield
        finally:
            for (function, _), code in zip(changed, before, strict=True):
                function.__code__ = code


def modules() -> list[str]:
    """The names of all modules of layers."""
    found = pkgutil.walk_packages(layers.__path__, f"{layers.__name__}.")
    return [found.name.removeprefix(f"{layers.__name__}.") for found in found if not found.ispkg]


def key(code: CodeType) -> Key:
    """What tells a function from every other: its file, name and line, and of lambdas the columns, too."""
    # not its instructions: pytest writes those of an assertion anew
    columns = code.co_linetable if code.co_name == "<lambda>" else b""
    return code.co_filename, code.co_name, code.co_firstlineno, columns


@cache
def living() -> dict[Key, list[FunctionType]]:
    """The functions of the layers that are alive, by their code."""
    found: dict[Key, list[FunctionType]] = defaultdict(list)
    # what is frozen is on no list
    gc.unfreeze()
    for thing in gc.get_objects():
        # not isinstance, which asks things for their class, and some warn
        if type(thing) is FunctionType and (thing.__module__ or "").startswith(layers.__name__):
            found[key(thing.__code__)].append(thing)
    gc.freeze()
    return found


@cache
def source(module: str) -> tuple[str, str]:
    """The text of a module of layers, and its file."""
    file = import_module(f"{layers.__name__}.{module}").__file__ or ""
    return Path(file).read_text(), file


def mutants(module: str, running: set[Line]) -> Iterator[Mutant]:
    """The mutants that are tried of the lines that are ``running`` in backward passes."""
    text, own = source(module)
    seen = Counter()
    lines = {line for (file, name, *_), line in running if file == own and name not in NOT_BACKWARD}
    for owner, node in _expressions(ast.parse(text), "", False):
        # the code of a function within would come twice
        whole = not any(isinstance(part, NESTED) for part in ast.walk(node))
        for slip in _slips(node) if whole and node.lineno in lines else ():
            change = f"{ast.unparse(node)} {'detached' if slip.endswith('.detach()') else f'-> {slip}'}"
            seen[owner, change] += 1
            repeated = seen[owner, change]
            label = change if repeated == 1 else f"{change} ({repeated})"
            mutant = Mutant(module, node.lineno, owner, label, _replaced(text, node, slip))
            if not zlib.crc32(str(mutant).encode()) % TAKEN:
                yield mutant


def _expressions(node: ast.AST, owner: str, runs: bool) -> Iterator[tuple[str, ast.expr]]:
    """The expressions within functions, each with the top-level definition that holds it."""
    match node:
        case ast.FunctionDef(body=body):
            runs, inner = True, body
        case ast.Lambda(body=body):
            runs, inner = True, [body]
        case ast.ClassDef(body=body):
            inner = body
        case _:
            inner = _parts(node)
    if runs and isinstance(node, ast.expr):
        yield owner, node
    for part in inner:
        top = isinstance(node, ast.Module) and _name(part)
        yield from _expressions(part, top or owner, runs)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """What a node holds, without annotations, and without the flag of a ``zip``."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            strict = isinstance(child, ast.keyword) and child.arg == "strict"
            if isinstance(child, ast.AST) and name not in ("annotation", "returns") and not strict:
                yield child


def _name(node: ast.AST) -> str:
    match node:
        case ast.ClassDef(name) | ast.FunctionDef(name) | ast.Assign([ast.Name(name)]):
            return name
    return ""


@cache
def _codes(module: str, text: str = "") -> list[CodeType]:
    """The code of every function of a module, in the order of the text."""
    own, file = source(module)
    return list(_within(compile(text or own, file, "exec", dont_inherit=True)))


def _within(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _within(constant)


def _replaced(source: str, node: ast.expr, slip: str) -> str:
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: (node.end_lineno or 0) - 1])) + (node.end_col_offset or 0)
    whole = source.encode()
    # what is dropped stays in sight, for a living closure keeps its variables
    kept = f"(({slip}) if True else ({whole[start:end].decode()}))"
    return (whole[:start] + kept.encode() + whole[end:]).decode()


def _slips(node: ast.AST) -> Iterator[str]:
    """What may stand in the place of an expression by a slip."""
    for slip in _slips_of(node):
        yield slip if isinstance(slip, str) else ast.unparse(slip)


def _slips_of(node: ast.AST) -> Iterator[ast.expr | str]:
    match node:
        case ast.BinOp(left, operator, right):
            yield from _slips_of_operator(left, operator, right)
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield operand
        case ast.Attribute(ast.Name("torch"), name) if name in COMPARISONS:
            yield f"torch.{COMPARISONS[name]}"
        case ast.Attribute(value, "mT"):
            yield value
        case ast.Call(function, arguments):
            yield from _slips_of_call(function, arguments)


def _slips_of_operator(left: ast.expr, operator: ast.operator, right: ast.expr) -> Iterator[ast.expr | str]:
    if isinstance(operator, (ast.FloorDiv, ast.Mod, ast.LShift, ast.RShift)):
        return
    yield from (left, right)
    if swapped := OPERATORS.get(type(operator)):
        yield ast.BinOp(left, swapped(), right)
    if isinstance(operator, (ast.Sub, ast.Div, ast.MatMult)):
        yield ast.BinOp(right, operator, left)
    if isinstance(operator, ast.Mult):
        yield f"({ast.unparse(ast.BinOp(left, operator, right))}).detach()"
    match left:
        case ast.Constant(int(value) | float(value)):
            yield ast.BinOp(ast.Constant(value + 1), operator, right)
    match right:
        case ast.Constant(int(value) | float(value)):
            yield ast.BinOp(left, operator, ast.Constant(value + 1))


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
