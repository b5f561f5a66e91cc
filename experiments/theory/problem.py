r"""A cost to descend on: a model with hand-derived layers over real rows, plus a quadratic penalty.

    F(theta) = L(model_theta(x), y) + decay/2 ||theta||^2

All rows count: here the cost is the object, not what it is good for on other rows.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sklearn.datasets
import torch
from torch import Tensor
from torch.nn import Sequential
from torch.nn.functional import one_hot

from experiments.data import standardize
from torch_backprop import nn


@dataclass(frozen=True)
class Problem:
    """A cost over rows.

    Attributes:
        name: what it is called.
        model: maps x of shape (N, features) to outputs.
        loss: the mean over rows of a loss of outputs and targets.
        x: the inputs of all N rows.
        y: their targets.
        decay: factor of the penalty.
    """

    name: str
    model: torch.nn.Module
    loss: torch.nn.Module
    x: Tensor
    y: Tensor
    decay: float = 0.0

    def fresh(self) -> "Problem":
        """Return the same problem with parameters of its own, at their initial values."""
        return replace(self, model=deepcopy(self.model))

    def cost(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of some rows, the penalty left to the optimizer."""
        return self.loss(self.model(x), y)

    @torch.no_grad()
    def penalty(self) -> float:
        """Return decay/2 ||theta||^2."""
        return self.decay / 2 * sum(theta.square().sum().item() for theta in self.model.parameters())

    @torch.no_grad()
    def objective(self) -> float:
        """Return F at the present parameters."""
        return self.cost(self.x, self.y).item() + self.penalty()

    def order(self, examples: int, seed: int) -> Tensor:
        """Return the numbers of so many rows, pass after pass over all of them, each in an order of its own."""
        passes = -(-examples // len(self.x))
        generator = np.random.default_rng(seed)
        order = np.concatenate([generator.permutation(len(self.x)) for _ in range(passes)])
        return torch.tensor(order[:examples])


def table(name: str, dtype: torch.dtype = torch.float64, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """Load a table of scikit-learn: standardized inputs, and classes or standardized values.

    Args:
        name: as in ``sklearn.datasets.load_NAME``.
        dtype: of the inputs, and of targets that are values.
        rows: how many of the first rows; all if None.
    """
    loader: Any = getattr(sklearn.datasets, f"load_{name}")
    x, y = loader(return_X_y=True)
    x, y = x[:rows], y[:rows]
    everything = np.arange(len(x))
    inputs = torch.tensor(standardize(x, everything), dtype=dtype)
    if name == "diabetes":
        return inputs, torch.tensor(standardize(y[:, None], everything), dtype=dtype)
    return inputs, torch.tensor(y)


def least_squares() -> Problem:
    """Return a quadratic cost: linear regression on diabetes by half the mean squared error."""
    x, y = table("diabetes")
    model = seeded(lambda: nn.Linear(x.shape[1], 1, bias=False))
    # The half goes into the rows, so that the Hessian is x'x/N without a factor.
    return Problem("quadratic", model, nn.MSELoss(), x / 2**0.5, y / 2**0.5)


def logistic_regression() -> Problem:
    """Return a strictly convex cost: logistic regression with a penalty on breast_cancer."""
    x, y = table("breast_cancer")
    model = seeded(lambda: nn.Linear(x.shape[1], 1))
    return Problem("logistic regression", model, nn.BCEWithLogitsLoss(), x, y.to(x)[:, None], 1e-2)


def perceptron() -> Problem:
    """Return a cost that is not convex: a perceptron of one hidden layer, with a penalty, on iris."""
    x, y = table("iris")
    model = seeded(lambda: Sequential(nn.Linear(x.shape[1], 4), nn.Tanh(), nn.Linear(4, 3)))
    return Problem("perceptron", model, nn.CrossEntropyLoss(), x, y, 1e-2)


def one_hot_perceptron(rows: int | None = None) -> Problem:
    """Return a perceptron on digits whose cost is the mean squared error of one-hot classes, in float32."""
    x, y = table("digits", torch.float32, rows)
    model = seeded(lambda: Sequential(nn.Linear(x.shape[1], 32), nn.Tanh(), nn.Linear(32, 10))).float()
    return Problem("perceptron", model, nn.MSELoss(), x, one_hot(y).to(x))


def seeded(build: Callable[[], torch.nn.Module], seed: int = 0) -> torch.nn.Module:
    """Build a model whose initial parameters depend on the seed alone, in float64."""
    # Forked, so that the caller's random numbers stay as they were.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().double()
