"""What a step that was built depends on: where none of it has changed, the step can be used again.

A graph holds numbers that Python had when it was traced: options of modules, and what functions read of their
closures, globals and classes. So these belong to its key, as do shapes, settings, and the tensors that it
works on.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Hashable, Iterator
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from torch_backprop.optim.descend.path import Pass

SETTINGS = ("momentum", "dampening", "nesterov", "weight_decay", "maximize")
PLAIN = (bool, int, float, complex, str, type(None), CodeType, torch.dtype, torch.device)
HOLDERS = (ModuleType, type)
"""Of these only what is read is looked at, for they hold far more."""
DEPTH, MOST = 5, 256
"""How far into what values hold is looked, and into how long ones."""
OURS = ("torch.", "torch_backprop.", "builtins.")
"""Modules whose functions and classes read nothing that changes."""


def key(course: Pass) -> Hashable:
    """Return what the step of a pass depends on."""
    optimizer, parts = course.optimizer, (course.model, course.loss)
    rows = tuple((each.shape[1:], each.dtype) for each in (course.inputs, course.targets))
    settings = tuple(
        (tuple(map(Identity, group["params"])), *(group[name] for name in SETTINGS))
        for group in optimizer.param_groups
    )
    tensors = tuple(map(_tensor, tensors_of(*parts)))
    reading = Reading()
    momenta = tuple(
        reading.value(optimizer.state.get(theta, {}).get("momentum_buffer"))
        for theta in optimizer._parameters()
    )
    return rows, settings, optimizer.max_norm, tensors, momenta, *map(reading.value, parts)


def tensors_of(*parts: Any) -> Iterator[Tensor]:
    """Yield the parameters and buffers of those parts that are modules."""
    for part in parts:
        if isinstance(part, nn.Module):
            yield from part.parameters()
            yield from part.buffers()


def _tensor(x: Tensor) -> Hashable:
    # Its numbers are read anew; the rest may be another's if somebody assigns to x.data.
    return Identity(x), x.shape, x.dtype, x.device, x.stride(), x.requires_grad


class Identity:
    """Equal to that of the same object, as long as there is that object.

    A key must not keep what it names: a loss may refer to the model, whose steps go when the model goes.
    """

    def __init__(self, value: Any) -> None:
        self.number = id(value)
        try:
            self.reference: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self.reference = lambda: value

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity) or self.number != other.number:
            return False
        # Another object may by now have the number of one that is gone.
        return self.reference() is not None and self.reference() is other.reference()


class Reading:
    """Walks through what values hold, and into each object once for a depth, for they may hold each other."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}

    def value(self, value: Any, depth: int = DEPTH) -> Hashable:
        """Return what is equal as long as the value is; of what is too large or too deep, its identity."""
        if isinstance(value, PLAIN):
            return value
        if not depth or isinstance(value, (Tensor, *HOLDERS)):
            return Identity(value)
        number, deepest = self._seen.get(id(value), (len(self._seen), 0))
        if deepest >= depth:
            return "again", number
        self._seen[id(value)] = number, depth
        return tuple(self._parts(value, depth - 1))

    def _parts(self, value: Any, depth: int) -> Iterator[Hashable]:
        """Yield what a value computes with. No function by its identity: a lambda is new in each pass."""
        if isinstance(value, (tuple, list)) and len(value) <= MOST:
            yield from (self.value(each, depth) for each in value)
        elif isinstance(value, dict) and len(value) <= MOST:
            yield from ((self.value(name, depth), self.value(each, depth)) for name, each in value.items())
        elif isinstance(value, FunctionType):
            yield from (self.value(each, depth) for each in _read(value))
        elif isinstance(value, MethodType):
            yield from (self.value(value.__self__, depth), self.value(value.__func__, depth))
        elif isinstance(value, functools.partial):
            yield from (self.value(each, depth) for each in (value.func, value.args, value.keywords))
        elif isinstance(value, nn.Module):
            for module in value.modules():
                yield from self._object(module, depth)
        else:
            yield from self._object(value, depth)

    def _object(self, value: Any, depth: int) -> Iterator[Hashable]:
        yield Identity(value)
        for name, each in getattr(value, "__dict__", {}).items():
            # What begins with an underscore is torch's in a module: parameters, buffers, parts and hooks.
            if not (isinstance(value, nn.Module) and name.startswith("_")):
                yield name, self.value(each, depth)
        yield from (self.value(each, depth) for each in _read_by_class(type(value)))
        for kind in type(value).__mro__:
            if not _is_ours(kind.__module__):
                yield from (each for each in vars(kind).values() if isinstance(each, PLAIN))


def _read(function: FunctionType) -> Iterator[Any]:
    """Yield what a function reads: its code, defaults, closure, and the globals that it names."""
    yield function.__code__
    if _is_ours(function.__module__):
        return
    names = set(_names(function.__code__))
    values = [function.__defaults__, function.__kwdefaults__]
    values += [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
    values += [each for name, each in function.__globals__.items() if name in names]
    yield from values
    for holder in values:
        if isinstance(holder, HOLDERS) and not _is_ours(getattr(holder, "__module__", holder.__name__)):
            yield from (inspect.getattr_static(holder, name, None) for name in sorted(names))


def _read_by_class(kind: type) -> Iterator[Any]:
    """Yield its forward, by which a module that was converted in place is another, and what that calls."""
    found, names = set(), ["__call__", "forward"]
    while names:
        name = names.pop()
        member = inspect.getattr_static(kind, name, None)
        # The function of a method of the class, or of a property.
        member = getattr(member, "__func__", getattr(member, "fget", member))
        if name not in found and isinstance(member, FunctionType):
            found.add(name)
            yield member
            names += () if _is_ours(member.__module__) else _names(member.__code__)


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes, those of functions within too, as of comprehensions."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def _is_ours(module: str | None) -> bool:
    return f"{module}.".startswith(OURS)
