"""The figures: seconds and bytes along each axis, with what theory predicts, and all predictions at once."""

from collections.abc import Sequence

import matplotlib

from experiments.complexity.measure import Size, Timing
from experiments.complexity.predict import PASSES, counted, fit, halves, held
from experiments.complexity.words import AXES, WITHIN, place
from experiments.plots import COLOUR, STYLE, _axes, _scale, _svg

SHAPES = {"forward": ("batch", "o"), "backward": ("stochastic", "^")}
DASHED = {"color": COLOUR["ink"], "linewidth": 1.1, "linestyle": (0, (4, 3)), "zorder": 1}


def seconds(sweep: str, timings: Sequence[Timing]) -> str:
    """Draw both passes' time along an axis; hollow marks were held out of the fit, which is dashed."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(4.4, 3.2)
        x = [place(sweep, timing) for timing in timings]
        for which in PASSES:
            colour, marker = SHAPES[which]
            line = fit(halves(timings)[0], which)
            axes.plot(x, [1e3 * line(counted(timing, which)) for timing in timings], **DASHED)
            for part, filled in zip(halves(timings), ("full", "none"), strict=True):
                at = [place(sweep, timing) for timing in part], [1e3 * getattr(t, which) for t in part]
                label = which if filled == "full" else None
                style = {"marker": marker, "fillstyle": filled, "markersize": 6, "linestyle": ""}
                axes.plot(*at, color=COLOUR[colour], label=label, **style)
        _scale(axes, True, True)
        axes.set_xlabel(AXES[sweep][1])
        axes.set_title("milliseconds", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="upper left")
        return _svg(figure, f"time against {AXES[sweep][1]}")


def kilobytes(sweep: str, timings: Sequence[Timing]) -> str:
    """Draw the bytes held between the passes along an axis, over theory's."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(4.4, 3.2)
        x = [place(sweep, timing) for timing in timings]
        theory = [held(Size(**timing.size)) / 1e3 for timing in timings]
        axes.plot(x, theory, label="theory", **DASHED)
        measured = [timing.held / 1e3 for timing in timings]
        axes.plot(x, measured, "s", color=COLOUR["mini-batch"], markersize=6, label="measured")
        _scale(axes, True, True)
        if min(measured) == max(measured):
            axes.set_ylim(measured[0] / 3, measured[0] * 3)
        axes.set_xlabel(AXES[sweep][1])
        axes.set_title("kilobytes held between the passes", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="upper left")
        return _svg(figure, f"bytes held against {AXES[sweep][1]}")


def predictions(sweeps: dict[str, list[Timing]]) -> str:
    """Draw every time that was held out of a fit against the one predicted, over a band of 15 per cent."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(4.4, 4.0)
        for which in PASSES:
            colour, marker = SHAPES[which]
            pairs = [pair for timings in sweeps.values() for pair in _pairs(timings, which)]
            axes.plot(*zip(*pairs, strict=True), marker, color=COLOUR[colour], fillstyle="none", label=which)
        ends = sorted(axes.get_xlim())
        ends = [max(ends[0], min(line.get_xdata().min() for line in axes.lines) / 2), ends[1] * 1.3]
        axes.fill_between(
            ends, [e * (1 - WITHIN) for e in ends], [e * (1 + WITHIN) for e in ends], color=COLOUR["grid"]
        )
        axes.plot(ends, ends, **DASHED)
        _scale(axes, True, True)
        axes.set_xlabel("measured milliseconds")
        axes.set_title("predicted milliseconds", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="upper left")
        return _svg(figure, "predicted against measured time")


def ratios(timings: Sequence[Timing]) -> str:
    """Draw backward over forward along the width: of the time, and of the operations."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(4.4, 4.0)
        x = [timing.size["width"] for timing in timings]
        counts = [timing.backward_flops / timing.forward_flops for timing in timings]
        axes.plot(x, counts, label="operations", **DASHED)
        times = [timing.backward / timing.forward for timing in timings]
        axes.plot(x, times, "o", color=COLOUR["batch"], label="time")
        axes.axhline(2, color=COLOUR["soft"], linewidth=1)
        _scale(axes, True, False)
        axes.set_ylim(0, max(2.5, *times))
        axes.set_xlabel("width")
        axes.set_title("backward over forward", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="lower right")
        return _svg(figure, "backward over forward against width")


def _pairs(timings: Sequence[Timing], which: str) -> list[tuple[float, float]]:
    fitted, others = halves(timings)
    line = fit(fitted, which)
    return [(1e3 * getattr(timing, which), 1e3 * line(counted(timing, which))) for timing in others]
