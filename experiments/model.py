"""The models, and the LightningModule that trains any of them by any variant of gradient descent."""

import math
from collections.abc import Callable
from typing import cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric, R2Score
from torchmetrics.classification import MulticlassAccuracy

from torch_backprop import nn
from torch_backprop.lightning import DescentMixin
from torch_backprop.optim import BatchGD, Descent, MiniBatchGD, StochasticGD

HIDDEN = 32
MODELS: dict[str, Callable[[int, int], torch.nn.Module]] = {
    "linear": lambda features, outputs: nn.Linear(features, outputs),
    "perceptron": lambda features, outputs: torch.nn.Sequential(
        nn.Linear(features, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, outputs)
    ),
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "batch": lambda parameters, lr, _: BatchGD(parameters, lr=lr),
    "stochastic": lambda parameters, lr, _: StochasticGD(parameters, lr=lr),
    "mini-batch": lambda parameters, lr, size: MiniBatchGD(parameters, lr=lr, batch_size=size),
}


class Diverged(Exception):
    """The cost is no longer a finite number.

    Attributes:
        last_finite_update: The last update after which it still was.
    """

    def __init__(self, updates: int) -> None:
        super().__init__(f"the cost is not finite after update {updates}")
        self.last_finite_update = max(updates - 1, 0)


class Learner(DescentMixin, LightningModule):
    """A model with its cost, its score and its descent.

    Args:
        model: A name in `MODELS`.
        features: Number of input features.
        outputs: Number of classes, or 1 for regression.
        variant: A name in `OPTIMIZERS`.
        lr: Learning rate of one update.
        batch_size: Examples in a mini-batch; the other variants do without.
        seed: Seed of the initial parameters, which depend on nothing else.
        regression: Mean squared error and R2 instead of cross-entropy and accuracy.
    """

    def __init__(
        self,
        model: str,
        features: int,
        outputs: int,
        variant: str,
        lr: float,
        batch_size: int = 32,
        seed: int = 0,
        regression: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.variant, self.lr, self.batch_size = variant, lr, batch_size
        # Forked, so that making a model leaves the caller's random numbers as they were.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = MODELS[model](features, outputs)
        self.cost = nn.MSELoss() if regression else nn.CrossEntropyLoss()
        self.score: Metric = R2Score() if regression else MulticlassAccuracy(outputs, average="micro")

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores (N, outputs) or values (N, 1)."""
        return self.network(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the mean cost of those rows of the loader batch that the open group takes.

        Raises:
            Diverged: If it is not finite.
        """
        x, y = self.take(*batch)
        cost = self.cost(self(x), y)
        # Before the update, which would spread it over all parameters.
        if not math.isfinite(cost.item()):
            raise Diverged(descent(self.trainer).updates)
        return cost

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log cost and score of the test part."""
        cost, score = self.measure(*batch)
        self.log_dict({"test/cost": cost, "test/score": score})

    @torch.no_grad()
    def measure(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Return cost and score over some rows, wherever they are."""
        x, y = x.to(self.device), y.to(self.device)
        output = self(x)
        # Lightning resets a metric only between its own evaluation loops.
        self.score.reset()
        self.score.update(output, y)
        return self.cost(output, y).item(), self.score.compute().item()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the variant's optimizer."""
        return OPTIMIZERS[self.variant](self.parameters(), self.lr, self.batch_size)


def descent(trainer: Trainer) -> Descent:
    """Return the optimizer that a trainer is at work with."""
    return cast(Descent, trainer.optimizers[0])


def describe(model: str, features: int, outputs: int) -> tuple[str, int]:
    """Return a model's shape in words, and its number of parameters."""
    with torch.random.fork_rng():
        network = MODELS[model](features, outputs)
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    widths = "–".join(str(width) for width in (features, *(layer.out_features for layer in layers)))
    return f"{model} {widths}", sum(values.numel() for values in network.parameters())
