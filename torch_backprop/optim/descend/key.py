"""What a step that was built depends on: where none of it has changed, the step can be used again.

A graph holds numbers that Python had when it was traced: options of modules, and what functions read of their
closures and globals. So these belong to its key, as do shapes, settings, and the tensors that it works on.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from torch_backprop.optim.descend.path import Pass

SETTINGS = ("momentum", "dampening", "nesterov", "weight_decay", "maximize")
PLAIN = (bool, int, float, complex, str, type(None), CodeType, torch.dtype, torch.device)
OPAQUE = (Tensor, nn.Module, ModuleType, type)
"""What is known by its identity: it is read anew, or looked at by itself."""
DEPTH, MOST = 4, 256
"""How far into what values hold is looked, and into how long ones."""
OURS = ("torch.", "torch_backprop.")
"""Modules whose functions read nothing that changes."""


def key(course: Pass) -> Hashable:
    """Return what the step of a pass depends on."""
    optimizer, parts = course.optimizer, (course.model, course.loss)
    rows = tuple((each.shape[1:], each.dtype) for each in (course.inputs, course.targets))
    settings = tuple(
        (tuple(map(id, group["params"])), *(group[name] for name in SETTINGS))
        for group in optimizer.param_groups
    )
    tensors = tuple((id(x), x.dtype, x.stride(), x.requires_grad) for x in tensors_of(*parts))
    momenta = tuple(
        id(optimizer.state.get(theta, {}).get("momentum_buffer")) for theta in optimizer._parameters()
    )
    return rows, settings, optimizer.max_norm, tensors, momenta, *(_options(part) for part in parts)


def tensors_of(*parts: Any) -> Iterator[Tensor]:
    """Yield the parameters and buffers of those parts that are modules."""
    for part in parts:
        if isinstance(part, nn.Module):
            yield from part.parameters()
            yield from part.buffers()


def _options(part: Any) -> Hashable:
    """What a module or function computes with, beside its arguments, its parameters and its buffers."""
    if not isinstance(part, nn.Module):
        return id(part), _value(part)
    return tuple((id(module), *_module(module)) for module in part.modules())


def _module(module: nn.Module) -> Iterator[Hashable]:
    # What begins with an underscore is torch's: parameters, buffers, parts and hooks.
    yield from ((name, _value(value)) for name, value in vars(module).items() if not name.startswith("_"))
    yield _value(type(module).forward)


def _value(value: Any, depth: int = DEPTH) -> Hashable:
    """Something that is equal as long as the value is; of what is too large or too deep, its identity."""
    if isinstance(value, PLAIN):
        return value
    if depth and isinstance(value, FunctionType):
        return tuple(_value(each, depth - 1) for each in _read(value))
    if depth and isinstance(value, MethodType):
        return _value(value.__self__, depth - 1), _value(value.__func__, depth)
    if depth and isinstance(value, (tuple, list, dict)) and len(value) <= MOST:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return tuple((_value(name, depth - 1), _value(each, depth - 1)) for name, each in pairs)
    if depth and hasattr(value, "__dict__") and not isinstance(value, OPAQUE):
        return id(value), _value(vars(value), depth - 1)
    return id(value)


def _read(function: FunctionType) -> Iterator[Any]:
    """Yield what a function reads: its code, defaults, closure, and the globals that it names."""
    code, names = function.__code__, function.__globals__
    yield code
    if not f"{function.__module__}.".startswith(OURS):
        yield function.__defaults__
        yield function.__kwdefaults__
        yield from (cell.cell_contents for cell in function.__closure__ or () if cell != CellType())
        yield from (names[name] for name in code.co_names if name in names)
