"""What a descent over tensors in memory is made of: a pass under way, and the paths that take it on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_backprop.optim.descend.settings import rates
from torch_backprop.optim.descent import Descent


@dataclass
class Pass:
    """A pass under way.

    Attributes:
        optimizer: the one that descends.
        model, loss, inputs, targets: as `WholePass.descend` has them.
        total: the number of examples.
        asked: whether the caller asked for a path.
        done: the number of examples that have been descended over.
        taken: how many of these by each path.
        costs: of each part of these, the sum (or as `Descent.reduction` has it) and the number.
        pace: seconds of an example by a path that needs no building; 0 as long as it is not known.
        keys: of each path that is built, what its step depends on; nothing of that changes within a pass.
    """

    optimizer: Descent
    model: Any
    loss: Any
    inputs: Any
    targets: Any
    total: int
    asked: bool
    done: int = 0
    taken: dict[str, int] = field(default_factory=dict)
    costs: list[tuple[float, float]] = field(default_factory=list)
    pace: float = 0.0
    keys: dict[type[Path], Hashable] = field(default_factory=dict)

    def rows(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return inputs and targets of some examples."""
        return pytree.tree_map_only(Tensor, lambda x: x[start:stop], (self.inputs, self.targets))

    def count(self, path: str, cost: float, examples: int) -> None:
        """Note that a path has descended over examples."""
        self.costs.append((cost, examples))
        self.taken[path] = self.taken.get(path, 0) + examples
        self.done += examples

    def repays(self, seconds: float) -> bool:
        """Whether the examples ahead, and those that were slower than they might have been, take as long."""
        # With those before, it is never much more than twice the time of who knows the future.
        spent, ahead = self.optimizer._spent, (self.total - self.done) * self.pace
        return bool(spent or self.pace) and spent + ahead >= seconds


class Path(ABC):
    """One way to descend.

    Attributes:
        name: by which it is asked for.
        stretch: the examples of one call, between which the clock is looked at.
        built: whether it has to be built first.
    """

    name: str
    stretch: int
    built = False

    @classmethod
    @abstractmethod
    def open(cls, course: Pass) -> Path | None:
        """Return the path for a pass; None where it is not worth taking, or not yet.

        Raises:
            Refused: if it can never make this descent, with the reason.
        """

    @abstractmethod
    def advance(self, course: Pass, stop: int) -> None:
        """Descend over the examples up to `stop`, or up to the first that it cannot do.

        Raises:
            Refused: if it turns out that it cannot make this descent; nothing is done then.
        """


class Stretches(Path):
    """Takes many examples, one update each, in one call of `run`."""

    def advance(self, course: Pass, stop: int) -> None:
        """Descend, and have the optimizer count."""
        table = rates(course.optimizer, stop - course.done)
        costs = self.run(*course.rows(course.done, stop), table)
        if count := len(costs):
            cost = costs.sum(dtype=torch.float64).item()
            course.optimizer._passed(table[:count], cost)
            course.count(self.name, cost, count)

    @abstractmethod
    def run(self, inputs: Tensor, targets: Tensor, rates: Tensor) -> Tensor:
        """Descend over some examples at their rates, of shape (N, parameter groups).

        Returns:
            The cost of each example before its update, up to the first that cannot be done: one whose cost is
            not finite, or that has an index which is out of range.
        """
