"""The figures: seconds and bytes along each axis, with what theory predicts, and all predictions at once."""

from collections.abc import Sequence

from experiments.complexity.measure import Timing
from experiments.complexity.predict import PASSES, fit, halves
from experiments.complexity.words import AXES, WITHIN, place
from experiments.figure import GRID, INK, SERIES, SOFT, scale, sketch

SHAPES = {"forward": (SERIES[0], "o"), "backward": (SERIES[1], "^")}
DASHED = {"color": INK, "linewidth": 1.1, "linestyle": (0, (4, 3)), "zorder": 1}


def seconds(sweep: str, timings: Sequence[Timing]) -> str:
    """Draw both passes' time along an axis; hollow marks were held out of the fit, which is dashed."""
    with sketch(f"time against {AXES[sweep][1]}", 4.4, 3.2) as drawing:
        axes = drawing.axes[0]
        x = [place(sweep, timing) for timing in timings]
        for which in PASSES:
            colour, marker = SHAPES[which]
            line = fit(halves(timings)[0], which)
            axes.plot(x, [1e3 * line(timing) for timing in timings], **DASHED)
            for part, filled in zip(halves(timings), ("full", "none"), strict=True):
                at = [place(sweep, timing) for timing in part], [1e3 * getattr(t, which) for t in part]
                label = which if filled == "full" else None
                style = {"marker": marker, "fillstyle": filled, "markersize": 6, "linestyle": ""}
                axes.plot(*at, color=colour, label=label, **style)
        scale(axes, True, True)
        axes.set_xlabel(AXES[sweep][1])
        axes.set_title("milliseconds", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    return drawing.svg


def kilobytes(sweep: str, timings: Sequence[Timing]) -> str:
    """Draw the bytes held between the passes along an axis, over theory's."""
    with sketch(f"bytes held against {AXES[sweep][1]}", 4.4, 3.2) as drawing:
        axes = drawing.axes[0]
        x = [place(sweep, timing) for timing in timings]
        theory = [timing.expected[2] / 1e3 for timing in timings if timing.expected]
        if theory:
            axes.plot(x, theory, label="theory", **DASHED)
        measured = [timing.held / 1e3 for timing in timings]
        axes.plot(x, measured, "s", color=SERIES[2], markersize=6, label="measured")
        scale(axes, True, True)
        if min(measured) == max(measured):
            axes.set_ylim(measured[0] / 3, measured[0] * 3)
        axes.set_xlabel(AXES[sweep][1])
        axes.set_title("kilobytes held between the passes", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    return drawing.svg


def predictions(sweeps: dict[str, list[Timing]]) -> str:
    """Draw every time that was held out of a fit against the one predicted, over a band of 15 per cent."""
    with sketch("predicted against measured time", 4.4, 4.0) as drawing:
        axes, every = drawing.axes[0], []
        for which in PASSES:
            colour, marker = SHAPES[which]
            pairs = [pair for timings in sweeps.values() for pair in _pairs(timings, which)]
            every += [value for value, _ in pairs]
            axes.plot(*zip(*pairs, strict=True), marker, color=colour, fillstyle="none", label=which)
        ends = [min(every) / 1.5, max(every) * 1.5]
        low, high = ([end * factor for end in ends] for factor in (1 - WITHIN, 1 + WITHIN))
        axes.fill_between(ends, low, high, color=GRID)
        axes.plot(ends, ends, **DASHED)
        scale(axes, True, True)
        axes.set_xlabel("measured milliseconds")
        axes.set_title("predicted milliseconds", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    return drawing.svg


def ratios(timings: Sequence[Timing]) -> str:
    """Draw backward over forward along the width: of the time, and of the operations."""
    with sketch("backward over forward against width", 4.4, 4.0) as drawing:
        axes = drawing.axes[0]
        x = [timing.size["width"] for timing in timings]
        counts = [timing.backward_flops / timing.forward_flops for timing in timings]
        axes.plot(x, counts, label="operations", **DASHED)
        times = [timing.backward / timing.forward for timing in timings]
        axes.plot(x, times, "o", color=SERIES[0], label="time")
        axes.axhline(2, color=SOFT, linewidth=1)
        scale(axes, True, False)
        axes.set_ylim(0, max(2.5, *times))
        axes.set_xlabel("width")
        axes.set_title("backward over forward", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    return drawing.svg


def _pairs(timings: Sequence[Timing], which: str) -> list[tuple[float, float]]:
    fitted, others = halves(timings)
    line = fit(fitted, which)
    return [(1e3 * getattr(timing, which), 1e3 * line(timing)) for timing in others]
