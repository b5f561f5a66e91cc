r"""Backtracking line search. Armijo (1966), Pacific J. Math. 16, 1-3; Nocedal & Wright (2006), section 3.1.

Along -d, the gradient g scaled by each group's learning rate, take the first t in t_0, t_0/2, t_0/4, ... with

    F(theta - t d) <= F(theta) - c t <g, d>        c = 1e-4

Close to a minimum the decrease drowns in the rounding of F and no longer tells a good step from a bad one;
from there on the smallest step that it ever cut down to is repeated, or the step given is taken as it is.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_backprop.optim.step_size import inner

DECREASE, SHRINK, GROW = 1e-4, 0.5, 2.0
# Rounding of a sum over examples, in units of the last place.
ROUNDING = 16


def backtrack(
    objective: Callable[[float], float], value: float, slope: float, first: float, eps: float
) -> tuple[float, bool]:
    """Return the step t, and whether the objective could tell that it is good.

    Args:
        objective: F(theta - t d) by t.
        value: F(theta).
        slope: <g, d>, at least 0.
        first: t_0.
        eps: the relative rounding of F's numbers.

    Example:
        >>> backtrack(lambda t: (1 - t * 6) ** 2, 1.0, 12.0, 1.0, 2e-16)
        (0.25, True)
    """
    noise = ROUNDING * eps * abs(value)
    step = first
    while step * slope > noise:
        trial = objective(step)
        if math.isfinite(trial) and trial <= value - DECREASE * step * slope:
            return step, True
        step *= SHRINK
    return step, False


class Line:
    """The half-line theta - t d, t >= 0, from the present parameters."""

    def __init__(self, gradients: Mapping[Tensor, Tensor], rates: Mapping[Tensor, float]) -> None:
        self.gradients = gradients
        self.directions = {theta: gradient * rates[theta] for theta, gradient in gradients.items()}
        self.start = {theta: theta.clone() for theta in gradients}

    def slope(self) -> float:
        """Return <g, d>."""
        return sum(inner(self.gradients[theta], direction) for theta, direction in self.directions.items())

    def move(self, step: float) -> None:
        """Put the parameters at t = `step`."""
        for theta, direction in self.directions.items():
            theta.copy_(self.start[theta]).sub_(direction, alpha=step)


@dataclass
class LineSearch:
    """What one search hands to the next, in units of the learning rates.

    Attributes:
        last: the step taken last.
        smallest: the smallest one that larger ones had to be cut down to.
    """

    last: float = 1.0 / GROW
    smallest: float = math.inf

    def descend(self, line: Line, objective: Callable[[], float], value: float, first: float | None) -> None:
        """Move the parameters along `line`, or leave them where they are if the objective raises.

        Args:
            line: where to go.
            objective: F at the present parameters.
            value: F at the start.
            first: the first step to try, by default twice the last one.
        """
        eps = max(torch.finfo(theta.dtype).eps for theta in line.start)

        def at(step: float) -> float:
            line.move(step)
            return objective()

        start = first or self.last * GROW
        try:
            step, good = backtrack(at, value, line.slope(), start, eps)
        # An interruption too must not leave the parameters at a trial point.
        except BaseException:
            line.move(0.0)
            raise
        if good:
            self.last = step
            # One that was accepted at once says nothing of how large a step may be.
            self.smallest = min(step, self.smallest) if step < start else self.smallest
        else:
            line.move(first or min(self.last, self.smallest))
