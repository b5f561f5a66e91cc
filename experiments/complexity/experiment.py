"""Time the passes along each axis, and hold them against what theory predicts."""

import math
from dataclasses import asdict
from functools import partial
from typing import Any

from experiments.complexity import figures, words
from experiments.complexity.measure import Timing, measure
from experiments.complexity.options import Options
from experiments.complexity.predict import PASSES, fit, halves, misses
from experiments.page import grid, legend, name, section
from experiments.run import Run
from experiments.study import Account, Piece, Progress, study

SIZE = ("width", "depth", "batch", "rows")
MEASURED = ("parameters", "forward_flops", "backward_flops", "held", "forward", "backward")
HEADS = ("time against", "intercept µs", "GFLOP/s", "power", "held out", "worst miss")


def main(run: Run) -> None:
    """Run the experiment, and report whatever it has come to."""
    options = run.options
    pieces = {
        sweep: Piece(f"time against {words.AXES[sweep][1]}", 1.0, partial(_measure, options, sweep))
        for sweep in options.varied
    }
    study(run, pieces, partial(account, options))


def account(options: Options, found: dict[str, Any]) -> Account:
    """Tell what was measured."""
    sweeps = {
        sweep: [Timing(**timing) for timing in found[sweep]] for sweep in options.varied if sweep in found
    }
    metrics = [
        {"sweep": sweep, **timing.size, **{key: getattr(timing, key) for key in MEASURED}}
        for sweep, timings in sweeps.items()
        for timing in timings
    ]
    sections = [_overview(sweeps), *(_section(sweep, timings) for sweep, timings in sweeps.items())]
    return Account(
        "What a pass costs",
        f"{options.model.name} on {options.data.name} · fastest of {options.rounds} rounds"
        f" · one thread · seed {options.seed}",
        words.headline(sweeps) if sweeps else "",
        HEADS,
        [_row(sweep, timings, which) for sweep, timings in sweeps.items() for which in PASSES],
        sections if sweeps else [],
        ("sweep", *SIZE, *MEASURED),
        metrics,
        {f"{sweep}-{which}": _events(sweep, sweeps[sweep], which) for sweep in sweeps for which in PASSES},
    )


def _measure(options: Options, sweep: str, progress: Progress) -> list[dict[str, Any]]:
    return [asdict(timing) for timing in measure(options, sweep, progress)]


def _overview(sweeps: dict[str, list[Timing]]) -> str:
    drawn = [figures.predictions(sweeps)]
    if "width" in sweeps:
        drawn.append(figures.ratios(sweeps["width"]))
    text = (
        f"First every time held out of a fit, over a band of {100 * words.WITHIN:.0f} per cent to each side;"
        " then the backward pass over the forward pass, in time and in operations, against the width."
    )
    return section("Predicted and measured", text, _legend(), grid(drawn))


def _section(sweep: str, timings: list[Timing]) -> str:
    text = f"{words.sweep_line(sweep, timings)} {words.bytes_line(sweep, timings)}"
    drawn = grid([figures.seconds(sweep, timings), figures.kilobytes(sweep, timings)])
    return section(words.AXES[sweep][0], f"{text} Hollow marks were held out of the fit.", drawn)


def _legend() -> str:
    return legend(name(which, series) for series, which in enumerate(PASSES))


def _row(sweep: str, timings: list[Timing], which: str) -> list[str]:
    line, off = fit(halves(timings)[0], which), misses(timings, which)
    power = words.growth(sweep, timings, which, line)
    numbers = [
        f"{1e6 * line.intercept:.0f}",
        words.speed(line),
        f"{power:.2f}" if math.isfinite(power) else "–",
        f"{len(off)}",
    ]
    return [f"{words.AXES[sweep][1]}, {which}", *numbers, f"{100 * max(map(abs, off)):.1f}%"]


def _events(sweep: str, timings: list[Timing], which: str) -> dict[str, list[tuple[int, float]]]:
    return {"seconds": [(words.place(sweep, timing), getattr(timing, which)) for timing in timings]}
