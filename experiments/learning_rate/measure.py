r"""The cost after k updates against the learning rate, and the sharpness along batch descent.

On a quadratic cost batch descent diverges beyond 2 / lambda_max and nowhere else; lambda_max is then the same
everywhere. On other costs it changes along the way: batch descent on a network drives it up until it hovers
about 2 / lr, at the edge of stability (Cohen et al. 2021, arXiv:2103.00065).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from experiments.study import Progress
from experiments.theory.problem import Problem, least_squares, one_hot_perceptron
from experiments.theory.variants import descend, group, optimizer
from torch_backprop.optim import BatchGD

PROBLEMS: dict[str, Callable[[int], Problem]] = {"quadratic": least_squares, "perceptron": one_hot_perceptron}
# Rows of digits on which the sharpness is followed: it takes many passes over them to find it once.
SHARPNESS_ROWS = 500
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
class Run:
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


def bound(problem: Problem) -> float:
    """Return 2 / lambda_max at the present parameters."""
    descent = BatchGD(problem.model.parameters(), lr=1.0)
    return descent.largest_stable_lr(problem.cost, [(problem.x, problem.y)], iterations=1000, tol=1e-4)


def attempt(problem: Problem, variant: str, lr: float, updates: int, batch_size: int, orders: int) -> Trial:
    """Descend by so many updates from the problem's start, once for each order of the examples."""
    before, costs = problem.objective(), []
    # Batch descent knows no order.
    for seed in range(1 if variant == "batch" else orders):
        own = problem.fresh()
        descent = optimizer(variant, own, lr, batch_size)
        seen = descend(own, descent, updates * group(variant, own, batch_size), seed)
        cost = own.objective() if math.isfinite(seen[-1]) else math.inf
        costs.append(cost if cost <= before else None)
    return Trial(variant, lr, costs)


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


def follow(problem: Problem, lr: float, updates: int, every: int, progress: Progress) -> Run:
    """Descend by batch, and measure the sharpness every so many updates."""
    run = Run(lr)
    descent = optimizer("batch", problem, lr, 1)
    rows = len(problem.x)
    for number in range(updates + 1):
        if number % every == 0:
            run.updates.append(number)
            run.costs.append(problem.objective())
            run.sharpness.append(2 / bound(problem))
            progress(number / updates, f"cost {run.costs[-1]:.4g}")
        if not all(map(math.isfinite, descend(problem, descent, rows, number))):
            break
    return run
