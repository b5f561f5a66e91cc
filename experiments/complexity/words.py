"""What the passes cost, in sentences written from the measured numbers."""

import math
from collections.abc import Sequence
from itertools import pairwise

from experiments.complexity.measure import Timing
from experiments.complexity.predict import (
    PASSES,
    Fit,
    counted,
    exponent,
    fit,
    halves,
    misses,
)
from experiments.words import series

WITHIN = 0.15
# What a sweep varies, as a title, and as a field of `Timing` or of its size.
AXES = {
    "width": ("Width of the hidden layers", "width"),
    "depth": ("Depth", "hidden layers"),
    "parameters": ("Parameters", "parameters"),
    "batch": ("Batch size", "rows of the batch"),
    "data": ("Size of the data set", "rows of the data set"),
}


def place(sweep: str, timing: Timing) -> int:
    """Return where a size stands on its sweep's axis."""
    return timing.parameters if sweep == "parameters" else timing.size["rows" if sweep == "data" else sweep]


def headline(sweeps: dict[str, list[Timing]]) -> str:
    """Say how well the lines predict what they were not fitted to, and whether the counts are theory's."""
    off = [abs(miss) for timings in sweeps.values() for which in PASSES for miss in misses(timings, which)]
    good = sum(miss <= WITHIN for miss in off)
    timings = [timing for each in sweeps.values() for timing in each]
    exact = [_as_counted(timing) for timing in timings if timing.expected]
    told = (
        " The operations counted and the bytes held are, to the last one, those that theory gives for"
        f" {_all(sum(exact), len(exact))} of the sizes."
        if exact
        else ""
    )
    lines = [_line(timings, which) for timings in sweeps.values() for which in PASSES]
    more = any(line.layer or line.byte for line in lines)
    terms = " with terms for layers and bytes held where these vary by themselves," if more else ""
    return (
        f"Of {len(off)} times held out of the fits t = a + b · FLOPs,{terms} {_all(good, len(off))} predicted"
        f" within {100 * WITHIN:.0f} per cent, the worst of all within {100 * max(off):.1f}.{told}"
        f" {ratio(sweeps)}{_powers(sweeps)}"
    )


def ratio(sweeps: dict[str, list[Timing]]) -> str:
    """Say how much longer than the forward pass the backward pass takes at the largest size measured."""
    largest = max((timing for each in sweeps.values() for timing in each), key=lambda timing: timing.forward)
    time, count = largest.backward / largest.forward, largest.backward_flops / largest.forward_flops
    but = ", but for the first layer's input" if count < 1.995 else ""
    if count > 2.005:
        but = ", and those that compute again what the forward pass did not hold"
    return (
        f"At the size that takes longest, backward takes {time:.2f} times as long as forward; it has"
        f" {count:.2f} times the operations: two products a layer for one{but}."
    )


def sweep_line(sweep: str, timings: Sequence[Timing]) -> str:
    """Say how the time grows along one axis."""
    lines = [_line(timings, which) for which in PASSES]
    grows = [growth(sweep, timings, which, line) for which, line in zip(PASSES, lines, strict=True)]
    forward, backward = lines
    calls = (
        f"The intercept is {1e6 * forward.intercept:.0f} µs forward and {1e6 * backward.intercept:.0f} µs"
        f" backward{_layers(*lines)}, the slope that of {speed(forward)} and {speed(backward)} GFLOP/s"
        f"{_bytes(*lines)}."
    )
    counts = exponent(*zip(*((place(sweep, t), t.forward_flops) for t in _large(timings)), strict=True))
    power = (
        f"Less the intercept, the time of the larger half grows as the power {grows[0]:.2f} forward and"
        f" {grows[1]:.2f} backward, the forward operations as {counts:.2f}."
        if all(map(math.isfinite, grows))
        else "The times are too noisy to give a power: more --rounds make them steadier."
    )
    return " ".join(filter(None, (calls, power, _particular(sweep, timings), uncovered(sweep, timings))))


def _layers(forward: Fit, backward: Fit) -> str:
    """Say what each layer adds to the intercepts, where that was fitted too."""
    if not (forward.layer or backward.layer):
        return ""
    return f", and {1e6 * forward.layer:.0f} and {1e6 * backward.layer:.0f} µs more for each layer"


def _bytes(forward: Fit, backward: Fit) -> str:
    """Say what the bytes held add, where that was fitted too."""
    if not (forward.byte or backward.byte):
        return ""
    return f"; a megabyte held takes {1e12 * forward.byte:.0f} and {1e12 * backward.byte:.0f} µs more"


def speed(line: Fit) -> str:
    """Return the speed of the arithmetic in GFLOP/s; without bound where other terms explain all the time."""
    return f"{1e-9 / line.slope:.0f}" if line.slope else "∞"


def uncovered(sweep: str, timings: Sequence[Timing]) -> str:
    """Say what a line does not cover, where it misses by more than it should."""
    off = {which: max(map(abs, misses(timings, which))) for which in PASSES}
    missed = {which: worst for which, worst in off.items() if worst > WITHIN}
    if not missed:
        return ""
    told = series([f"{which} by up to {100 * worst:.0f} per cent" for which, worst in missed.items()])
    both = [(which, *speeds(timings, which)) for which in missed]
    if any(min(grown) <= 0 for _, *grown in both):
        return f"The line misses {told}. The times are too noisy for any: more --rounds make them steadier."
    changes = series([f"{which} from {small:.1f} to {large:.1f} GFLOP/s" for which, small, large in both])
    return (
        f"The line misses {told}. It has one speed; that measured goes {changes} from"
        " the smaller half of the sizes to the larger. It leaves out that small matrices are multiplied more"
        " slowly, that what leaves the cache takes longer, and that activations and pooling are not among the"
        " operations counted."
    )


def speeds(timings: Sequence[Timing], which: str) -> tuple[float, float]:
    """Return at how many GFLOP/s the operations are done by which the sizes of each half grow."""
    ends = [timings[0], timings[len(timings) // 2], timings[-1]]
    grown = pairwise(sorted(ends, key=lambda timing: counted(timing, which)))
    small, large = (
        1e-9
        * (counted(more, which) - counted(less, which))
        / ((getattr(more, which) - getattr(less, which)) or math.inf)
        for less, more in grown
    )
    return small, large


def growth(sweep: str, timings: Sequence[Timing], which: str, line: Fit) -> float:
    """Return the power with which the time over the intercept grows along the larger half of a sweep.

    NaN if noise leaves fewer than two times over the intercept.
    """
    large = [
        (place(sweep, timing), getattr(timing, which) - line.calls(timing))
        for timing in _large(timings)
        if getattr(timing, which) > line.calls(timing)
    ]
    return exponent(*zip(*large, strict=True)) if len(large) > 1 else math.nan


def _particular(sweep: str, timings: Sequence[Timing]) -> str:
    if sweep == "width":
        toy = timings[:3]
        slope = exponent([place(sweep, t) for t in toy], [t.forward + t.backward for t in toy])
        ends = f"{place(sweep, toy[0])} to {place(sweep, toy[-1])}"
        return f"A log-log slope over the widths {ends} says {slope:.2f}: it measures the cost of calls."
    if sweep == "data":
        last = timings[-1]
        row = 1e6 * (last.forward + last.backward) / last.size["rows"]
        return (
            f"A row costs {row:.2f} µs in the largest data set. The calls are made anew for each batch, and"
            " are in the slope; the intercept should be none."
        )
    return ""


def bytes_line(sweep: str, timings: Sequence[Timing]) -> str:
    """Say how the bytes held between the passes grow."""
    first, last = timings[0], timings[-1]
    if first.held == last.held:
        return f"Between the passes {first.held:,} bytes are held, whatever the number of batches."
    return (
        f"Between the passes {first.held:,} bytes are held at the smallest size and {last.held:,} at the"
        " largest"
        + (": each hidden layer's output once, the inputs and the scores." if first.expected else ".")
        + (" Depth times width decides them, not the number of parameters." if sweep == "parameters" else "")
    )


def _powers(sweeps: dict[str, list[Timing]]) -> str:
    """Say how forward and backward together grow with the width, and with the data."""
    powers = {
        sweep: sum(growth(sweep, sweeps[sweep], which, _line(sweeps[sweep], which)) for which in PASSES) / 2
        for sweep in ("width", "data")
        if sweep in sweeps
    }
    told = [
        f"{power:.2f} of the {'width' if sweep == 'width' else 'data'}"
        for sweep, power in powers.items()
        if math.isfinite(power)
    ]
    return f" Less what the calls cost, the time grows as the power {series(told)}." if told else ""


def _line(timings: Sequence[Timing], which: str) -> Fit:
    return fit(halves(timings)[0], which)


def _large(timings: Sequence[Timing]) -> Sequence[Timing]:
    return timings[len(timings) // 2 :]


def _as_counted(timing: Timing) -> bool:
    return timing.expected == [*(counted(timing, which) for which in PASSES), timing.held]


def _all(good: int, number: int) -> str:
    return f"all {number}" if good == number else f"{good} of {number}"
