r"""The cost after k updates against the learning rate, and the sharpness along batch descent.

On a quadratic cost batch descent diverges beyond 2 / lambda_max and nowhere else; lambda_max is then the same
everywhere. On other costs it changes along the way: batch descent on a network drives it up until it hovers
about 2 / lr, at the edge of stability (Cohen et al. 2021, arXiv:2103.00065).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from experiments.compare.contender import Contender
from experiments.model.learner import Learner
from experiments.run import Run
from experiments.study import Progress
from experiments.theory.problem import Problem
from experiments.training import Notes, Training
from torch_backprop.optim import BatchGD, Descent

# The times that the sharpness is measured along a descent.
MEASURED = 50
# Of the sharpness on the way: it hovers by more.
ACCURACY = 1e-3
# A rate is suggested that is at most this share of the smallest that diverged.
SAFE = 0.5


@dataclass(frozen=True)
class Trial:
    """The cost after some updates at a rate, for each of several orders; None where it diverged.

    A descent has diverged if its cost is not finite, or higher than at the start.
    """

    variant: str
    lr: float
    costs: list[float | None]

    @property
    def diverged(self) -> bool:
        """Whether any of the orders diverged."""
        return None in self.costs

    @property
    def cost(self) -> float:
        """The mean cost over the orders, infinite if any diverged."""
        finite = [cost for cost in self.costs if cost is not None]
        return math.inf if self.diverged else sum(finite) / len(finite)


@dataclass
class Course:
    """Batch descent at one rate, and the sharpness lambda_max of the cost at some of its updates.

    Attributes:
        lr: the learning rate.
        updates: the numbers of updates made when the other two were measured.
        sharpness: lambda_max of the Hessian.
        costs: the cost.
    """

    lr: float
    updates: list[int] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)


class Sharpness(Notes):
    """Notes cost and sharpness every so many updates."""

    def __init__(self, problem: Problem, learner: Learner, every: int) -> None:
        super().__init__()
        self.problem, self.learner, self.every = problem, learner, every

    def begin(self) -> None:
        """Note the start."""
        self.kept = {"updates": [], "sharpness": [], "costs": []}
        self._note(0, self.problem.limit)

    def see(self, optimizer: Descent) -> None:
        """Note what some of the updates have come to."""
        if optimizer.updates % self.every == 0:
            self._note(optimizer.updates)

    def _note(self, updates: int, bound: float | None = None) -> None:
        cost = self.problem.surface(self.learner).here()
        # It may diverge, and has no curvature then.
        if math.isfinite(cost):
            self.kept["updates"].append(updates)
            self.kept["costs"].append(cost)
            self.kept["sharpness"].append(2 / (bound or self.problem.bound(self.learner, ACCURACY)))


def attempt(run: Run, problem: Problem, who: Contender, lr: float, progress: Progress) -> list[float | None]:
    """Train by so many updates from the problem's start, once for each order of the examples.

    Returns:
        The cost at the end of each; None where it diverged.
    """
    options, rows, costs = run.options, problem.data.order.examples, []
    before = problem.surface(problem.learner()).here()
    # Batch descent knows no order.
    orders = 1 if who.variant == "batch" else options.repeats
    for number in range(orders):
        learner = problem.learner()
        learner.descend = who.optimizer(lr)
        name = f"{problem.name}-{who.key}-{lr:.4g}-{number}"
        training = Training(
            name, learner, problem.data, options.seed + number, who.seen(options.updates, rows)
        )
        finite = training.fit(
            run, Notes(), lambda share, text, at=number: progress((at + share) / orders, text)
        )
        cost = problem.surface(learner).here() if finite else math.inf
        costs.append(cost if cost <= before else None)
    return costs


def edge(trials: Sequence[Trial], variant: str) -> tuple[float, float]:
    """Return the last rate before the first that diverged, and that one.

    Where none diverged the second is infinite, where all did the first is 0.
    """
    own = sorted((trial for trial in trials if trial.variant == variant), key=lambda trial: trial.lr)
    lost = min((trial.lr for trial in own if trial.diverged), default=math.inf)
    return max((trial.lr for trial in own if trial.lr < lost), default=0.0), lost


def suggestion(trials: Sequence[Trial], variant: str) -> Trial | None:
    """Return the trial of lowest cost among the rates at a safe distance from divergence, if there is one."""
    most = SAFE * edge(trials, variant)[1]
    safe = [trial for trial in trials if trial.variant == variant and trial.lr <= most]
    return min(safe, key=lambda trial: trial.cost, default=None)


def follow(run: Run, problem: Problem, share: float, progress: Progress) -> Course:
    """Descend by batch at a share of the bound, and measure the sharpness along the way."""
    updates, learner = run.options.sharpness_updates, problem.learner()
    lr = share * problem.limit
    learner.descend = partial(BatchGD, lr=lr, tol=None)
    notes = Sharpness(problem, learner, max(20, updates // MEASURED))
    examples = updates * problem.data.order.examples
    Training(f"{problem.name}-sharpness-{share:g}", learner, problem.data, 0, examples).fit(
        run, notes, progress
    )
    return Course(lr, **notes.kept)
