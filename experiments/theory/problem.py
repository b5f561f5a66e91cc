r"""A cost to descend on: a model over the training part of a data set, plus a quadratic penalty.

    F(theta) = L(model_theta(x), y) + decay/2 ||theta||^2

All is in float64, so that rounding is nothing that is seen. Here the cost is the object, not what it is good
for on other rows.
"""

from dataclasses import asdict, dataclass
from functools import cache, cached_property

import torch

from experiments.data.module import Data, Part
from experiments.model.learner import Learner
from experiments.options import CHOSEN, DataOptions, ModelOptions
from experiments.run import RunError
from experiments.theory.curvature import Surface
from experiments.theory.options import ProblemOptions
from torch_backprop.optim import BatchGD

# Rows of a loader batch: Lightning takes as long for one row as for many, and the optimizer cuts them.
ROWS = 4096


@dataclass(frozen=True)
class Problem:
    """A cost over the training part of a data set.

    Attributes:
        name: What it is called.
        model: What learns.
        data: What it learns from.
        seed: Of the initial parameters.
        decay: Factor of the penalty, which is left to the optimizer.
        start: Factor of the initial parameters.
    """

    name: str
    model: ModelOptions
    data: Data
    seed: int
    decay: float = 0.0
    start: float = 1.0

    @classmethod
    def of(cls, options: ProblemOptions, name: str, decay: float = 0.0) -> "Problem":
        """Return one of the options' problems."""
        model, data = options.named(name)
        return cls(name, model, load(data, options.seed), options.seed, decay)

    @property
    def title(self) -> str:
        """What people call it."""
        words = f"{self.model.name} on {self.data.name}"
        return words if self.name == CHOSEN else self.name.replace("-", " ")

    @cached_property
    def unit(self) -> str:
        """The unit of the cost."""
        return self.learner().unit

    @property
    def rows(self) -> Part:
        """The rows that the cost is the mean over."""
        return self.data.parts["train"]

    @property
    def quadratic(self) -> bool:
        """Whether the cost is quadratic in the parameters."""
        squares = self.data.regression or self.model.cost == "squares"
        return squares and self.model.name in ("linear", "slopes")

    def learner(self) -> Learner:
        """Return the model at its start."""
        data = self.data
        about = {"shape": data.shape, "outputs": data.outputs, "regression": data.regression}
        learner = Learner(**asdict(self.model), **about, seed=self.seed).double()
        with torch.no_grad():
            for theta in learner.parameters():
                theta *= self.start
        return learner

    def surface(self, learner: Learner) -> Surface:
        """Return the cost as a function of the learner's parameters."""
        return Surface(learner, self.rows, self.decay)

    @cached_property
    def limit(self) -> float:
        """2 / lambda_max at the start, of which every rate is a share.

        Raises:
            RunError: If the cost curves upwards nowhere.
        """
        return self.bound(self.learner())

    def bound(self, learner: Learner, tol: float = 1e-4) -> float:
        """Return 2 / lambda_max at the learner's present parameters, with this relative accuracy.

        Raises:
            RunError: If the cost curves upwards nowhere.
        """
        descent = BatchGD(learner.parameters(), lr=1.0, weight_decay=self.decay)
        rows = [(self.rows.x.to(learner.device), self.rows.y.to(learner.device))]
        bound = descent.largest_stable_lr(learner.mean_cost, rows, iterations=1000, tol=tol)
        if bound == torch.inf:
            raise RunError(f"--seed: {self.seed}: {self.title} has no curvature at its start; give another")
        return bound


@cache
def load(options: DataOptions, seed: int) -> Data:
    """Return a data set, which is read once."""
    data = Data(options.name, options.examples, options.context, seed).double()
    data.order.rows = ROWS
    return data
