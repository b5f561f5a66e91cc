"""The comparison's figures."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from experiments.compare.contender import Contender
from experiments.compare.noise import Noise
from experiments.compare.rates import Trial
from experiments.compare.result import Result
from experiments.figure import MARKERS, SERIES, SOFT, scale, sketch

# A sweep's costs are drawn up to this multiple of the lowest; the rest leaves the figure at the top.
HEIGHT = 30
NOISE = 5
"""The first of the series that points of the descent have, which no contender is likely to have."""
UNITS = {
    "epoch": "epochs",
    "updates": "updates",
    "examples": "examples seen",
    "seconds": "seconds of training",
}


def curves(
    results: Sequence[Result],
    x: str,
    y: str,
    label: str,
    log_x: bool,
    log_y: bool,
    target: float | None = None,
) -> str:
    """Draw one measured quantity of every contender against another: the median over the seeds in their band.

    Args:
        results: What was measured.
        x: The column of the horizontal axis, a key of `UNITS`.
        y: The column of the vertical axis.
        label: What the vertical axis shows.
        log_x: Whether the horizontal axis is logarithmic; the start, at 0, is then left out.
        log_y: Whether the vertical axis is logarithmic.
        target: A value to draw a line at.
    """
    with sketch(f"{label} against {UNITS[x]}") as drawing:
        axes = drawing.axes[0]
        low, high = _limits(results, y)
        if target is not None:
            axes.axhline(target, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        for result in results:
            _line(axes, result, [row for row in result.band(x, y) if row[0] > 0 or not log_x], (low, high))
        least, most = axes.yaxis.get_data_interval()
        if most > high:
            axes.set_ylim(least / 1.3, high)
        elif least < low:
            axes.set_ylim(low, most + 0.05)
        scale(axes, log_x, log_y)
        axes.set_xlabel(UNITS[x])
        axes.set_title(label, loc="left", fontsize=10)
    return drawing.svg


def sweep(
    trials: Sequence[Trial], contenders: Sequence[Contender], chosen: dict[str, float], unit: str
) -> str:
    """Draw validation cost against learning rate; rings mark the chosen rates, crosses the diverged ones."""
    with sketch("validation cost against learning rate", 9.0, 3.2) as drawing:
        axes = drawing.axes[0]
        costs = [trial.cost for trial in trials if trial.cost is not None]
        low, top = min(costs, default=0.1), min(max(costs, default=1.0), HEIGHT * min(costs, default=0.1))
        for contender in contenders:
            own = [trial for trial in trials if trial.name == contender.name]
            finite = [(trial.lr, trial.cost) for trial in own if trial.cost is not None]
            colour, marker = look(contender)
            axes.plot(*_columns(finite), color=colour, marker=marker, markersize=5, linewidth=1.8)
            best = [(lr, cost) for lr, cost in finite if lr == chosen.get(contender.name)]
            axes.plot(*_columns(best), marker="o", markersize=13, fillstyle="none", color=colour)
            lost = [(trial.lr, top * 1.15) for trial in own if trial.cost is None]
            axes.plot(*_columns(lost), linestyle="", marker="x", color=colour, markersize=7)
        axes.set_ylim(low / 1.3, top * 1.4)
        scale(axes, True, True)
        axes.set_xlabel("learning rate of one update")
        axes.set_title(f"validation cost after the short training, {unit}", loc="left", fontsize=10)
    return drawing.svg


def noise(found: Sequence[Noise]) -> str:
    """Draw the gradient's relative variance against the mini-batch's size, over the lines of the theory."""
    with sketch("variance of the gradient against the size of a mini-batch", 9.0, 3.2) as drawing:
        axes = drawing.axes[0]
        axes.axhline(1.0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        for number, each in enumerate(found):
            colour, marker = SERIES[NOISE + number], MARKERS[NOISE + number]
            axes.plot(each.sizes, [each.expected(b) for b in each.sizes], color=colour, linewidth=1.4)
            axes.scatter(each.sizes, each.variances, color=colour, marker=marker, s=26, zorder=3)
        axes.margins(y=0.15)
        scale(axes, True, True)
        axes.set_xlabel("examples in a mini-batch")
        axes.set_title(
            "mean squared error of its gradient, over the squared gradient", loc="left", fontsize=10
        )
    return drawing.svg


def look(contender: Contender) -> tuple[str, str]:
    """Return a contender's colour and marker."""
    return SERIES[contender.series % len(SERIES)], MARKERS[contender.series % len(MARKERS)]


def _limits(results: Sequence[Result], y: str) -> tuple[float, float]:
    """Return how far to draw, so that a variant that diverges does not flatten the others."""
    if y != "cost":
        return -0.25, math.inf
    starts = [
        outcome.points[0]["cost"] for result in results for outcome in result.outcomes if outcome.points
    ]
    return 0.0, 5 * max(starts, default=1.0)


def _line(axes: Axes, result: Result, rows: list[Any], limits: tuple[float, float]) -> None:
    """Draw a curve, whose end is a marker: a cross at the figure's edge if it diverged."""
    colour, marker = look(result.contender)
    xs, lows, middles, highs = zip(*rows, strict=True) if rows else ((), (), (), ())
    if len(result.outcomes) > 1:
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.18, linewidth=0)
    # Wider below narrower, so that curves that coincide can both be seen.
    width = {"stochastic": 2.9, "mini-batch": 1.5}.get(result.contender.variant, 1.8)
    axes.plot(xs, middles, color=colour, linewidth=width, solid_joinstyle="round")
    low, high = limits
    ends = [(place, min(max(value, low), high)) for place, _, value, _ in rows[-1:]]
    shape = "x" if result.diverged else marker
    axes.scatter(*_columns(ends), s=36, color=colour, marker=shape, zorder=3, clip_on=False)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [first for first, _ in pairs], [second for _, second in pairs]
