"""The LightningModule that trains any of the networks by any variant of gradient descent."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric, R2Score
from torchmetrics.classification import MulticlassAccuracy

from experiments.model.networks import NETWORKS
from experiments.options import READS
from torch_backprop import nn
from torch_backprop.lightning import DescentMixin
from torch_backprop.optim import Descent, MiniBatchGD

# Rows in one forward pass of a measurement, so that its memory does not grow with the data.
ROWS = 2048


class Diverged(Exception):
    """The cost is no longer a finite number.

    Attributes:
        last_finite_update: The last update after which it still was.
    """

    def __init__(self, updates: int) -> None:
        super().__init__(f"the cost is not finite after update {updates}")
        self.last_finite_update = max(updates - 1, 0)


class Learner(DescentMixin, LightningModule):
    """A network with its cost, its score and its descent.

    Args:
        name: linear, slopes, perceptron, convolution, recurrent or transformer.
        width: Units in a hidden layer, channels, or features of a character.
        depth: Hidden layers, or blocks of a transformer.
        heads: Heads of a transformer's attention, which divide the width.
        cost: "likelihood", which is cross-entropy for classes and mean squared error for values, or
            "squares", the mean squared error of either: a class is then a vector, 1 in its place and else 0.
        shape: Of one input.
        outputs: Number of classes or characters, or 1 for regression.
        regression: Values instead of classes, scored by R2 instead of accuracy.
        seed: Seed of the initial parameters, which depend on nothing else.

    Attributes:
        descend: Makes the optimizer from the parameters.
        unit: Of the cost.
    """

    def __init__(
        self,
        name: str = "perceptron",
        width: int = 32,
        depth: int = 1,
        heads: int = 4,
        cost: str = "likelihood",
        shape: Iterable[int] = (64,),
        outputs: int = 10,
        regression: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "depth": depth, "heads": heads}
        # Forked, so that making a model leaves the caller's random numbers as they were.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = NETWORKS[name](tuple(shape), outputs, **sizes)
        self.squares = regression or cost == "squares"
        self.cost = nn.MSELoss() if self.squares else nn.CrossEntropyLoss()
        likelihood = "nats a character" if "text" in READS[name] else "nats"
        # A regression's target is standardized.
        squares = "variances of the target" if regression else "mean squared error"
        self.unit = squares if self.squares else likelihood
        # Every process measures whole parts.
        alone: Any = {"sync_on_compute": False}
        self.score: Metric = (
            R2Score(**alone) if regression else MulticlassAccuracy(outputs, average="micro", **alone)
        )
        self.descend: Callable[[Any], torch.optim.Optimizer] = partial(MiniBatchGD, lr=0.1, batch_size=32)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores (N, outputs), values (N, 1) or characters' scores (N, T, outputs)."""
        return self.network(x)

    def mean_cost(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cost of some rows; of a text every character counts as much."""
        return self.cost_of(self(x), y)

    def cost_of(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean cost of what `forward` returns for the targets of as many rows."""
        output, y = _flat(output, y)
        # Values are a column already.
        targets = one_hot(y, output.shape[1]).to(output) if self.squares and y.dim() == 1 else y
        return self.cost(output, targets)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the mean cost of those rows of the loader batch that the open group takes.

        Raises:
            Diverged: If it is not finite.
        """
        x, y = self.take(*batch)
        cost = self.mean_cost(x, y)
        # Before the update, which would spread it over all parameters. Without rows there is no mean.
        if len(x) and not math.isfinite(cost.item()):
            raise Diverged(descent(self.trainer).updates)
        return cost

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the counters, where someone reads them: it takes longer than the update of a small model."""
        if self.trainer.loggers:
            super().on_train_batch_end(outputs, batch, batch_idx)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log cost and score of the validation part."""
        self._log("validation", batch)

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log cost and score of the test part."""
        self._log("test", batch)

    @torch.no_grad()
    def measure(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        """Return cost and score over some rows, wherever they are."""
        # Lightning resets a metric only between its own evaluation loops.
        self.score.reset()
        total = 0.0
        for rows, targets in zip(x.split(ROWS), y.split(ROWS), strict=True):
            output, target = _flat(self(rows.to(self.device)), targets.to(self.device))
            self.score.update(output, target)
            total += self.cost_of(output, target).item() * len(rows)
        return total / len(x), self.score.compute().item()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return self.descend(self.parameters())

    def _log(self, part: str, batch: list[Tensor]) -> None:
        cost, score = self.measure(*batch)
        self.log_dict({f"{part}/cost": cost, f"{part}/score": score})


def _flat(output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Put the characters of all examples one below the other."""
    return (output.flatten(0, 1), y.flatten()) if output.dim() == 3 else (output, y)


def descent(trainer: Trainer) -> Descent:
    """Return the optimizer that a trainer is at work with."""
    return cast(Descent, trainer.optimizers[0])
