"""What theory predicts of the seconds: t = a + b FLOPs.

The intercept a is what the calls themselves cost, whatever the sizes; 1/b is the speed of the arithmetic. Two
more terms are fitted where they vary by themselves, and are not a multiple of those: the number of layers,
which make calls of their own, and the bytes held, which go to memory and back. No term takes less than
nothing. Williams, Waterman & Patterson (2009), Communications of the ACM 52(4), 65-76, on arithmetic and
memory. The line is fitted to every second size of a sweep, and held against the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.linear_model import LinearRegression
from torch import Tensor

from experiments.complexity.measure import Timing

PASSES = ("forward", "backward")
# The part of a term that no other explains, above which it has a coefficient of its own.
OWN = 0.01


@dataclass(frozen=True)
class Fit:
    """The line t = intercept + slope FLOPs + layer layers + byte bytes of one of `PASSES`, in seconds."""

    which: str
    intercept: float
    slope: float
    layer: float = 0.0
    byte: float = 0.0

    def __call__(self, timing: Timing) -> float:
        """Return the seconds predicted for a size."""
        _, flops, _, held = _terms(timing, self.which)
        return self.calls(timing) + self.slope * flops + self.byte * held

    def calls(self, timing: Timing) -> float:
        """Return those of them that are calls."""
        return self.intercept + self.layer * timing.size["depth"]


def fit(timings: Sequence[Timing], which: str) -> Fit:
    """Fit the line to the timings of one of `PASSES`, each weighted so that relative errors count."""
    times = torch.tensor([getattr(timing, which) for timing in timings], dtype=torch.float64)
    columns = torch.tensor([_terms(timing, which) for timing in timings], dtype=torch.float64)
    columns = columns / times[:, None]
    columns, scale = columns / columns.norm(dim=0), columns.norm(dim=0)
    kept = [0, 1]
    for term in range(2, columns.shape[1]):
        if len(timings) > len(kept) + 1 and _rest(columns[:, term], columns[:, kept]) > OWN:
            kept.append(term)
    line = LinearRegression(positive=True, fit_intercept=False)
    found = line.fit(columns[:, kept].numpy(), torch.ones_like(times).numpy()).coef_
    values = [0.0] * columns.shape[1]
    for term, value in zip(kept, found, strict=True):
        values[term] = float(value) / float(scale[term])
    return Fit(which, *values)


def _terms(timing: Timing, which: str) -> tuple[float, ...]:
    """Return what the seconds are made of, in the order of the coefficients of a `Fit`."""
    batches = timing.size["rows"] / timing.size["batch"]
    return 1.0, counted(timing, which), timing.size["depth"], timing.held * batches


def _rest(column: Tensor, others: Tensor) -> float:
    """Return the length of what the others leave of a column of length 1."""
    found = torch.linalg.lstsq(others, column[:, None]).solution
    return float((column[:, None] - others @ found).norm())


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
