"""The three variants of gradient descent, from one start and over one order of the examples."""

import math
import warnings

from torch import Tensor

from experiments.theory.problem import Problem
from torch_backprop.optim import BatchGD, Descent, MiniBatchGD, StochasticGD

VARIANTS = ("batch", "stochastic", "mini-batch")
# Rows that are handed to a step at once: the descent itself does not depend on it.
ROWS = 512


def optimizer(variant: str, problem: Problem, lr: float, batch_size: int) -> Descent:
    """Make a variant's optimizer for the parameters of a problem."""
    parameters = problem.model.parameters()
    if variant == "batch":
        return BatchGD(parameters, lr=lr, tol=None)
    if variant == "stochastic":
        return StochasticGD(parameters, lr=lr)
    return MiniBatchGD(parameters, lr=lr, batch_size=batch_size)


def group(variant: str, problem: Problem, batch_size: int) -> int:
    """Return how many examples an update of a variant averages over."""
    return {"batch": len(problem.x), "stochastic": 1}.get(variant, batch_size)


def descend(problem: Problem, descent: Descent, examples: int, seed: int) -> list[float]:
    """Go over so many examples, and return the cost of each step's rows.

    Ends after the first cost that is not finite. Batch descent updates after every pass; a group of the
    others may hold the end of one pass and the start of the next.
    """
    order, costs = problem.order(examples, seed), []
    with warnings.catch_warnings():
        # That the cost may rise is what these experiments are about.
        warnings.filterwarnings("ignore", "The objective rose")
        for whole in order.split(len(problem.x) if isinstance(descent, BatchGD) else examples):
            for part in descent.epoch(whole.split(ROWS)):
                costs.append(_step(problem, descent, part))
                if not math.isfinite(costs[-1]):
                    return costs
    return costs


def _step(problem: Problem, descent: Descent, part: Tensor) -> float:
    try:
        return float(descent.step(problem.cost, problem.x[part], problem.y[part]))
    except ValueError as error:
        if "finite" not in str(error):
            raise
        return math.inf
