"""Where a candidate can be imported from, and how a module can be built again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from .target import Target, name_of


def imported(target: Target, name: str) -> list[str]:
    """The lines that make it ``name``: an import, or a comment where it cannot be imported."""
    owner = getattr(target.function, "__self__", None)
    found = owner if isinstance(owner, type) else target.function
    place = _place(found)
    if place is None:
        return [f"{name} = ...  # {name_of(found)} cannot be imported: put here what was passed"]
    module, path = place
    suffix = (
        "" if found is not owner or target.function.__name__ == "apply" else f".{target.function.__name__}"
    )
    return [f"from {module} import {path.split('.')[0]}", f"{name} = {path}{suffix}"]


def rebuilt(module: torch.nn.Module, name: str) -> list[str]:
    """The lines that make such a module ``name``, where its class and its repr say how."""
    place = _place(type(module))
    words = _words(module)
    if place is None or words is None:
        return [f"{name} = ...  # {name_of(module)} as it was passed: no import and no repr builds it"]
    path = place[1]
    mode = "" if module.training else ".eval()"
    return [f"from {place[0]} import {path.split('.')[0]}", f"{name} = {path}({words}){mode}"]


def _words(module: torch.nn.Module) -> str | None:
    """What its repr says of its options, if the class called with that gives a module with the same state."""
    try:
        words = module.extra_repr()
        other = eval(f"kind({words})", {"kind": type(module), "torch": torch})
        return words if _shapes(other) == _shapes(module) else None
    except Exception:  # a repr is written for people, and need not be code
        return None


def _shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: x.shape for name, x in module.state_dict().items()}


def _place(thing: Any) -> tuple[str, str] | None:
    """The module and the path in it under which an import finds this very thing."""
    path = getattr(thing, "__qualname__", getattr(thing, "__name__", ""))
    for module in (getattr(thing, "__module__", None), "torch", "torch.nn.functional"):
        for candidate in dict.fromkeys((path, path.split(".")[-1])):
            if module and candidate and _at(module, candidate) is thing:
                own = _script() if module == "__main__" else module
                return (own, candidate) if own else None
    return None


def _script() -> str | None:
    """The name under which the script that runs can be imported."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    return spec.name if spec else Path(file).stem if file else None


def _at(module: str, path: str) -> Any:
    """What stands there in a module that is loaded; None, if nothing does."""
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found
