"""Who takes part: a variant of gradient descent, and for mini-batches the number of examples in one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from experiments.compare.options import Options
from experiments.run import RunError
from torch_backprop.optim import BatchGD, MiniBatchGD, StochasticGD


@dataclass(frozen=True)
class Contender:
    """One way down.

    Attributes:
        variant: "batch", "stochastic" or "mini-batch".
        size: Examples in one of its groups; those of a whole pass are infinitely many.
        series: Its place among the figures' colours.
    """

    variant: str
    size: float
    series: int

    @property
    def name(self) -> str:
        """What people call it."""
        return f"mini-batch {self.size:g}" if self.variant == "mini-batch" else self.variant

    @property
    def key(self) -> str:
        """What files call it."""
        return self.name.replace(" ", "-")

    def group(self, examples: int) -> int:
        """Return the number of examples in one group of a pass over so many."""
        return int(min(self.size, examples))

    def optimizer(self, lr: float) -> Callable[[Any], torch.optim.Optimizer]:
        """Return what makes the optimizer from the parameters."""
        if self.variant == "mini-batch":
            return partial(MiniBatchGD, lr=lr, batch_size=int(self.size))
        return partial({"batch": BatchGD, "stochastic": StochasticGD}[self.variant], lr=lr)

    def seen(self, updates: int, examples: int) -> int:
        """Return how many examples so many updates see, in passes over `examples`."""
        passes, rest = divmod(updates, math.ceil(examples / self.group(examples)))
        return passes * examples + rest * self.group(examples)

    def budget(self, options: Options, examples: int) -> int | None:
        """Return how many examples the budget lets it see, in whole groups; None if time alone is the limit.

        Args:
            options: Whose budget it is.
            examples: Those of the training part.

        Raises:
            RunError: If the budget is less than one update.
        """
        unit, amount = options.budget
        group = self.group(examples)
        if unit == "seconds":
            return None
        if unit == "epochs":
            return int(amount) * examples
        if unit == "updates":
            return self.seen(int(amount), examples)
        # A pass is cut off between two groups, so that no update is made from less than a whole one.
        passes, rest = divmod(int(amount), examples)
        found = passes * examples + rest // group * group
        if not found:
            raise RunError(f"--examples: {amount:g} are fewer than the {group} of one update of {self.name}")
        return found


def contenders(options: Options) -> list[Contender]:
    """List who takes part; stochastic and batch keep their colours whoever else does."""
    colours = {"batch": 0, "stochastic": 1}
    # Infinitely many: a pass, however long the data turn out to be.
    sizes = {"batch": (math.inf,), "stochastic": (1,), "mini-batch": options.batch_size}
    pairs = [(variant, float(size)) for variant in options.variants for size in sizes[variant]]
    minis = [pair for pair in pairs if pair[0] == "mini-batch"]
    return [
        Contender(*pair, colours.get(pair[0], 2 + minis.index(pair) if pair in minis else 0))
        for pair in pairs
    ]
