"""The network drawn twice, layer beside layer: activations on the way forward, errors on the way back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from torch_backprop.tracing.formulas import name_of
from torch_backprop.tracing.page import matrix
from torch_backprop.tracing.record import Layer, Passes
from torch_backprop.tracing.table import shown

try:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch
except ImportError as error:
    raise ImportError(
        'plot() needs matplotlib: python -m pip install "torch_backprop[experiments]", or matplotlib alone.'
    ) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST = 16
"""Numbers of a layer that are drawn as circles; more are drawn as an image."""
ACROSS = 8
"""Layers of a row; a deeper network has several."""
BELOW, ABOVE, INK, SOFT = "#cc5500", "#0067a8", "#1c1e21", "#6b7076"
COLUMN, UNIT, TITLE = 1.9, 1.0, 0.35
"""Inches: a layer's width, a unit of height, and a title's height."""
LETTERS, LINE = 20, 0.17
"""Letters of a name that are beside each other, and a line's height in units."""
WITHIN = 6
"""Letters of a number that a circle has room for; a longer one stands below it."""
BLANK = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6}


def draw(trace: Passes, path: str | Path | None) -> Figure:
    """The drawing, saved to `path` if that is given."""
    first = trace.inputs if isinstance(trace.inputs, Tensor) else None
    activations: list[Tensor | None] = [first, *(each.activation for each in trace.layers)]
    errors: list[Tensor | None] = [None, *(each.error.ours for each in trace.layers)]
    count = len(activations)
    parts = [range(start, min(start + ACROSS, count)) for start in range(0, count, ACROSS)]
    rows = [(tensors, part) for tensors in (activations, errors) for part in parts]
    spans = [_span(trace, tensors, part) for tensors, part in rows]
    heights = [(high - low) * UNIT + TITLE for low, high in spans]
    across = len(parts[0])
    figure = Figure(figsize=(max(COLUMN * across, 5.0), sum(heights)), layout="constrained")
    figure.patch.set_facecolor("white")
    every = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (tensors, part), span in zip(every, rows, spans, strict=True):
        axes.set_xlim(part[0] - 0.6, part[0] + across - 0.4)
        axes.set_ylim(*span)
        axes.axis("off")
        _row(axes, trace, tensors, part, back=tensors is errors)
    every[0].set_title(
        f"Forward: activations, to the cost {shown(trace.cost.ours, 4)} of {name_of(trace.loss)}", color=INK
    )
    every[len(parts)].set_title(
        f"Backward: errors dL/dy, which differ from autograd's by {trace.difference:.1g}", color=INK
    )
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _names(trace: Passes) -> list[list[str]]:
    """The lines of each layer's name."""
    return [["input"], *(_lines(layer.title) for layer in trace.layers)]


def _lines(title: str) -> list[str]:
    """A name in lines that fit into a column, broken after dots if it can be."""
    lines = [""]
    for part in re.findall(r"[^.]*\.|[^.]+", title):
        pieces = [part[i : i + LETTERS] for i in range(0, len(part), LETTERS)]
        if lines[-1] and len(lines[-1]) + len(pieces[0]) > LETTERS:
            lines.append("")
        lines[-1] += pieces[0]
        lines += pieces[1:]
    return lines


def _span(trace: Passes, tensors: list[Tensor | None], part: range) -> tuple[float, float]:
    """The lowest and highest point of a row: its figures, the arrows, and the names."""
    reach = _reach(tensors, part)
    lines = max(len(_names(trace)[x]) for x in part)
    return -reach - 0.3 - (lines + 1) * LINE, reach


def _reach(tensors: list[Tensor | None], part: range) -> float:
    """How far the figures of a row go up, and down."""
    drawn = [tensor for x in part if (tensor := tensors[x]) is not None and tensor.numel()]
    heights = [
        _heights(tensor.numel())[0] if tensor.numel() <= MOST else _half(tensor)[1] + LINE for tensor in drawn
    ]
    return max([0.3, *heights]) + 0.25


def _row(axes: Axes, trace: Passes, tensors: list[Tensor | None], part: range, back: bool) -> None:
    """Layers from left to right, with arrows in the direction of their way."""
    names, kinds = _names(trace), ["", *(each.kind for each in trace.layers)]
    floor = -_reach(tensors, part)
    for x in part:
        tensor = tensors[x]
        if tensor is None and back:
            continue
        style = {"ha": "center", "va": "top", "fontsize": 9}
        for line, text in enumerate(names[x]):
            axes.text(x, floor - 0.15 - line * LINE, text, color=INK, fontweight="bold", **style)
        axes.text(x, floor - 0.15 - len(names[x]) * LINE, kinds[x], color=SOFT, **{**style, "fontsize": 8})
        if tensor is not None and tensor.numel():
            (_circles if tensor.numel() <= MOST else _image)(axes, x, tensor)
        if x and not (back and tensors[x - 1] is None):
            ends = ((x - 0.4, floor), (x - 0.6, floor)) if back else ((x - 0.6, floor), (x - 0.4, floor))
            axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=10, color=SOFT, lw=1))
            if x > part[0]:
                _between(axes, x, trace, (tensors[x - 1], tensor))


def _circles(axes: Axes, x: int, tensor: Tensor) -> None:
    """A layer as circles, their numbers in them or beside."""
    # Of complex numbers their size.
    values = (tensor.abs() if tensor.is_complex() else tensor).detach().flatten().tolist()
    strength = max(map(abs, values)) or 1.0
    size = 900 if len(values) <= 3 else 240 if len(values) <= 8 else 90
    for y, value in zip(_heights(len(values)), values, strict=True):
        color = ABOVE if value >= 0 else BELOW
        axes.scatter(x, y, size, "white", edgecolors=color, linewidths=1.2, zorder=3)
        axes.scatter(x, y, size, color, alpha=0.6 * abs(value) / strength, linewidths=0, zorder=4)
        text, style = f"{value:.3g}", {"va": "center", "color": INK, "fontsize": 8, "zorder": 5}
        if size == 900 and len(text) <= WITHIN:
            axes.text(x, y, text, ha="center", **style)
        elif size == 900:
            axes.text(x, y - 0.27, text, ha="center", bbox=BLANK, **style)
        else:
            axes.text(x + 0.12, y, text, ha="left", bbox=BLANK, **{**style, "fontsize": 7})


def _image(axes: Axes, x: int, tensor: Tensor) -> None:
    """A layer as an image with square pixels."""
    values = matrix(tensor).numpy()
    strength = tensor.detach().abs().max().item() or 1.0
    right, top = _half(tensor)
    colors = LinearSegmentedColormap.from_list("signs", [BELOW, "white", ABOVE])
    extent = (x - right, x + right, -top, top)
    axes.imshow(values, colors, vmin=-strength, vmax=strength, aspect="auto", extent=extent, zorder=3)
    axes.plot(*_outline(*extent), color=SOFT, lw=0.5, zorder=4)
    label = " × ".join(map(str, tensor.shape))
    axes.text(x, -top - 0.06, label, ha="center", va="top", fontsize=7, color=SOFT)


def _half(tensor: Tensor) -> tuple[float, float]:
    """Half the width and the height of an image, in the units of its axes."""
    height, width = matrix(tensor).shape
    pixel = min(0.8 * COLUMN / width, 1.9 * UNIT / height)
    return width * pixel / 2 / COLUMN, height * pixel / 2 / UNIT


def _outline(left: float, right: float, low: float, high: float) -> tuple[list[float], list[float]]:
    return [left, right, right, left, left], [low, low, high, high, low]


def _follows(layer: Layer, before: Any) -> bool:
    """Whether a layer was called with what stands before it, with nothing between the two."""
    if layer.input is None or not isinstance(before, Tensor):
        return False
    return torch.equal(layer.input.flatten(), before.detach().flatten())


def _between(axes: Axes, x: int, trace: Passes, pair: tuple[Any, Any]) -> None:
    """The weights of a linear layer as lines, or a line from number to number."""
    layer = trace.layers[x - 1]
    if not _follows(layer, trace.layers[x - 2].activation if x > 1 else trace.inputs):
        return
    if not all(each is not None and 0 < each.numel() <= MOST for each in pair):
        return
    before, after = (_heights(each.numel()) for each in pair)
    if layer.kind == "Linear" and _joins(weight := getattr(layer.module, "weight", None), before, after):
        strength = weight.detach().abs().max().item() or 1.0
        for y, row in zip(after, weight.detach().tolist(), strict=True):
            for z, value in zip(before, row, strict=True):
                share, color = abs(value) / strength, ABOVE if value >= 0 else BELOW
                line = {"color": color, "alpha": 0.15 + 0.6 * share, "lw": 0.5 + 2 * share}
                axes.plot((x - 1, x), (z, y), zorder=1, **line)
    elif len(before) == len(after):
        for y in after:
            axes.plot((x - 1, x), (y, y), color=SOFT, alpha=0.4, lw=0.7, zorder=1)


def _joins(weight: Any, before: list[float], after: list[float]) -> TypeGuard[Tensor]:
    """Whether these are weights from one column to the next."""
    fits = isinstance(weight, Tensor) and weight.shape == (len(after), len(before))
    return fits and not weight.is_complex()


def _heights(count: int) -> list[float]:
    """Where the circles of a layer stand."""
    gap = min(0.75, 2.1 / max(count - 1, 1))
    return [gap * ((count - 1) / 2 - index) for index in range(count)]
