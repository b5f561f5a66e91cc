"""Both passes as a table: a line for each activation, error and gradient, with autograd's beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.tracing.record import Comparison, Passes

FEW = 2
"""Numbers that are written out; of more the norm is."""
FORWARD = ("layer", "kind", "shape", "activation")
BACKWARD = ("layer", "gradient of", "shape", "by hand", "by autograd", "difference")


def write(trace: Passes, digits: int, width: int) -> str:
    """The two tables, the cost between them, in lines of at most `width` characters if that can be."""
    cost = trace.cost
    between = f"Cost {shown(cost.ours, digits)}, by autograd {shown(cost.autograd, digits)}"
    forward = [FORWARD, *forward_rows(trace, digits)]
    backward = [BACKWARD, *backward_rows(trace, digits)]
    parts = ["Forward pass", *aligned(forward, width), "", between, "", "Backward pass"]
    return "\n".join([*parts, *aligned(backward, width)])


def forward_rows(trace: Passes, digits: int) -> list[tuple[str, ...]]:
    """A row for the input and each layer."""
    first = ("input", "", *_shape_and_value(trace.inputs, digits))
    layers = [(each.title, each.kind, *_shape_and_value(each.activation, digits)) for each in trace.layers]
    return [first, *layers]


def backward_rows(trace: Passes, digits: int) -> list[tuple[str, ...]]:
    """In reverse, a row for the error of each layer and one for each of its parameters; then what is left."""
    rows, named = [], set()
    for layer in reversed(trace.layers):
        rows.append((layer.title, "its output", *_compared(layer.error, digits)))
        for name, gradient in layer.gradients.items():
            named.add(name)
            rows.append(("", name.removeprefix(f"{layer.name}."), *_compared(gradient, digits)))
    left = [(name, each) for name, each in trace.gradients.items() if name not in named]
    return [*rows, *(("", name, *_compared(each, digits)) for name, each in left)]


def aligned(rows: list[tuple[str, ...]], width: int) -> list[str]:
    """Rows as lines whose columns stand one below the other.

    Where they are too wide, the first cell of a row, if there is something in it, has a line of its own.
    """
    lines = _columns(rows)
    if max(map(len, lines)) <= width:
        return lines
    rest = _columns([row[1:] for row in rows])
    pairs = ((f"  {row[0]}", f"  {other}") for row, other in zip(rows, rest, strict=True))
    return [line for pair in pairs for line in pair if line.strip()]


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def shown(tensor: Tensor | None, digits: int) -> str:
    """A tensor in few characters: its numbers if they are few, else its Euclidean norm."""
    if tensor is None:
        return "none"
    if tensor.numel() <= FEW and not tensor.is_complex():
        return " ".join(f"{value:.{digits}g}" for value in tensor.detach().flatten().tolist()) or "empty"
    values = tensor.detach() if tensor.is_complex() else tensor.detach().double()
    return f"norm {torch.linalg.vector_norm(values).item():.{digits}g}"


def difference(comparison: Comparison) -> str:
    """How far the two are apart, relative to autograd's largest element."""
    return f"{comparison.difference:.1g}"


def _shape_and_value(data: Any, digits: int) -> tuple[str, str]:
    if not isinstance(data, Tensor):
        return "", type(data).__name__
    return _shape(data), shown(data, digits)


def _compared(comparison: Comparison, digits: int) -> tuple[str, str, str, str]:
    ours, autograd = comparison.ours, comparison.autograd
    shape = "" if ours is None else _shape(ours)
    return shape, shown(ours, digits), shown(autograd, digits), difference(comparison)


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "scalar"
