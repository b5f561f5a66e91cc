"""The map: contours of the cost, and the three paths over them, as a picture and as an animation."""

from pathlib import Path as File
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from experiments.compare.options import VARIANTS
from experiments.figure import INK, MARKERS, SERIES, SOFT, scale, sketch
from experiments.trajectory.animation import animate
from experiments.trajectory.measure import Plane, levels
from experiments.trajectory.words import file_name

CONTOURS = 14
# What moves more often is drawn thinner, and first.
WIDTHS = {"stochastic": 1.0, "mini-batch": 1.6, "batch": 2.2}


def moving(plane: Plane) -> str:
    """Draw the map, on which the paths are walked again; each example seen takes the same time."""
    whole = plane.rows * plane.epochs
    times = {
        VARIANTS.index(variant): [seen / whole for seen in path.examples]
        for variant, path in plane.paths.items()
    }
    # Every vertex has a time of its own: none may be simplified away.
    with matplotlib.rc_context({"path.simplify": False}), sketch(_title(plane), 9.0, 5.4) as drawing:
        _draw(drawing.axes[0], plane, ends=False)
    return animate(drawing.svg, file_name(plane), times)


def picture(plane: Plane, file: File) -> None:
    """Write the map as a PNG."""
    with sketch(_title(plane), 9.0, 5.4) as drawing:
        _draw(drawing.axes[0], plane, ends=True)
        drawing.axes[0].legend(frameon=False, fontsize=10, loc="best")
        drawing.save(file)


def costs(plane: Plane) -> str:
    """Draw the cost along each path, against the epochs."""
    with sketch(f"cost along the paths, {plane.problem}", 9.0, 3.0) as drawing:
        axes = drawing.axes[0]
        for series, variant in enumerate(VARIANTS):
            path = plane.paths[variant]
            epochs = [seen / plane.rows for seen in path.examples]
            heights = [cost - plane.floor for cost in path.costs]
            axes.plot(epochs, heights, color=SERIES[series], linewidth=WIDTHS[variant])
            axes.plot(epochs[-1:], heights[-1:], MARKERS[series], color=SERIES[series], clip_on=False)
        scale(axes, False, True)
        axes.set_xlabel("epochs")
        title = "cost over its minimum" if plane.floor else "cost of all examples"
        axes.set_title(f"{title}, {plane.unit}", loc="left", fontsize=10)
    return drawing.svg


def lowest(plane: Plane) -> tuple[float, float] | None:
    """Return the coordinates of the map's lowest point, unless it is at the rim, beyond which it goes on."""
    _, b, a = min((cost, b, a) for b, row in enumerate(plane.costs) for a, cost in enumerate(row))
    inside = 0 < a < len(plane.across) - 1 and 0 < b < len(plane.along) - 1
    return (plane.across[a], plane.along[b]) if inside else None


def _draw(axes: Axes, plane: Plane, ends: bool) -> None:
    axes.grid(False)
    axes.set_aspect("equal")
    lines: Any = axes.contour(
        plane.across,
        plane.along,
        plane.costs,
        levels=levels(plane.costs, CONTOURS),
        colors=SOFT,
        linewidths=0.7,
        alpha=0.55,
    )
    axes.clabel(lines, lines.levels[::3], fontsize=8, fmt="%.3g", colors=INK)
    if bottom := lowest(plane):
        axes.plot(*bottom, marker="+", markersize=12, markeredgewidth=1.5, color=INK)
    for variant, width in WIDTHS.items():
        series, path = VARIANTS.index(variant), plane.paths[variant]
        axes.plot(
            path.across,
            path.along,
            color=SERIES[series],
            linewidth=width,
            solid_capstyle="butt",
            gid=f"walk-{series}",
        )
        if ends:
            style = {"markersize": 7, "linestyle": "", "label": f"{variant}, {path.updates:,} updates"}
            axes.plot(path.across[-1:], path.along[-1:], MARKERS[series], color=SERIES[series], **style)
    scale(axes, False, False)
    axes.set_xlabel(plane.labels[0])
    axes.set_title(f"{plane.labels[1]} ↑", loc="left", fontsize=10)


def _title(plane: Plane) -> str:
    return f"paths of the three variants over the contours of the cost, {plane.problem}"
