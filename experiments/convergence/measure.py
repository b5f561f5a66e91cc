r"""Batch descent down to a minimum that is known to rounding, with what theory says of every update.

For a quadratic cost the whole course is known,

    F(theta_k) - F* = sum_i lambda_i c_i^2 (1 - lr lambda_i)^(2k) / 2,

where c_i is the start's distance from the minimum along the Hessian's eigenvector i. Any other cost is a
quadratic near its minimum, and there the slowest direction alone is left.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from experiments.study import Progress
from experiments.theory.curvature import Surface, minimum
from experiments.theory.problem import Problem, least_squares, logistic_regression, perceptron
from torch_backprop.optim import BatchGD

PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "quadratic": least_squares,
    "logistic-regression": logistic_regression,
    "perceptron": perceptron,
}
DEFAULT_TOL, PATIENCE = 1e-4, 5
# The share of the run, at its end, over which the slope is measured: the fast directions have died out.
TAIL = 1 / 3
POINTS = 300


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

    Where no minimum was found the eigenvalues are None, and `gaps` are over the lowest cost that was seen.
    """

    problem: str
    lr: float
    bound: float
    least: float | None
    most: float | None
    stop: Stop
    early: Stop
    updates: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    law: list[float] = field(default_factory=list)
    measured: float = math.nan

    @property
    def theoretical(self) -> float:
        """By what factor an update lowers the gradient norm in the end; NaN where that is not known."""
        if self.least is None or self.most is None:
            return math.nan
        return max(abs(1 - self.lr * self.least), abs(1 - self.lr * self.most))

    @property
    def condition(self) -> float:
        """The ratio of the largest to the smallest eigenvalue at the minimum; NaN where that is not known."""
        return math.nan if self.least is None or self.most is None else self.most / self.least

    @classmethod
    def of(cls, kept: dict[str, Any]) -> "Course":
        """Return the course that ``asdict`` made this of."""
        return cls(**{**kept, "stop": Stop(**kept["stop"]), "early": Stop(**kept["early"])})


def measure(name: str, share: float, tol: float, most: int, seed: int, progress: Progress) -> Course:
    """Descend on one problem of `PROBLEMS`.

    Args:
        name: the problem.
        share: the learning rate over the bound 2 / lambda_max at the start.
        tol: as of BatchGD.
        most: the largest number of updates.
        seed: of the initial parameters.
        progress: told the share of `most` that is done, and the state in words.
    """
    problem = PROBLEMS[name](seed)
    start = Surface(problem).point()
    bound = _optimizer(problem, 1.0, tol).largest_stable_lr(problem.cost, [(problem.x, problem.y)])
    lr, end = share * bound, problem.fresh()
    early = _descend(problem.fresh(), lr, DEFAULT_TOL, most, lambda *_: None)[0]
    stop, costs, norms = _descend(end, lr, tol, most, progress)
    course = Course(name, lr, bound, None, None, stop, early, thinned(len(costs), POINTS))
    floor = min(costs)
    found = _minimum(end, lr)
    if found is not None:
        lowest, floor, curvature = found
        course.least, course.most = curvature[0][[0, -1]].tolist()
        if name == "quadratic":
            course.law = quadratic_law(curvature, start - lowest, lr, course.updates)
    for each in (early, stop):
        each.gap -= floor
    course.measured = slope(norms[round(len(norms) * (1 - TAIL)) :])
    course.gaps = [costs[k] - floor for k in course.updates]
    course.norms = [norms[k] for k in course.updates]
    return course


def _minimum(problem: Problem, lr: float) -> tuple[Tensor, float, tuple[Tensor, Tensor]] | None:
    """Return the minimum that the descent leads to, the cost there, and the Hessian's spectrum."""
    # Stopped early it may not be near enough for Newton's method: it goes on, unseen.
    for _ in range(5):
        surface = Surface(problem)
        lowest = minimum(surface, surface.point())
        if lowest is not None:
            eigenvalues, eigenvectors = torch.linalg.eigh(surface.hessian(lowest))
            return lowest, surface.at(lowest).item(), (eigenvalues, eigenvectors)
        _descend(problem, lr, 1e-13, 5000, lambda *_: None)
    return None


def quadratic_law(
    curvature: tuple[Tensor, Tensor], offset: Tensor, lr: float, updates: list[int]
) -> list[float]:
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
    """Return the factor from each value to the next, by least squares on the logarithms; NaN of one alone.

    >>> round(slope([8.0, 4.0, 2.0, 1.0]), 12)
    0.5
    """
    if len(values) < 2:
        return math.nan
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
    """Return where it stopped, its `gap` the cost itself, and cost and gradient norm before each update."""
    optimizer = _optimizer(problem, lr, tol)
    costs: list[float] = []
    norms: list[float] = []
    with warnings.catch_warnings():
        # At the edge of stability it may; the figure shows it.
        warnings.filterwarnings("ignore", "The objective rose")
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
