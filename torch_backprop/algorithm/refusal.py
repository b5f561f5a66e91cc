"""What a tape cannot do is refused aloud: what it was, where it was called, and what to do instead."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

from torch_backprop import functional

PACKAGES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


def unsupported(operator: Any, detail: str = "") -> NotImplementedError:
    """The error for an operator without a pullback."""
    name = str(operator)
    plain = operator.overloadpacket.__name__.strip("_").removeprefix("native_").removesuffix("_forward")
    hint = (
        "call its twin in torch_backprop.functional, or run within torch_backprop.patched(); or write it as a"
        " torch_backprop.Rule"
    )
    layer = next((frame.f_locals["self"] for frame in _frames() if _is_foreign_layer(frame)), None)
    if layer is not None:
        hint = f"it is what {type(layer).__name__} computes: torch_backprop.convert(model) gives its twin"
    elif plain in functional.__all__:
        hint = f"use torch_backprop.functional.{plain}, or torch_backprop.patched()"
    return NotImplementedError(f"{name}, called at {where()}, has no pullback{detail}: {hint}.")


def refuse_foreign_function() -> None:
    """Raises if what is computed now is the forward pass of somebody's ``autograd.Function``.

    Raises:
        NotImplementedError: it is.
    """
    functions = {code: kind for kind in _functions(torch.autograd.Function) if (code := _forward(kind))}
    for frame in _frames():
        caller = frame.f_back.f_code.co_filename if frame.f_back else ""
        # a rule's forward pass is called by the tape, or by the rule itself
        if frame.f_code in functions and not caller.startswith(PACKAGES[1]):
            name = functions[frame.f_code].__name__
            raise NotImplementedError(
                f"{name}.apply, called at {where()}, hides its backward pass from the tape: derive {name}"
                f" from torch_backprop.Rule and call {name}.call instead of {name}.apply."
            )


def where() -> str:
    """File and line of the innermost call that is neither torch's nor ours."""
    for frame in _frames():
        if not frame.f_code.co_filename.startswith((*PACKAGES, "<frozen")):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return "an unknown place"


def _functions(kind: type) -> Iterator[type]:
    for each in kind.__subclasses__():
        yield each
        yield from _functions(each)


def _forward(kind: Any) -> CodeType | None:
    # torch.amp.custom_fwd wraps all forward passes in the same code
    return getattr(inspect.unwrap(kind.forward), "__code__", None)


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_foreign_layer(frame: FrameType) -> bool:
    layer = frame.f_locals.get("self")
    return isinstance(layer, torch.nn.Module) and type(layer).__module__.startswith("torch.nn.modules")
