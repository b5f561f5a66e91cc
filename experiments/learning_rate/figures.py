"""The figures: cost against rate with the zones of divergence, and the sharpness on its way to the edge."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from experiments.compare.options import VARIANTS
from experiments.figure import INK, MARKERS, SERIES, scale, sketch
from experiments.learning_rate.measure import Course, Trial, edge, suggestion

DASHED = {"color": INK, "linewidth": 1.1, "linestyle": (0, (4, 3))}


def sweep(problem: str, trials: Sequence[Trial], bound: float, unit: str) -> str:
    """Draw each variant's cost against the rate; shaded is where it diverges, ringed what is suggested."""
    with sketch(f"cost against learning rate, {problem}", 9.0, 3.8) as drawing:
        _rates(drawing.axes[0], trials, bound, unit)
    return drawing.svg


def picture(trials: Sequence[Trial], bound: float, unit: str, file: Path) -> None:
    """Write the same as a PNG, with the names of the variants."""
    with sketch("", 9.0, 3.8) as drawing:
        _rates(drawing.axes[0], trials, bound, unit)
        drawing.axes[0].legend(frameon=False, fontsize=10, loc="lower left")
        drawing.save(file)


def _rates(axes: Axes, trials: Sequence[Trial], bound: float, unit: str) -> None:
    costs = [trial.cost for trial in trials if not trial.diverged]
    top = max(costs, default=1.0)
    for series, variant in enumerate(VARIANTS):
        _variant(axes, trials, variant, series, top)
    axes.axvline(bound, **DASHED)
    axes.annotate("2/λₘₐₓ", (bound, top), (4, 2), textcoords="offset points", fontsize=10)
    scale(axes, True, True)
    axes.set_ylim(min(costs, default=0.1) / 1.25, top * 1.5)
    axes.set_xlabel("learning rate")
    axes.set_title(f"cost after the last update, {unit}", loc="left", fontsize=10)


def _variant(axes: Axes, trials: Sequence[Trial], variant: str, series: int, top: float) -> None:
    own = [trial for trial in trials if trial.variant == variant]
    finite = [(trial.lr, trial.cost) for trial in own if not trial.diverged]
    colour, lost = SERIES[series], edge(trials, variant)[1]
    if not own:
        return
    if math.isfinite(lost):
        axes.axvspan(lost, max(trial.lr for trial in own), color=colour, alpha=0.09, linewidth=0)
    at = [lr for lr, _ in finite], [cost for _, cost in finite]
    axes.plot(*at, color=colour, marker=MARKERS[series], linewidth=1.8, markersize=4, label=variant)
    crosses = [trial.lr for trial in own if trial.diverged]
    # One row of crosses for each variant, so that none hides another.
    height = top * (1.12, 1.22, 1.33)[series]
    axes.plot(crosses, [height] * len(crosses), "x", color=colour, markersize=5)
    best = suggestion(trials, variant)
    if best:
        axes.plot([best.lr], [best.cost], "o", markersize=13, fillstyle="none", color=colour)


def sharpness(runs: Sequence[Course]) -> str:
    """Draw the sharpness along each descent, as a multiple of 1/lr: the edge of stability is at 2."""
    with sketch("sharpness times learning rate against updates", 4.4, 3.6) as drawing:
        axes = drawing.axes[0]
        for series, run in enumerate(runs):
            values = [run.lr * sharpness for sharpness in run.sharpness]
            style = {"color": SERIES[series], "linewidth": 1.8}
            axes.plot(run.updates, values, **style)
            axes.plot(run.updates[-1:], values[-1:], MARKERS[series], color=SERIES[series], clip_on=False)
        axes.axhline(2, **DASHED)
        scale(axes, False, False)
        axes.set_ylim(0, 2.6)
        axes.set_xlabel("updates")
        axes.set_title("learning rate × sharpness", loc="left", fontsize=10)
    return drawing.svg


def costs(runs: Sequence[Course], unit: str) -> str:
    """Draw the cost along each descent."""
    with sketch("cost against updates, full batch", 4.4, 3.6) as drawing:
        axes = drawing.axes[0]
        for series, run in enumerate(runs):
            axes.plot(run.updates, run.costs, color=SERIES[series], linewidth=1.8)
            axes.plot(run.updates[-1:], run.costs[-1:], MARKERS[series], color=SERIES[series], clip_on=False)
        scale(axes, False, True)
        axes.set_xlabel("updates")
        axes.set_title(f"cost, {unit}", loc="left", fontsize=10)
    return drawing.svg
