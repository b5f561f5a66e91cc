"""What theory predicts of the seconds: t = a + b FLOPs.

The intercept a is what the calls themselves cost, whatever the sizes; 1/b is the speed of the arithmetic. The
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
    """The line t = intercept + slope FLOPs, in seconds."""

    intercept: float
    slope: float

    def __call__(self, flops: float) -> float:
        """Return the seconds predicted for so many operations."""
        return self.intercept + self.slope * flops


def fit(timings: Sequence[Timing], which: str) -> Fit:
    """Fit the line to the timings of one of `PASSES`, each weighted so that relative errors count."""
    times = torch.tensor([getattr(timing, which) for timing in timings], dtype=torch.float64)
    counts = torch.tensor([counted(timing, which) for timing in timings], dtype=torch.float64)
    columns = torch.stack([1 / times, counts / times], dim=1)
    intercept, slope = torch.linalg.lstsq(columns, torch.ones_like(times)[:, None]).solution[:, 0].tolist()
    return Fit(intercept, slope)


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
    return [line(counted(timing, which)) / getattr(timing, which) - 1 for timing in others]


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of log y over log x, by least squares.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 12)
    2.0
    """
    logs = [torch.tensor([math.log(value) for value in values]) for values in (xs, ys)]
    x, y = (values.double() - values.double().mean() for values in logs)
    return (x @ y / (x @ x)).item()
