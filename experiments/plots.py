"""Figures as inline SVG whose colours and letters are the page's own, so that light and dark both suit them."""

import io
import math
import re
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.measurement import Outcome
from experiments.rates import Trial

# matplotlib wants real colours; each of these stands for a CSS variable that the page defines.
STANDINS = {"#0072b2": "batch", "#d55e00": "stochastic", "#009e73": "mini-batch",
            "#111111": "ink", "#777777": "soft", "#dddddd": "grid", "#fefefe": "page"}  # fmt: skip
COLOUR = {name: standin for standin, name in STANDINS.items()}
MARKERS = {"batch": "o", "stochastic": "^", "mini-batch": "s"}
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "experiments", "font.size": 10, "axes.labelsize": 10,
    "axes.edgecolor": COLOUR["soft"], "axes.labelcolor": COLOUR["ink"], "text.color": COLOUR["ink"],
    "xtick.color": COLOUR["soft"], "ytick.color": COLOUR["soft"], "xtick.labelcolor": COLOUR["ink"],
    "ytick.labelcolor": COLOUR["ink"], "grid.color": COLOUR["grid"], "grid.linewidth": 0.7,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "xtick.minor.visible": False, "ytick.major.size": 0, "ytick.minor.size": 0,
}  # fmt: skip
UNITS = {"epoch": "epochs", "updates": "updates", "examples": "examples seen", "seconds": "seconds of training"}


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
        for outcome in outcomes:
            points = [(point[x], point[y]) for point in outcome.points if point[x] > 0 or not log_x]
            _line(axes, outcome, points)
        _scale(axes, log_x, log_y)
        axes.set_xlabel(UNITS[x])
        axes.set_title(label, loc="left", fontsize=10)
        return _svg(figure, f"{label} against {UNITS[x]}")


def sweep(trials: Sequence[Trial], chosen: dict[str, float]) -> str:
    """Draw validation cost against learning rate; rings mark the chosen rates, crosses the diverged ones."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(9.0, 3.2)
        top = max((trial.cost for trial in trials if trial.cost is not None), default=1.0) * 2
        for variant in dict.fromkeys(trial.variant for trial in trials):
            own = [trial for trial in trials if trial.variant == variant]
            finite = [(trial.lr, trial.cost) for trial in own if trial.cost is not None]
            style = {"color": COLOUR[variant], "marker": MARKERS[variant], "markersize": 5}
            axes.plot(*_columns(finite), linewidth=1.8, **style)
            best = [(lr, cost) for lr, cost in finite if lr == chosen[variant]]
            axes.plot(*_columns(best), linestyle="", marker="o", markersize=13, markerfacecolor="none",
                      markeredgecolor=COLOUR[variant], markeredgewidth=1.6)  # fmt: skip
            lost = [(trial.lr, top) for trial in own if trial.cost is None]
            axes.plot(*_columns(lost), linestyle="", marker="x", color=COLOUR[variant], markersize=7)
        _scale(axes, True, True)
        axes.set_xlabel("learning rate of one update")
        axes.set_title("validation cost after the short training", loc="left", fontsize=10)
        return _svg(figure, "validation cost against learning rate")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _line(axes: Axes, outcome: Outcome, points: list[tuple[float, float]]) -> None:
    """Draw a curve, whose end is a marker: a cross if it diverged there."""
    colour = COLOUR[outcome.variant]
    axes.plot(*_columns(points), color=colour, linewidth=1.8, solid_joinstyle="round")
    marker = "x" if outcome.diverged else MARKERS[outcome.variant]
    axes.plot(*_columns(points[-1:]), color=colour, marker=marker, markersize=6)


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [first for first, _ in pairs], [second for _, second in pairs]


def _scale(axes: Axes, log_x: bool, log_y: bool) -> None:
    for log, axis in ((log_x, axes.xaxis), (log_y, axes.yaxis)):
        if log:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            low, high = sorted(axis.get_view_interval())
            decades = math.log10(high / low)
            axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _svg(figure: Figure, title: str) -> str:
    """Render a figure and hand its colours and fonts over to the page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    for standin, name in STANDINS.items():
        text = text.replace(standin, f"var(--{name})")
    return text
