"""The network drawn twice, layer beside layer: activations on the way forward, errors on the way back."""

from __future__ import annotations

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
BELOW, ABOVE, INK, SOFT = "#cc5500", "#0067a8", "#1c1e21", "#6b7076"
COLUMN, ROW = 1.9, 3.4
"""Inches of a layer's width, and of the height of each way."""
LOW, HIGH = -1.75, 1.35
UNIT = 0.9 * ROW / (HIGH - LOW)
"""Inches of a unit of height, the title apart."""
BLANK = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6}


def draw(trace: Passes, path: str | Path | None) -> Figure:
    """The drawing, saved to `path` if that is given."""
    count = len(trace.layers) + 1
    figure = Figure(figsize=(max(COLUMN * count, 5.0), 2 * ROW), layout="constrained")
    figure.patch.set_facecolor("white")
    forward, backward = figure.subplots(2, 1)
    activations: list[Tensor | None] = [each.activation for each in trace.layers]
    first = trace.inputs if isinstance(trace.inputs, Tensor) else None
    _way(forward, trace, [first, *activations], back=False)
    _way(backward, trace, [None, *(each.error.ours for each in trace.layers)], back=True)
    cost = shown(trace.cost.ours, 4)
    forward.set_title(f"Forward: activations, to the cost {cost} of {name_of(trace.loss)}", color=INK)
    backward.set_title(
        f"Backward: errors dL/dy, which differ from autograd's by {trace.difference:.1g}", color=INK
    )
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _way(axes: Axes, trace: Passes, tensors: list[Tensor | None], back: bool) -> None:
    """The layers of one way from left to right, with arrows in its direction."""
    axes.set_xlim(-0.6, len(tensors) - 0.4)
    axes.set_ylim(LOW, HIGH)
    axes.axis("off")
    names = ["input", *(each.title for each in trace.layers)]
    kinds = ["", *(each.kind for each in trace.layers)]
    for x, tensor in enumerate(tensors):
        if tensor is None and back:
            continue
        axes.text(x, -1.35, names[x], ha="center", va="top", color=INK, fontsize=9, fontweight="bold")
        axes.text(x, -1.53, kinds[x], ha="center", va="top", color=SOFT, fontsize=8)
        if tensor is not None and tensor.numel():
            (_circles if tensor.numel() <= MOST else _image)(axes, x, tensor)
    for x, layer in enumerate(trace.layers, 1):
        pair = tensors[x - 1], tensors[x]
        if not (back and tensors[x - 1] is None):
            before = trace.layers[x - 2].activation if x > 1 else trace.inputs
            _between(axes, x, layer, pair if _follows(layer, before) else (None, None), back)


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
        if size == 900:
            axes.text(x, y, text, ha="center", **style)
        else:
            axes.text(x + 0.12, y, text, ha="left", bbox=BLANK, **{**style, "fontsize": 7})


def _image(axes: Axes, x: int, tensor: Tensor) -> None:
    """A layer as an image with square pixels."""
    values = matrix(tensor).numpy()
    strength = tensor.detach().abs().max().item() or 1.0
    height, width = values.shape
    pixel = min(0.8 * COLUMN / width, 1.9 * UNIT / height)
    right, top = width * pixel / 2 / COLUMN, height * pixel / 2 / UNIT
    colors = LinearSegmentedColormap.from_list("signs", [BELOW, "white", ABOVE])
    extent = (x - right, x + right, -top, top)
    axes.imshow(values, colors, vmin=-strength, vmax=strength, aspect="auto", extent=extent, zorder=3)
    axes.plot(*_outline(*extent), color=SOFT, lw=0.5, zorder=4)
    label = " × ".join(map(str, tensor.shape))
    axes.text(x, -top - 0.06, label, ha="center", va="top", fontsize=7, color=SOFT)


def _outline(left: float, right: float, low: float, high: float) -> tuple[list[float], list[float]]:
    return [left, right, right, left, left], [low, low, high, high, low]


def _follows(layer: Layer, before: Any) -> bool:
    """Whether a layer was called with what stands before it, with nothing between the two."""
    if layer.input is None or not isinstance(before, Tensor):
        return False
    return torch.equal(layer.input.flatten(), before.detach().flatten())


def _between(axes: Axes, x: int, layer: Layer, pair: tuple[Any, Any], back: bool) -> None:
    """The weights of a linear layer as lines, or an arrow for any other."""
    ends = ((x - 0.4, -1.2), (x - 0.6, -1.2)) if back else ((x - 0.6, -1.2), (x - 0.4, -1.2))
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=10, color=SOFT, lw=1))
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
