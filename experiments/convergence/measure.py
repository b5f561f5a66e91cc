r"""Batch descent down to a minimum that is known to rounding, with what theory says of every update.

For a quadratic cost the whole course is known,

    F(theta_k) - F* = sum_i lambda_i c_i^2 (1 - lr lambda_i)^(2k) / 2,

where c_i is the start's distance from the minimum along the Hessian's eigenvector i. Any other cost is a
quadratic near its minimum, and there the slowest direction alone is left.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.model.learner import Learner
from experiments.run import Run
from experiments.study import Progress
from experiments.theory.curvature import Surface, minimum
from experiments.theory.problem import Problem
from experiments.training import Notes, Training
from torch_backprop.lightning import StopWhenConverged
from torch_backprop.optim import BatchGD

DEFAULT_TOL, PATIENCE = 1e-4, 5
# The share of the run, at its end, over which the slope is measured: the fast directions have died out.
TAIL = 1 / 3
POINTS = 300
# Of more parameters than these all second derivatives are too many, and no minimum is looked for.
MOST_PARAMETERS = 1000
# Updates that lead from where a descent stopped to where Newton's method finds the minimum, and how often.
FARTHER, TRIES = 1000, 20


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
        problem: its title.
        unit: that of its cost.
        parameters: how many it has.
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
    unit: str
    parameters: int
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


class Descended(Notes):
    """Notes the objective and the 2-norm of its gradient before each update of batch descent."""

    def __init__(self, learner: Learner, decay: float) -> None:
        super().__init__()
        self.learner, self.decay = learner, decay

    def begin(self) -> None:
        """Note the start, whose cost the first update knows."""
        self.kept = {"costs": [], "norms": [], "penalty": self._penalty()}

    def see(self, optimizer: BatchGD) -> None:
        """Note what an update has found, and the penalty for the next."""
        self.kept["costs"].append(optimizer.cost + self.kept["penalty"])
        self.kept["norms"].append(optimizer.gradient_norm)
        if optimizer.converged:
            self.kept["stalled"] = optimizer.state_dict()["descent"]["stalled"]
        self.kept["penalty"] = self._penalty()

    @torch.no_grad()
    def _penalty(self) -> float:
        return self.decay / 2 * sum(theta.square().sum().item() for theta in self.learner.parameters())


def measure(run: Run, problem: Problem, progress: Progress) -> Course:
    """Descend on a problem, and hold its course against what the Hessian at the minimum says of it."""
    options, learner = run.options, problem.learner()
    bound, start = problem.limit, problem.surface(learner).point()
    lr = options.rate * bound
    early = descended(run, problem, problem.learner(), lr, DEFAULT_TOL, progress)[0]
    stop, costs, norms = descended(run, problem, learner, lr, options.tol, progress)
    updates = thinned(len(costs), POINTS)
    course = Course(problem.title, problem.unit, len(start), lr, bound, None, None, stop, early, updates)
    floor, found = min(costs), _minimum(problem.surface(learner), lr)
    if found is not None:
        lowest, floor, curvature = found
        course.least, course.most = curvature[0][[0, -1]].tolist()
        if problem.quadratic:
            course.law = quadratic_law(curvature, start - lowest, lr, course.updates)
    for each in (early, stop):
        each.gap -= floor
    course.measured = slope(norms[round(len(norms) * (1 - TAIL)) :])
    course.gaps = [costs[k] - floor for k in course.updates]
    course.norms = [norms[k] for k in course.updates]
    return course


def descended(
    run: Run, problem: Problem, learner: Learner, lr: float, tol: float, progress: Progress
) -> tuple[Stop, list[float], list[float]]:
    """Return where it stopped, its `gap` the cost itself, and cost and gradient norm before each update."""
    settings: dict[str, Any] = {"tol": tol, "n_iter_no_change": PATIENCE, "weight_decay": problem.decay}
    learner.descend = partial(BatchGD, lr=lr, **settings)
    notes, most = Descended(learner, problem.decay), run.options.updates
    examples = most * problem.data.order.examples
    training = Training(f"{problem.name}-{tol:g}", learner, problem.data, problem.seed, examples)
    finite = training.fit(run, notes, progress, [StopWhenConverged()])
    costs, norms = notes.kept["costs"], notes.kept["norms"]
    reason = _reason(notes.kept.get("stalled"), most) if finite else "the cost was no finite number any more"
    return Stop(tol, len(costs), costs[-1], norms[-1], reason), costs, norms


def _reason(stalled: int | None, most: int) -> str:
    if stalled is None:
        return f"the budget of {most:,} updates was spent"
    if stalled >= PATIENCE:
        return f"the cost fell by less than the tolerance in {PATIENCE} updates in a row"
    return "no element of the gradient was larger than the tolerance"


def _minimum(surface: Surface, lr: float) -> tuple[Tensor, float, tuple[Tensor, Tensor]] | None:
    """Return the minimum that the descent leads to, the cost there, and the Hessian's spectrum."""
    theta = surface.point()
    for _ in range(TRIES if len(theta) <= MOST_PARAMETERS else 0):
        lowest = minimum(surface, theta)
        if lowest is not None:
            eigenvalues, eigenvectors = torch.linalg.eigh(surface.hessian(lowest))
            return lowest, surface.at(lowest).item(), (eigenvalues, eigenvectors)
        # Stopped early it may not be near enough for Newton's method.
        for _ in range(FARTHER):
            theta = theta - lr * surface.gradient(theta)
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
