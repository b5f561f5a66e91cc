r"""Batch descent down to a minimum that is known to rounding, with what theory says of every update.

For a quadratic cost the whole course is known: F(theta_k) - F* = sum_i lambda_i c_i^2 (1 - lr lambda_i)^(2k) / 2,
where c_i is the start's distance from the minimum along the Hessian's eigenvector i. Any other cost is a
quadratic near its minimum, and there the slowest direction alone is left.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from experiments.theory.curvature import Surface, minimum
from experiments.theory.problem import Problem, least_squares, logistic_regression, perceptron
from torch_backprop.optim import BatchGD

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "quadratic": least_squares,
    "logistic regression": logistic_regression,
    "perceptron": perceptron,
}
DEFAULT_TOL, PATIENCE = 1e-4, 5
# The share of the run, at its end, over which the slope is measured: the fast directions have died out.
TAIL = 1 / 3
POINTS = 300
Progress = Callable[[float, str], None]


@dataclass
class Stop:
    """Where a descent stopped: after so many updates, so high over the minimum, and why."""

    tol: float
    updates: int
    gap: float
    norm: float
    reason: str


@dataclass
class Course:
    """One descent.

    Attributes:
        problem: its name.
        lr: the learning rate of every update.
        bound: 2 / lambda_max at the start.
        least: the smallest eigenvalue of the Hessian at the minimum.
        most: the largest there.
        stop: where it stopped.
        early: where the default tolerance would have stopped it.
        updates: the updates before which `gaps`, the cost's height over the minimum, and `norms`, the
            gradient's 2-norm, were taken.
        law: the heights that theory gives for `updates`; empty unless the cost is quadratic.
        measured: by what factor an update lowered the gradient norm over the last third.
    """

    problem: str
    lr: float
    bound: float
    least: float
    most: float
    stop: Stop
    early: Stop
    updates: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    law: list[float] = field(default_factory=list)
    measured: float = math.nan

    @property
    def theoretical(self) -> float:
        """By what factor an update lowers the gradient norm in the end."""
        return max(abs(1 - self.lr * self.least), abs(1 - self.lr * self.most))

    @property
    def condition(self) -> float:
        """The ratio of the largest to the smallest eigenvalue at the minimum."""
        return self.most / self.least


def measure(name: str, share: float, tol: float, most: int, progress: Progress) -> Course:
    """Descend on one problem of `PROBLEMS`.

    Args:
        name: the problem.
        share: the learning rate over the bound 2 / lambda_max at the start.
        tol: as of BatchGD.
        most: the largest number of updates.
        progress: told the share of `most` that is done, and the state in words.

    Raises:
        ValueError: if the descent ends at no minimum.
    """
    problem = PROBLEMS[name]()
    bound = _optimizer(problem, 1.0, tol).largest_stable_lr(problem.cost, [(problem.x, problem.y)])
    lr, start = share * bound, Surface(problem).point()
    early = _descend(problem.fresh(), lr, DEFAULT_TOL, most, lambda *_: None)[0]
    end = problem.fresh()
    stop, costs, norms = _descend(end, lr, tol, most, progress)
    surface = Surface(end)
    lowest = minimum(surface, surface.point())
    floor, curvature = surface.at(lowest).item(), torch.linalg.eigh(surface.hessian(lowest))
    for each in (early, stop):
        each.gap -= floor
    least, largest = curvature.eigenvalues[[0, -1]].tolist()
    course = Course(name, lr, bound, least, largest, stop, early)
    course.measured = slope(norms[round(len(norms) * (1 - TAIL)) :])
    course.updates = thinned(len(costs), POINTS)
    course.gaps = [costs[k] - floor for k in course.updates]
    course.norms = [norms[k] for k in course.updates]
    if name == "quadratic":
        course.law = quadratic_law(curvature, start - lowest, lr, course.updates)
    return course


def quadratic_law(curvature: Tensor, offset: Tensor, lr: float, updates: list[int]) -> list[float]:
    """Return the heights over the minimum of batch descent on a quadratic cost.

    Args:
        curvature: the Hessian's eigenvalues (P,) and eigenvectors (P, P), as of ``torch.linalg.eigh``.
        offset: the start, seen from the minimum, of shape (P,).
        lr: the learning rate.
        updates: the numbers of updates k to give the height after.
    """
    eigenvalues, eigenvectors = curvature
    along = eigenvectors.T @ offset
    k = torch.tensor(updates)[:, None]
    shrunk = (1 - lr * eigenvalues) ** k * along
    return ((eigenvalues * shrunk**2).sum(dim=1) / 2).tolist()


def slope(values: list[float]) -> float:
    """Return the factor from each value to the next, by least squares on the logarithms.

    >>> round(slope([8.0, 4.0, 2.0, 1.0]), 12)
    0.5
    """
    logs = torch.tensor(values, dtype=torch.float64).log()
    k = torch.arange(len(values), dtype=torch.float64)
    k = k - k.mean()
    return math.exp((k @ logs / (k @ k)).item())


def thinned(number: int, most: int) -> list[int]:
    """Choose at most about twice `most` of the numbers from 0: dense first, then evenly spaced.

    >>> thinned(5, 10)
    [0, 1, 2, 3, 4]
    """
    even = torch.linspace(0, number - 1, min(most, number)).round().int()
    dense = torch.logspace(0, math.log10(max(number - 1, 1)), min(most, number)).round().int()
    return sorted({0, *even.tolist(), *dense.tolist()} & set(range(number)))


def _optimizer(problem: Problem, lr: float, tol: float) -> BatchGD:
    settings: dict[str, Any] = {"tol": tol, "n_iter_no_change": PATIENCE, "weight_decay": problem.decay}
    return BatchGD(problem.model.parameters(), lr=lr, **settings)


def _descend(
    problem: Problem, lr: float, tol: float, most: int, progress: Progress
) -> tuple[Stop, list[float], list[float]]:
    """Return where it stopped, its `gap` still the cost itself, and cost and gradient norm before each update."""
    optimizer = _optimizer(problem, lr, tol)
    costs: list[float] = []
    norms: list[float] = []
    while not optimizer.converged and optimizer.updates < most:
        penalty = problem.penalty()
        for x, y in optimizer.epoch([(problem.x, problem.y)]):
            optimizer.step(problem.cost, x, y)
        costs.append(optimizer.cost + penalty)
        norms.append(optimizer.gradient_norm)
        if optimizer.updates % 100 == 0:
            progress(optimizer.updates / most, f"cost {costs[-1]:.4g}")
    return Stop(tol, optimizer.updates, costs[-1], norms[-1], _reason(optimizer, most)), costs, norms


def _reason(optimizer: BatchGD, most: int) -> str:
    if not optimizer.converged:
        return f"the budget of {most:,} updates was spent"
    if optimizer.state_dict()["descent"]["stalled"] >= PATIENCE:
        return f"the cost fell by less than the tolerance in {PATIENCE} updates in a row"
    return "no element of the gradient was larger than the tolerance"
