"""Figures as inline SVG, in the page's own colours and letters, so that light and dark both suit them."""

import io
import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from experiments.measurement import Outcome
from experiments.rates import Trial

# matplotlib wants real colours; each of these stands for a CSS variable that the page defines.
COLOUR = {
    "batch": "#0072b2",
    "stochastic": "#d55e00",
    "mini-batch": "#009e73",
    "ink": "#111111",
    "soft": "#777777",
    "grid": "#dddddd",
}
MARKERS = {"batch": "o", "stochastic": "^", "mini-batch": "s"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "experiments",
    "font.size": 10,
    "axes.edgecolor": COLOUR["soft"],
    "axes.labelcolor": COLOUR["ink"],
    "text.color": COLOUR["ink"],
    "xtick.color": COLOUR["soft"],
    "xtick.labelcolor": COLOUR["ink"],
    "ytick.labelcolor": COLOUR["ink"],
    "ytick.major.size": 0,
    "grid.color": COLOUR["grid"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
# A sweep's costs are drawn up to this multiple of the lowest; the rest leaves the figure at the top.
HEIGHT = 30
UNITS = {
    "epoch": "epochs",
    "updates": "updates",
    "examples": "examples seen",
    "seconds": "seconds of training",
}


def curves(outcomes: Sequence[Outcome], x: str, y: str, label: str, log_x: bool, log_y: bool) -> str:
    """Draw one measured quantity of every variant against another.

    Args:
        outcomes: What was measured.
        x: The column of the horizontal axis, a key of `UNITS`.
        y: The column of the vertical axis.
        label: What the vertical axis shows.
        log_x: Whether the horizontal axis is logarithmic; the start, at 0, is then left out.
        log_y: Whether the vertical axis is logarithmic.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(4.4, 3.0)
        low, high = _limits(outcomes, y)
        for outcome in outcomes:
            points = [(point[x], point[y]) for point in outcome.points if point[x] > 0 or not log_x]
            _line(axes, outcome, points, (low, high))
        least, most = axes.yaxis.get_data_interval()
        if most > high:
            axes.set_ylim(least / 1.3, high)
        elif least < low:
            axes.set_ylim(low, most + 0.05)
        _scale(axes, log_x, log_y)
        axes.set_xlabel(UNITS[x])
        axes.set_title(label, loc="left", fontsize=10)
        return _svg(figure, f"{label} against {UNITS[x]}")


def sweep(trials: Sequence[Trial], chosen: dict[str, float]) -> str:
    """Draw validation cost against learning rate; rings mark the chosen rates, crosses the diverged ones."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(9.0, 3.2)
        costs = [trial.cost for trial in trials if trial.cost is not None]
        low, top = min(costs, default=0.1), min(max(costs, default=1.0), HEIGHT * min(costs, default=0.1))
        for variant in dict.fromkeys(trial.variant for trial in trials):
            own = [trial for trial in trials if trial.variant == variant]
            finite = [(trial.lr, trial.cost) for trial in own if trial.cost is not None]
            style = {"color": COLOUR[variant], "marker": MARKERS[variant], "markersize": 5}
            axes.plot(*_columns(finite), linewidth=1.8, **style)
            best = [(lr, cost) for lr, cost in finite if lr == chosen[variant]]
            axes.plot(*_columns(best), marker="o", markersize=13, fillstyle="none", color=COLOUR[variant])
            lost = [(trial.lr, top * 1.15) for trial in own if trial.cost is None]
            axes.plot(*_columns(lost), linestyle="", marker="x", color=COLOUR[variant], markersize=7)
        axes.set_ylim(low / 1.3, top * 1.4)
        _scale(axes, True, True)
        axes.set_xlabel("learning rate of one update")
        axes.set_title("validation cost after the short training", loc="left", fontsize=10)
        return _svg(figure, "validation cost against learning rate")


def _limits(outcomes: Sequence[Outcome], y: str) -> tuple[float, float]:
    """Return how far to draw, so that a variant that diverges does not flatten the others."""
    if y != "cost":
        return -0.25, math.inf
    return 0.0, 5 * max((outcome.points[0]["cost"] for outcome in outcomes if outcome.points), default=1.0)


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _line(
    axes: Axes, outcome: Outcome, points: list[tuple[float, float]], limits: tuple[float, float]
) -> None:
    """Draw a curve, whose end is a marker: a cross at the figure's edge if it diverged."""
    colour = COLOUR[outcome.variant]
    # Wider below narrower, so that curves that coincide can both be seen.
    width = {"stochastic": 2.9, "mini-batch": 1.5}.get(outcome.variant, 1.8)
    axes.plot(*_columns(points), color=colour, linewidth=width, solid_joinstyle="round")
    marker = "x" if outcome.diverged else MARKERS[outcome.variant]
    low, high = limits
    ends = [(place, min(max(value, low), high)) for place, value in points[-1:]]
    axes.scatter(*_columns(ends), s=36, color=colour, marker=marker, zorder=3, clip_on=False)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [first for first, _ in pairs], [second for _, second in pairs]


def _scale(axes: Axes, log_x: bool, log_y: bool) -> None:
    for log, axis in ((log_x, axes.xaxis), (log_y, axes.yaxis)):
        # A training that was stopped at its start has nothing to the right of 0.
        least, most = axis.get_data_interval()
        if log and 0 < least <= most:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            low, high = sorted(axis.get_view_interval())
            decades = math.log10(high / low)
            axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
            axis.set_minor_locator(NullLocator())
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _svg(figure: Figure, title: str) -> str:
    """Render a figure and hand its colours and fonts over to the page."""
    buffer = io.StringIO()
    # Without a date, so that the same run gives the same bytes.
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    opening = rf'<svg viewBox="\1" role="img" aria-label="{title}">'
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', opening, text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The page's own fonts: sizes stay, families go.
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    for name, standin in COLOUR.items():
        text = text.replace(standin, f"var(--{name})")
    return text
