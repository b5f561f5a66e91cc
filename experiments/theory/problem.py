r"""A cost to descend on: a model with hand-derived layers over real rows, plus a quadratic penalty.

    F(theta) = L(model_theta(x), y) + decay/2 ||theta||^2

All rows count: here the cost is the object, not what it is good for on other rows.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import sklearn.datasets
import torch
from torch import Tensor
from torch.nn import Sequential
from torch.nn.functional import one_hot

from torch_backprop import nn

# Two blood serum measurements of diabetes that rise and fall together: a long valley.
COLLINEAR = [4, 5]


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
        """Return the numbers of so many rows: pass after pass over all, each in an order of its own."""
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
    x, y = (torch.tensor(values[:rows]) for values in _shipped(name))
    return _standardized(x).to(dtype), _standardized(y[:, None]).to(dtype) if name == "diabetes" else y


def _standardized(values: Tensor) -> Tensor:
    deviation = values.std(dim=0, correction=0)
    # A column that is constant is only shifted.
    return (values - values.mean(dim=0)) / torch.where(deviation > 0, deviation, 1.0)


@cache
def _shipped(name: str) -> tuple[np.ndarray, np.ndarray]:
    loader: Any = getattr(sklearn.datasets, f"load_{name}")
    return loader(return_X_y=True)


def least_squares(seed: int = 0) -> Problem:
    """Return a quadratic cost: linear regression on diabetes by half the mean squared error."""
    x, y = table("diabetes")
    return _halved("quadratic", seeded(lambda: nn.Linear(x.shape[1], 1, bias=False), seed), x, y)


def two_slopes(seed: int = 0) -> Problem:
    """Return a quadratic cost of two parameters: the slopes along two columns of diabetes that go together.

    The start is far from the minimum, on the side that the seed chooses.
    """
    x, y = table("diabetes")
    model = seeded(lambda: nn.Linear(2, 1, bias=False), seed)
    with torch.no_grad():
        for weight in model.parameters():
            # Neither along the valley nor across it, where a path would be a straight line.
            weight.copy_(weight.new_tensor([[2.2, -0.4]]) * (1 if seed % 2 == 0 else -1))
    return _halved("quadratic", model, x[:, COLLINEAR], y)


def logistic_regression(seed: int = 0) -> Problem:
    """Return a strictly convex cost: logistic regression with a penalty on breast_cancer."""
    x, y = table("breast_cancer")
    model = seeded(lambda: nn.Linear(x.shape[1], 1), seed)
    return Problem("logistic regression", model, nn.BCEWithLogitsLoss(), x, y.to(x)[:, None], 1e-2)


def perceptron(seed: int = 0) -> Problem:
    """Return a cost that is not convex: a perceptron of one hidden layer, with a penalty, on iris."""
    x, y = table("iris")
    model = seeded(lambda: _hidden(x.shape[1], 4, 3), seed)
    return Problem("perceptron", model, nn.CrossEntropyLoss(), x, y, 1e-2)


def digits_perceptron(seed: int = 0, rows: int = 600) -> Problem:
    """Return the perceptron 64-16-10 on digits with its cross-entropy, in float32."""
    x, y = table("digits", torch.float32, rows)
    model = seeded(lambda: _hidden(64, 16, 10), seed).float()
    return Problem("perceptron", model, nn.CrossEntropyLoss(), x, y)


def one_hot_perceptron(seed: int = 0, rows: int | None = None) -> Problem:
    """Return the perceptron 64-32-10 on digits with the mean squared error of one-hot classes, in float32."""
    x, y = table("digits", torch.float32, rows)
    model = seeded(lambda: _hidden(64, 32, 10), seed).float()
    return Problem("perceptron", model, nn.MSELoss(), x, one_hot(y).to(x))


def seeded(build: Callable[[], torch.nn.Module], seed: int = 0) -> torch.nn.Module:
    """Build a model whose initial parameters depend on the seed alone, in float64."""
    # Forked, so that the caller's random numbers stay as they were.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().double()


def _hidden(features: int, width: int, outputs: int) -> torch.nn.Module:
    return Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, outputs))


def _halved(name: str, model: torch.nn.Module, x: Tensor, y: Tensor) -> Problem:
    # The half goes into the rows, so that the Hessian is x'x/N without a factor.
    return Problem(name, model, nn.MSELoss(), x / 2**0.5, y / 2**0.5)
