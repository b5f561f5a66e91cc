"""One step: the windows of one loader batch in turn, each evaluated, added up and given to the open group."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from torch_backprop.optim.cursor import Cursor
from torch_backprop.optim.evaluate import Closure, Cost, check_finite
from torch_backprop.optim.exactness import Observation
from torch_backprop.optim.open_group import Gradients, Part, mean_cost
from torch_backprop.optim.processes import (
    FAILED,
    OtherProcessError,
    add_up,
    gather,
    grouped,
    place,
    unsynchronised,
)
from torch_backprop.optim.transaction import Transaction

NO_TAKE = "The closure never called take(): start it with x, y = optimizer.take(inputs, targets)."

Evaluate = Callable[[], tuple[Any, Gradients]]


class Taker(Protocol):
    """What a walk asks of its optimizer, which takes the parts in; see `Descent`."""

    reduction: str
    _walk: Any
    _unseen: set[str]
    _update_pre_hooks: Any

    def _parameters(self) -> list[Tensor]: ...

    def _room(self) -> float: ...

    def _hand_out(self, rows: tuple[Any, ...]) -> tuple[Any, ...]: ...

    def _differentiate(self, evaluate: Evaluate) -> tuple[Any, Gradients]: ...

    def _absorb(self, part: Part) -> None: ...


class Walk:
    """A walk of `optimizer` through one loader batch.

    Args:
        optimizer: takes the parts in, by its `_absorb`.
        closure, rows: as `Descent.step` has them.
        transaction: is told to save before the first update that may have to be undone.
    """

    def __init__(
        self,
        optimizer: Taker,
        closure: Callable[..., Any],
        rows: tuple[Any, ...],
        transaction: Transaction,
    ) -> None:
        self.optimizer, self.transaction = optimizer, transaction
        self.source = Cost(closure, lambda: optimizer._hand_out(rows)) if rows else Closure(closure)
        self.parameters = [theta for theta in optimizer._parameters() if theta.requires_grad]
        self.device = optimizer._parameters()[0].device
        self.rank, self.processes = place()
        self.cursor = Cursor()
        self.costs: list[tuple[float, float]] = []
        self.handed: list[tuple[Any, ...]] = []
        self.observation: Observation | None = None
        self.last_cost: Any = None

    def run(self, rows: tuple[Any, ...], weight: Any) -> None:
        """Go through all windows; `rows` and `weight` are those of a function of the rows, if it is one."""
        # In a group of one as well, for DistributedDataParallel would wait for its own backward.
        with unsynchronised() if grouped() else nullcontext():
            if rows:
                self._guarded(lambda: self._admit(rows, weight))
            while not self.cursor.done:
                if self.cursor.count is not None:
                    self.cursor.open(self.optimizer._room())
                # Not through a variable, which would keep the gradients while the next ones are computed.
                self._finish(self._guarded(self._evaluate))

    def take(self, rows: tuple[Any, ...], weight: Any) -> tuple[Any, ...]:
        """Return the window's rows to a closure, in its first call after the rows before its own are done."""
        if self.cursor.count is None:
            self._admit(rows, weight)
            self.cursor.open(self.optimizer._room())
            while not self.cursor.own and not self.cursor.done:
                self._finish(Part())
                self.cursor.open(self.optimizer._room())
        else:
            self.cursor.admit(rows, weight)
        return self.hand_out(rows)

    def hand_out(self, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the window's rows."""
        part = self.cursor.part(rows)
        self.handed.append(part)
        if self.observation and self.cursor.weights is None and self.cursor.own > 1:
            return self.observation.watched(part)
        return part

    def report(self) -> Tensor | None:
        """Return the mean (or sum) of the cost over all rows, in float32 or wider."""
        return report(self.costs, self.last_cost, self.optimizer.reduction, self.processes)

    def finish(self, value: Any, gradients: Gradients) -> None:
        """Finish a window whose rows were taken in an evaluation that another began."""
        self._finish(self._part(value, gradients))

    def _admit(self, rows: tuple[Any, ...], weight: Any) -> None:
        self.cursor.admit(rows, weight)
        if self.processes > 1:
            self.cursor.share(gather(self.cursor.count or 0, self.device), self.rank)

    def _evaluate(self) -> Part:
        cursor = self.cursor
        self.handed = []
        # Rows without weight are not computed by a cost, since their mean is 0 / 0.
        needless = not cursor.own or (isinstance(self.source, Cost) and not cursor.weight)
        if cursor.count is not None and needless:
            return Part()
        return self._part(*self.optimizer._differentiate(self._gradients))

    def _part(self, value: Any, gradients: Gradients) -> Part:
        if not self.cursor.taken:
            raise RuntimeError(NO_TAKE)
        part = part_of(value, gradients, self.cursor.weight, self.optimizer.reduction)
        if part.weight:
            self.last_cost = value
        return part

    def _gradients(self) -> tuple[Any, Gradients]:
        unseen = self.optimizer._unseen
        alone = self.cursor.count is not None and self.cursor.own == 1
        if not unseen or (alone and "layers" not in unseen):
            return self.source.gradients(self.parameters, None)
        self.observation = observation = Observation(unseen)
        try:
            with observation.layers():
                look = observation.look if observation.watches else None
                found = self.source.gradients(self.parameters, look)
        except OtherProcessError:
            raise
        except Exception:
            if not observation.rows:
                raise
            # Once more with plain rows: the user's function may not bear rows that require grad.
            self.handed, self.observation = [], None
            found = self.source.gradients(self.parameters, None)
        finally:
            self.observation = None
        observation.warn()
        return found

    def _finish(self, part: Part) -> None:
        cursor = self.cursor
        # A closure may learn only from take that no row is left for it.
        if cursor.done:
            return
        part.examples = cursor.examples
        if self.processes > 1:
            part = add_up(part, self.parameters, cursor.examples)
        # The last update of a step cannot be followed by a failure, but a hook may fail before it.
        may_fail = cursor.last < cursor.total or self.optimizer._update_pre_hooks
        if may_fail and not self.transaction.saved:
            self.transaction.save()
        self.optimizer._absorb(part)
        # Not the part, whose gradients would stay in memory up to the end of the step.
        self.costs.append((part.cost, part.weight))
        cursor.advance()

    def _guarded(self, function: Callable[[], Any]) -> Any:
        """Call `function`, and if it fails tell the other processes, which would wait for this one."""
        try:
            return function()
        except OtherProcessError:
            raise
        except Exception:
            if self.processes > 1 and self.cursor.places is None:
                gather(FAILED, self.device)
            elif self.processes > 1:
                add_up(Part(), self.parameters, 0, failed=True)
            raise


def part_of(value: Any, gradients: Gradients, weight: float, reduction: str) -> Part:
    """Return what rows of this total weight contribute, by their cost, a mean or sum, and its gradients."""
    # A closure that returns nothing, as Lightning's for a training_step that skips, has nothing to add.
    if not weight or (value is None and not gradients):
        return Part()
    share = weight if reduction == "mean" else 1.0
    cost = math.nan if value is None else check_finite(value) * share
    return Part(gradients, share, weight, cost)


def report(costs: list[tuple[float, float]], last: Any, reduction: str, processes: int = 1) -> Tensor | None:
    """Return the mean (or sum) of the cost over all rows, in float32 or wider; `last` is the last cost."""
    wide = isinstance(last, Tensor) and last.dtype in (torch.float32, torch.float64)
    if wide and processes == len(costs) == 1:
        return last
    mean = mean_cost(costs, reduction)
    if mean is None:
        return None
    like = last if isinstance(last, Tensor) else torch.empty(())
    return torch.tensor(mean, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
