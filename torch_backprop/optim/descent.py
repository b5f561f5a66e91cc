r"""The core of the three optimizers: groups of examples, cut out of loader batches of any size.

Examples arrive in one order per pass and are cut into groups G; each closed group makes one update with

    g = sum_{i in G} w_i grad l_i(theta) / sum_{i in G} w_i

Numerator and denominator are summed apart and divided once. Rows after a group's end inside a loader batch
are computed at the new theta, so the optimizer hands out the rows. Each row is computed once.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from torch_backprop.optim.arguments import Rate, Settings, check_choice
from torch_backprop.optim.one_by_one import OneByOne
from torch_backprop.optim.open_group import Gradients, OpenGroup, Part
from torch_backprop.optim.processes import ENDED, gather, grouped, place
from torch_backprop.optim.short_step import ShortStep
from torch_backprop.optim.state import pack_open_group, refuse_foreign_state, unpack_open_group
from torch_backprop.optim.transaction import Transaction
from torch_backprop.optim.walk import Evaluate, Walk

Batch = TypeVar("Batch")

DEFAULTS: Settings = {
    "momentum": 0.0,
    "dampening": 0.0,
    "nesterov": False,
    "weight_decay": 0.0,
    "maximize": False,
    "max_norm": None,
    "reduction": "mean",
    "normalize": "group",
}
NO_COST = (
    "step() needs the cost: write optimizer.step(cost, inputs, targets), or optimizer.step(closure) with"
    " optimizer.take(inputs, targets) inside the closure."
)
NESTED = "step() was called inside the closure or cost of a step: let that return the cost alone."
SERIAL = "Stochastic descent over {} processes is exact but serial: one example at a time, each sent to all."


class Descent(OneByOne):
    """Base of BatchGD, StochasticGD and MiniBatchGD, which say how many examples make a group.

    Args:
        params: parameters, named parameters, or dicts of parameter groups with settings of their own.
        lr: learning rate per update: a number, a one-element tensor, or a function of the count of updates.
        momentum: mu in [0, 1), by default 0.
        dampening: tau in [0, 1], of the gradient that enters the momentum, by default 0.
        nesterov: use Nesterov's momentum.
        weight_decay: lambda, the factor of an added L2 penalty lambda/2 ||theta||^2, by default 0.
        maximize: ascend instead.
        max_norm: bound of the 2-norm of each group's mean gradient over all parameters, or None.
        reduction: what the cost of several rows is, their (weighted) "mean" or their "sum".
        normalize: what divides a group's sum, its own weight ("group"), or its number of examples
            ("population"), so that weights whose mean over all examples is 1 act in groups of one too.

    Where torch.distributed has several processes, groups span them: each row counts once, in the order of
    `positions`, and every process makes the same updates.

    Attributes:
        updates: the number of parameter updates made.
        examples_seen: the number of examples used, those of weight 0 included.

    Raises:
        ValueError: if an argument is out of its range.
    """

    group_size: float
    # Whether what was handed out is to be kept, by `_absorb`.
    _keeps_rows = False
    # Seconds of passes by paths that need no building.
    _spent = 0.0

    def __init__(
        self, params: Iterable[Any], lr: float | Tensor | Rate, **settings: Unpack[Settings]
    ) -> None:
        unknown = [name for name in settings if name not in DEFAULTS]
        if unknown:
            raise TypeError(f"{type(self).__name__} has no argument {unknown[0]!r}.")
        # What is left of these goes to the parameter groups, which may have their own.
        chosen: dict[str, Any] = {**DEFAULTS, **settings}
        self.reduction, self.normalize = chosen.pop("reduction"), chosen.pop("normalize")
        check_choice("reduction", self.reduction, ("mean", "sum"))
        check_choice("normalize", self.normalize, ("group", "population"))
        max_norm = chosen.pop("max_norm")
        self.examples_seen = 0
        self._group = OpenGroup()
        self._walk: Any = None
        self._transaction: Transaction | None = None
        # One row is never coupled to another.
        self._unseen = {"layers"} if self.group_size == 1 else {"layers", "rows"}
        self._serial = False
        self._quiet: Callable[[], AbstractContextManager[Any]] | None = None
        super().__init__(params, {"lr": lr, **chosen}, max_norm)

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
            ValueError: if the rows, the weights or the cost have a wrong shape, or the cost is not finite.
            RuntimeError: if a closure does not call `take` or ``backward``, or calls `step`, or a gradient is
                sparse. After any exception parameters and state are as they were before the step; what update
                hooks have done meanwhile is not, and an update stands if a hook of the step's last one fails.
        """
        if not callable(closure):
            raise TypeError(NO_COST)
        if weight is not None and not rows:
            raise TypeError("weight belongs to rows: write optimizer.take(inputs, targets, weight=weight).")
        if self._walk is not None:
            raise RuntimeError(NESTED)
        self._check_ready()
        together = grouped()
        if together:
            self._warn_if_serial()
        # Weights, other processes, and rows or layers that are yet to be observed take the longer way.
        short = weight is None and not (together or self._unseen or self._keeps_rows)
        self._transaction = self._transaction or Transaction(self, self._progress, self._resume)
        # As torch's own optimizers: the caller may be in no_grad.
        with self._transaction, torch.enable_grad():
            self._walk = walk = (ShortStep if short else Walk)(self, closure, rows, self._transaction)
            try:
                walk.run(rows, weight)
            finally:
                self._walk = None
        return walk.report()

    def take(self, *rows: Any, weight: Any = None) -> tuple[Any, ...]:
        """Return those rows of the loader batch that belong to the open group, as many values as were given.

        Args:
            rows: the whole loader batch, the same in every call of the closure; see `step`.
            weight: per-example weights of shape (B,); see `step`.

        Raises:
            RuntimeError: if called outside the closure of a `step`.
            TypeError, ValueError: if the rows or weights are not as in `step`.
        """
        if self._walk is None:
            raise RuntimeError("take() hands out rows inside the closure given to step(): call it there.")
        return self._walk.take(rows, weight)

    def flush(self) -> None:
        """Close the open group: update with the examples it has. Does nothing if it has none."""
        if self._group.examples:
            self._set_rates()
        self._close()

    def end_epoch(self) -> None:
        """Do what the end of a pass asks for; `epoch` and DescentMixin call it."""
        # One that goes on with its pass would else wait for the others for ever.
        if place()[1] > 1:
            gather(ENDED, self._parameters()[0].device)
        self._end_pass()

    def state_dict(self) -> dict[str, Any]:
        """Return torch's state, and under "descent" the variant, the counters and the open group."""
        return {**super().state_dict(), "descent": {**self._identity(), **self._progress()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, to the last bit and in the middle of a group too.

        Raises:
            ValueError: naming the key, if the state is of another optimizer, batch size or shapes.
        """
        refuse_foreign_state(state_dict, self._identity(), self.param_groups)
        # torch keeps the tensors it is given where dtype and device agree: a copy keeps the two apart.
        state_dict = deepcopy(state_dict)
        super().load_state_dict(state_dict)
        self._resume(state_dict["descent"])

    def set_quiet(self, quiet: Callable[[], AbstractContextManager[Any]] | None) -> None:
        """Have closures that run again, for a cost at other parameters, do so inside the context `quiet`."""
        self._quiet = quiet

    def _quietly(self) -> AbstractContextManager[Any]:
        return self._quiet() if self._quiet else nullcontext()

    def _check_ready(self) -> None:
        """Raise if no step can be made now."""

    def _identity(self) -> dict[str, Any]:
        return {"variant": type(self).__name__}

    def _progress(self) -> dict[str, Any]:
        counters = {"updates": self.updates, "examples_seen": self.examples_seen}
        return {**counters, **pack_open_group(self._group, self._parameters())}

    def _resume(self, progress: dict[str, Any]) -> None:
        self.updates, self.examples_seen = progress["updates"], progress["examples_seen"]
        self._group = unpack_open_group(progress, self._parameters())

    def _warn_if_serial(self) -> None:
        processes = place()[1]
        if processes > 1 and self.group_size == 1 and not self._serial:
            self._serial = True
            warnings.warn(SERIAL.format(processes), stacklevel=3)

    def _room(self) -> float:
        return self.group_size - self._group.examples

    def _hand_out(self, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        return self._walk.hand_out(rows)

    def _differentiate(self, evaluate: Evaluate) -> tuple[Any, Gradients]:
        """Return the cost and the gradients of the window's rows, by `evaluate`."""
        return evaluate()

    def _absorb(self, part: Part) -> None:
        """Add a part to the open group, and update if that fills it."""
        filled = self._group.examples + part.examples == self.group_size
        # A rate that is refused leaves everything as it was.
        if filled:
            self._set_rates()
        self.examples_seen += part.examples
        self._group.add(part)
        if filled:
            self._close()

    def _passed(self, rates: Tensor, cost: float) -> None:
        """Count examples, one update each, that were descended over without a step, at `rates`."""
        self.updates += len(rates)
        self.examples_seen += len(rates)
        for group, rate, before in zip(self.param_groups, rates[-1].tolist(), self._rates, strict=True):
            if before or self.scheduled:
                group["lr"] = rate
        # A scheduler looks for this, and a step would have said it.
        self._opt_called = True

    def _denominator(self, summed: Part | OpenGroup) -> float:
        return summed.weight if self.normalize == "group" else summed.examples

    def _close(self, fraction: float = 1.0) -> None:
        """Update with `fraction` of the open group's mean gradient."""
        group, self._group = self._group, OpenGroup()
        self._update(group.mean(self._denominator(group) / fraction if group else 1.0))

    def _end_pass(self) -> None:
        self.flush()
