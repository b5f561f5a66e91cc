"""Both passes as one page that needs nothing else: figures of every activation, error and gradient."""

from __future__ import annotations

import html
import math
from pathlib import Path
from string import Template
from typing import Any

import torch
from torch import Tensor

from torch_backprop.tracing import calculation
from torch_backprop.tracing.formulas import name_of
from torch_backprop.tracing.record import Comparison, Layer, Passes
from torch_backprop.tracing.table import difference, shown

MOST = 32
"""Squares along each side of a figure."""
LEVELS = 8
"""Strengths of a colour."""
SQUARE, WIDEST, HIGHEST = 2.0, 15.0, 11.0
"""Widths of a square and of a figure at most, and its height."""
DIGITS = 4
KEY = (
    "Each square is a number: <b class='above'>above</b> or <b class='below'>below</b> zero, the stronger the"
    " larger in its figure. Of several examples, features or channels the first are drawn; hover over a"
    " figure for its range."
)
"""How the figures are read, in HTML."""


def write(trace: Passes) -> str:
    """The page."""
    cost, worked = trace.cost, paper(trace)
    parts = {
        "style": style(),
        "key": KEY,
        "title": "Backpropagation, layer by layer",
        "subtitle": f"{len(trace.layers)} layers, {html.escape(name_of(trace.loss))}",
        "lead": f"The largest relative difference to autograd is {trace.difference:.1g}.",
        "forward": forward(trace),
        "cost": f"{shown(cost.ours, 6)} <span class='soft'>by autograd {shown(cost.autograd, 6)}</span>",
        "backward": backward(trace),
        "calculation": f"<h2>On paper</h2>{worked}" if worked else "",
    }
    return Template(_beside("page.html")).substitute(parts)


def style() -> str:
    """The CSS of the figures, for a page that has --page, --card, --ink and --soft."""
    return _beside("figures.css")


def paper(trace: Passes) -> str:
    """Every number with its formula, where they are few."""
    worked = calculation.write(trace)
    # With the keyboard, what is too wide for the page can be scrolled only if it can have the focus.
    return f"<pre tabindex='0'>{html.escape(worked)}</pre>" if worked else ""


def forward(trace: Passes) -> str:
    """The input and each layer's activation."""
    return f"<div class='cards'>{_input(trace.inputs)}{''.join(map(_forward, trace.layers))}</div>"


def backward(trace: Passes) -> str:
    """The error and the gradients of each layer, the last first."""
    named = {name for layer in trace.layers for name in layer.gradients}
    left = {name: each for name, each in trace.gradients.items() if name not in named}
    cards = [*map(_backward, reversed(trace.layers)), *([_rest(left)] if left else [])]
    return f"<div class='back'>{''.join(cards)}</div>"


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _input(data: Any) -> str:
    picture = _figure("", data) if isinstance(data, Tensor) else ""
    return f"<section class='card'><h3>input</h3>{picture}</section>"


def _forward(layer: Layer) -> str:
    return f"<section class='card'>{_heading(layer)}{_figure('', layer.activation)}</section>"


def _backward(layer: Layer) -> str:
    rows = [_row("error of its output", layer.error)]
    rows += [_row(name.removeprefix(f"{layer.name}."), each) for name, each in layer.gradients.items()]
    return f"<section class='card'>{_heading(layer)}<div class='pairs'>{''.join(rows)}</div></section>"


def _rest(gradients: dict[str, Comparison]) -> str:
    rows = "".join(_row(name, each) for name, each in gradients.items())
    return f"<section class='card'><h3>parameters of no layer</h3><div class='pairs'>{rows}</div></section>"


def _heading(layer: Layer) -> str:
    return f"<h3>{html.escape(layer.title)} <span>{html.escape(layer.kind)}</span></h3>"


def _row(title: str, comparison: Comparison) -> str:
    ours = _figure(f"{html.escape(title)}, by hand", comparison.ours)
    apart = f"by autograd, differs by {difference(comparison)}"
    return f"<div class='pair'>{ours}{_figure(apart, comparison.autograd)}</div>"


def _figure(title: str, tensor: Tensor | None) -> str:
    """A tensor as squares, with its shape and its numbers or their norm."""
    if tensor is None:
        return f"<figure><figcaption>{title}: none</figcaption></figure>"
    shape = " × ".join(map(str, tensor.shape)) or "scalar"
    head, foot = (f"<figcaption>{text}</figcaption>" for text in (title or shape, shown(tensor, DIGITS)))
    return f"<figure>{head}{squares(tensor)}{foot}</figure>"


def squares(tensor: Tensor) -> str:
    """A drawing of a tensor's first matrix: one path for each strength of each colour."""
    values = matrix(tensor)
    if not values.numel():
        return ""
    height, width = values.shape
    numbers = values.nan_to_num()
    strength = numbers.abs().max().item() or 1.0
    levels = (numbers / strength * LEVELS).round().int().tolist()
    paths: dict[int, list[str]] = {}
    for y, row in enumerate(levels):
        for x, level in enumerate(row):
            if level:
                paths.setdefault(level, []).append(f"M{x} {y}h1v1h-1z")
    drawn = "".join(
        f"<path class='{'above' if level > 0 else 'below'}' fill-opacity='{abs(level) / LEVELS:g}'"
        f" d='{''.join(path)}'/>"
        for level, path in sorted(paths.items())
    )
    span = f"{numbers.min().item():.{DIGITS}g} to {numbers.max().item():.{DIGITS}g}"
    # As wide as its squares need, in the letters' own unit.
    rem = min(SQUARE * width, WIDEST, HIGHEST * width / height)
    frame = f"viewBox='0 0 {width} {height}' style='width: {rem:.3g}rem' role='img'"
    return f"<svg {frame}><title>{span}</title>{drawn}</svg>"


def matrix(tensor: Tensor, most: int = MOST) -> Tensor:
    """The part of a tensor that is drawn: a matrix of at most `most` rows and columns.

    Of several examples it is the first; channels stand side by side, not a number between them. A row that
    fills a square is drawn as one, since it is often a flattened image.
    """
    values = (tensor.abs() if tensor.is_complex() else tensor).detach().float().cpu()
    while values.dim() > 3:
        values = values[0] if len(values) else values.flatten(0, 1)
    if values.dim() == 3:
        gap = values.new_full((*values.shape[:2], 1), torch.nan)
        values = torch.cat((values, gap), 2).transpose(0, 1).flatten(1)[:, :-1]
    values = values.reshape(1, -1) if values.dim() < 2 else values
    side = math.isqrt(values.shape[1])
    if values.shape[0] == 1 and 4 < side <= most and side * side == values.shape[1]:
        values = values.view(side, side)
    elif values.shape[0] == 1 and values.shape[1] > most:
        values = torch.nn.functional.pad(values, (0, -values.shape[1] % most), value=torch.nan).view(-1, most)
    return values[:most, :most]
