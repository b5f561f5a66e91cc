"""What theory predicts of the seconds: t = a + b FLOPs.

The intercept a is what the calls themselves cost, whatever the sizes; 1/b is the speed of the arithmetic.
Where the sizes differ in depth as well as in width, each layer makes calls of its own: a = c + d layers. The
line is fitted to every second size of a sweep, and held against the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from experiments.complexity.measure import Timing

PASSES = ("forward", "backward")


@dataclass(frozen=True)
class Fit:
    """The line t = intercept + layer layers + slope FLOPs of one of `PASSES`, in seconds."""

    which: str
    intercept: float
    slope: float
    layer: float = 0.0

    def __call__(self, timing: Timing) -> float:
        """Return the seconds predicted for a size."""
        return self.calls(timing) + self.slope * counted(timing, self.which)

    def calls(self, timing: Timing) -> float:
        """Return those of them that are no arithmetic."""
        return self.intercept + self.layer * timing.size["depth"]


def fit(timings: Sequence[Timing], which: str) -> Fit:
    """Fit the line to the timings of one of `PASSES`, each weighted so that relative errors count."""
    times = torch.tensor([getattr(timing, which) for timing in timings], dtype=torch.float64)
    counts = torch.tensor([counted(timing, which) for timing in timings], dtype=torch.float64)
    layers = [timing.size["depth"] for timing in timings]
    terms = [torch.ones_like(times), counts]
    if _varies(timings, "width") and _varies(timings, "depth") and len(timings) > 3:
        terms.append(torch.tensor(layers, dtype=torch.float64))
    columns = torch.stack(terms, dim=1) / times[:, None]
    found = torch.linalg.lstsq(columns, torch.ones_like(times)[:, None]).solution[:, 0].tolist()
    return Fit(which, *found)


def _varies(timings: Sequence[Timing], what: str) -> bool:
    return len({timing.size[what] for timing in timings}) > 1


def counted(timing: Timing, which: str) -> int:
    """Return the operations counted in one of `PASSES`."""
    return timing.forward_flops if which == "forward" else timing.backward_flops


def halves(timings: Sequence[Timing]) -> tuple[Sequence[Timing], Sequence[Timing]]:
    """Return the sizes to fit, the first and every second after it, and the others."""
    return timings[::2], timings[1::2]


def misses(timings: Sequence[Timing], which: str) -> list[float]:
    """Return by how much of the measured time each size held out of the fit is missed."""
    fitted, others = halves(timings)
    line = fit(fitted, which)
    return [line(timing) / getattr(timing, which) - 1 for timing in others]


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of log y over log x, by least squares.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 12)
    2.0
    """
    logs = [torch.tensor([math.log(value) for value in values]) for values in (xs, ys)]
    x, y = (values.double() - values.double().mean() for values in logs)
    return (x @ y / (x @ x)).item()
