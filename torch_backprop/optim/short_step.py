"""One step over a loader batch of which every row belongs to the open group: a `Walk` of one window.

Groups of one row, fed one at a time, would pay for more than a plain loop does in `zero_grad` and `step`.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from torch_backprop.optim.evaluate import Closure, Cost
from torch_backprop.optim.open_group import Gradients
from torch_backprop.optim.rows import count_rows
from torch_backprop.optim.transaction import Transaction
from torch_backprop.optim.walk import NO_TAKE, Taker, Walk, part_of, report


class ShortStep:
    """Stands in for a `Walk` on a single process, without weights, with nothing left to observe.

    How many rows a closure takes is known when it takes them: with too many, a Walk goes on from there.

    Args:
        optimizer, closure, rows, transaction: as `Walk` has them.
    """

    def __init__(
        self,
        optimizer: Taker,
        closure: Callable[..., Any],
        rows: tuple[Any, ...],
        transaction: Transaction,
    ) -> None:
        self.optimizer, self.closure, self.transaction = optimizer, closure, transaction
        self.source = Cost(closure, lambda: rows) if rows else Closure(closure)
        self.parameters = [theta for theta in optimizer._parameters() if theta.requires_grad]
        self.rows: tuple[Any, ...] = ()
        self.count = 0
        self.costs: list[tuple[float, float]] = []
        self.last_cost: Any = None
        self.walk: Walk | None = None

    def run(self, rows: tuple[Any, ...], weight: None) -> None:
        """Go through the only window; `rows` are those of a function of the rows, if it is one."""
        if rows and not self._admit(rows):
            self._hand_over(rows)
        else:
            # Not through a variable, which would keep the gradients while a Walk computes the next ones.
            self._finish(self.optimizer._differentiate(self._gradients))
        if self.walk:
            self.walk.run(rows, weight)

    def take(self, rows: tuple[Any, ...], weight: Any) -> tuple[Any, ...]:
        """Return the rows to a closure."""
        if weight is None and self._admit(rows):
            return rows
        walk = self._hand_over(())
        # What the closure has by now counts as taken from the Walk.
        if self.count:
            walk.take(self.rows, None)
        return walk.take(rows, weight)

    def report(self) -> Tensor | None:
        """Return the mean (or sum) of the cost over all rows, in float32 or wider."""
        return (
            self.walk.report() if self.walk else report(self.costs, self.last_cost, self.optimizer.reduction)
        )

    def _admit(self, rows: tuple[Any, ...]) -> bool:
        count = count_rows(rows)
        if self.count or not 0 < count <= self.optimizer._room():
            return count == self.count > 0
        self.rows, self.count = rows, count
        return True

    def _hand_over(self, rows: tuple[Any, ...]) -> Walk:
        self.walk = Walk(self.optimizer, self.closure, rows, self.transaction)
        self.optimizer._walk = self.walk
        return self.walk

    def _gradients(self) -> tuple[Any, Gradients]:
        return self.source.gradients(self.parameters, None)

    def _finish(self, found: tuple[Any, Gradients]) -> None:
        if self.walk:
            self.walk.finish(*found)
            return
        if not self.count:
            raise RuntimeError(NO_TAKE)
        self.last_cost = found[0]
        part = part_of(*found, self.count, self.optimizer.reduction)
        part.examples = self.count
        if self.optimizer._update_pre_hooks:
            self.transaction.save()
        self.optimizer._absorb(part)
        self.costs.append((part.cost, part.weight))
