r"""The core of the three optimizers: groups of examples, cut out of loader batches of any size.

Examples arrive in one order per pass and are cut into groups G; each closed group makes one update with

    g = sum_{i in G} w_i grad l_i(theta) / sum_{i in G} w_i

Numerator and denominator are summed apart and divided once. Rows after a group's end inside a loader batch
are computed at the new theta, so the optimizer hands out the rows. Each row is computed once.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from torch_backprop.optim.arguments import check_choice
from torch_backprop.optim.evaluate import differentiate, report, run
from torch_backprop.optim.open_group import Gradients, OpenGroup
from torch_backprop.optim.rows import Cursor
from torch_backprop.optim.state import pack_open_group, refuse_foreign_state, unpack_open_group
from torch_backprop.optim.update import Rate, Updater

Batch = TypeVar("Batch")

NO_COST = (
    "step() needs the cost: write optimizer.step(cost, inputs, targets), or optimizer.step(closure) with"
    " optimizer.take(inputs, targets) inside the closure."
)


class Descent(Updater):
    """Base of BatchGD, StochasticGD and MiniBatchGD, which say how many examples make a group.

    Args:
        params: parameters, named parameters, or dicts of parameter groups with settings of their own.
        lr: learning rate per update: a number, a one-element tensor, or a function of the count of updates.
        momentum: mu in [0, 1).
        dampening: tau in [0, 1], of the gradient that enters the momentum.
        nesterov: use Nesterov's momentum.
        weight_decay: lambda, the factor of an added L2 penalty lambda/2 ||theta||^2.
        maximize: ascend instead.
        max_norm: bound of the 2-norm of each group's mean gradient over all parameters, or None.
        reduction: what the cost of several rows is, their (weighted) "mean" or their "sum".

    Attributes:
        updates: the number of parameter updates made.
        examples_seen: the number of examples used, those of weight 0 included.

    Raises:
        ValueError: if an argument is out of its range.
    """

    group_size: float

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor | Rate,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        max_norm: float | None = None,
        reduction: str = "mean",
    ) -> None:
        check_choice("reduction", reduction, ("mean", "sum"))
        self.reduction = reduction
        self.examples_seen = 0
        self._group = OpenGroup()
        self._cursor: Cursor | None = None
        settings = {"lr": lr, "momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        super().__init__(params, {**settings, "weight_decay": weight_decay, "maximize": maximize}, max_norm)

    def epoch(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches of one pass over `loader`, and close the open group at its end.

        A pass that is broken off leaves its group open.
        """
        yield from loader
        # Not in a finally: a generator is closed whenever Python collects it, which is no time for an update.
        self.end_epoch()

    def step(self, closure: Callable[..., Any] | None = None, *rows: Any, weight: Any = None) -> Any:
        """Descend over one loader batch, with an update wherever a group ends.

        Args:
            closure: with `rows`, a function cost(*rows) of any of the rows that returns a scalar, their mean
                (or sum, by `reduction`). Without, a function of no arguments that gets its rows from `take`,
                runs backward on their cost and returns it. Called once for each group in the loader batch.
            rows: tensors whose first dimension, of size B, runs over examples, also in tuples and dicts.
            weight: per-example weights w of shape (B,), and then the cost of several rows must be
                sum w l / sum w (or sum w l); pass them as one of the rows too if the cost needs to see them.

        Returns:
            The mean (or sum) of the costs over the rows, each at the parameters it was computed at;
            None if the closure returns None or no row has weight.

        Raises:
            TypeError: if there is no closure, or the rows or the cost are of a wrong kind.
            ValueError: if the rows, the weights or the cost have a wrong shape.
            RuntimeError: if a closure does not call `take` or ``backward``, or a gradient is sparse.
        """
        if not callable(closure):
            raise TypeError(NO_COST)
        if weight is not None and not rows:
            raise TypeError("weight belongs to rows: write optimizer.take(inputs, targets, weight=weight).")
        self._cursor = cursor = Cursor()
        evaluate = partial(self._by_cost, closure, rows) if rows else partial(self._by_closure, closure)
        costs: list[tuple[Any, float]] = []
        try:
            if rows:
                cursor.admit(rows, weight)
            # As torch's own optimizers: the caller may be in no_grad.
            with torch.enable_grad():
                while not cursor.done:
                    costs.append((evaluate(cursor), cursor.weight))
                    cursor.start = cursor.stop
        finally:
            self._cursor = None
        return report(costs, self.reduction)

    def take(self, *rows: Any, weight: Any = None) -> tuple[Any, ...]:
        """Return those rows of the loader batch that belong to the open group, as many values as were given.

        Args:
            rows: the whole loader batch, the same in every call of the closure; see `step`.
            weight: per-example weights of shape (B,); see `step`.

        Raises:
            RuntimeError: if called outside the closure of a `step`.
            TypeError, ValueError: if the rows or weights are not as in `step`.
        """
        if self._cursor is None:
            raise RuntimeError("take() hands out rows inside the closure given to step(): call it there.")
        self._cursor.admit(rows, weight)
        return self._cursor.window(rows, self._room())

    def flush(self) -> None:
        """Close the open group: update with the examples it has. Does nothing if it has none."""
        self._close()

    def end_epoch(self) -> None:
        """Do what the end of a pass asks for; `epoch` and DescentMixin call it."""
        self.flush()

    def state_dict(self) -> dict[str, Any]:
        """Return torch's state, and under "descent" the variant, the counters and the open group."""
        counters = {"updates": self.updates, "examples_seen": self.examples_seen}
        group = pack_open_group(self._group, self._parameters())
        return {**super().state_dict(), "descent": {**self._identity(), **counters, **group}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, to the last bit and in the middle of a group too.

        Raises:
            ValueError: naming the key, if the state is of another optimizer, batch size or shapes.
        """
        parameters = self._parameters()
        refuse_foreign_state(state_dict, self._identity(), parameters)
        # torch keeps the tensors it is given where dtype and device agree: a copy keeps the two apart.
        super().load_state_dict(deepcopy(state_dict))
        descent = state_dict["descent"]
        self.updates, self.examples_seen = descent["updates"], descent["examples_seen"]
        self._group = unpack_open_group(descent, parameters)

    def _identity(self) -> dict[str, Any]:
        return {"variant": type(self).__name__}

    def _room(self) -> float:
        return self.group_size - self._group.examples

    def _by_cost(self, cost: Callable[..., Any], rows: tuple[Any, ...], cursor: Cursor) -> Any:
        part = cursor.window(rows, self._room())
        # Rows without weight are not computed, since their mean is 0 / 0.
        value, gradients = differentiate(cost, part, self._parameters()) if cursor.weight else (None, {})
        self._absorb(gradients, cursor)
        return value

    def _by_closure(self, closure: Callable[[], Any], cursor: Cursor) -> Any:
        value, gradients = run(closure, self._parameters())
        if cursor.count is None or cursor.start == cursor.stop < cursor.count:
            raise RuntimeError(
                "The closure never called take(): start it with x, y = optimizer.take(inputs, targets)."
            )
        self._absorb(gradients if cursor.weight else {}, cursor)
        return value

    def _absorb(self, gradients: Gradients, cursor: Cursor) -> None:
        """Add the gradients of the cursor's rows to the open group, and update if that fills it."""
        self.examples_seen += cursor.examples
        share = cursor.weight if self.reduction == "mean" else 1.0
        if cursor.examples == self.group_size and share == cursor.weight:
            # These rows are a group by themselves and their gradient is its mean: no sums, no rounding.
            self._update(gradients)
            return
        self._group.add(gradients, share, cursor.weight, cursor.examples)
        if self._group.examples == self.group_size:
            self._close()

    def _close(self, fraction: float = 1.0) -> None:
        group, self._group = self._group, OpenGroup()
        self._update(group.mean(fraction))
