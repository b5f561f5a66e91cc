"""One pass over tensors in memory, by a path that is chosen or given."""

from __future__ import annotations

import time
from collections.abc import Hashable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_backprop.optim.arguments import check_choice
from torch_backprop.optim.bar import Bar
from torch_backprop.optim.descend.compiled import Compiled, keep, key, known
from torch_backprop.optim.descend.settings import Refused, rates
from torch_backprop.optim.descend.unrolled import Unrolled
from torch_backprop.optim.descend.vectors import Vectors
from torch_backprop.optim.open_group import mean_cost
from torch_backprop.optim.taped import Taped

if TYPE_CHECKING:
    from torch_backprop.optim.descent import Descent

BUILT = (Compiled, Unrolled)
"""The paths that have to be built first, from the fastest on."""
BUILT_NAMES = tuple(kind.name for kind in BUILT)
PATHS = (*BUILT_NAMES, "vectors", "autograd", "tape")
STRETCH = {"compiled": 4096, "unrolled": 1024, "vectors": 1024, "autograd": 256, "tape": 256}
"""Examples of one call of a path, between which the clock is looked at."""
NOT_FINITE = (
    "The cost of example {} is not finite: look at this example, or lower lr."
    " The parameters are those before it."
)
TRIAL = 64
"""Examples by which a slower path is timed at first."""


class Descending:
    """A pass under way.

    Args:
        optimizer: the one that descends.
        model, loss, inputs, targets, path: as `Descent.descend` has them.

    Raises:
        TypeError, ValueError: if they are of a wrong kind or length.
    """

    def __init__(
        self, optimizer: Descent, model: Any, loss: Any, inputs: Any, targets: Any, path: str | None
    ) -> None:
        check_choice("path", path, (None, *PATHS))
        _check_rows(model, inputs, targets)
        optimizer._check_ready()
        self.optimizer, self.path = optimizer, path
        self.what = (optimizer, model, loss, inputs, targets)
        self.inputs, self.targets, self.count, self.done = inputs, targets, len(inputs), 0
        self.taped = Taped(optimizer, model, loss)
        # Of many examples a group's tape takes twice and thrice autograd's time.
        inference = torch.is_inference_mode_enabled() or inputs.is_inference()
        many = path is None and optimizer.group_size > 1 and not inference
        self.step = "autograd" if path == "autograd" or many else "tape"
        self.vectors: Vectors | None = None
        self.built: dict[type[Compiled], Compiled] = {}
        self.keys: dict[type[Compiled], Hashable] = {}
        self.costs: list[tuple[float, float]] = []
        self.refused: set[str] = set()
        # By the slower paths: seconds of an example.
        self.pace = 0.0
        self.taken: dict[str, int] = {}

    def run(self, quiet: bool) -> Tensor | None:
        """Go through all examples, under a progress bar unless `quiet`; returns their mean cost."""
        with Bar(quiet) as bar:
            while self.done < self.count:
                path = self._stretch()
                bar.show(self.done, self.count, f"{self.done} of {self.count} examples, {path}")
        self.optimizer.end_epoch()
        mean = mean_cost(self.costs, self.optimizer.reduction)
        dtype = torch.promote_types(self.optimizer._parameters()[0].dtype, torch.float32)
        return None if mean is None else torch.tensor(mean, dtype=dtype, device=self.inputs.device)

    def _stretch(self) -> str:
        """Descend over some examples, and return the path."""
        runner, start, begun = self._runner(), self.done, time.perf_counter()
        # Examples by which the pace is found are few, for a faster path may be the right one.
        limit = TRIAL if self.path is None and not self.pace else self.count
        if runner is None:
            # A momentum that is to be compiled begins by one example.
            self._by_step(1 if self.path in BUILT_NAMES else min(limit, STRETCH[self.step]))
        else:
            self._by(runner, min(limit, STRETCH[runner.name]))
        path = runner.name if runner else self.step
        seconds = time.perf_counter() - begun
        if path not in BUILT_NAMES and self.done > start:
            self.pace = seconds / (self.done - start)
            self.optimizer._spent += seconds
        return path

    def _runner(self) -> Compiled | Vectors | None:
        """Return what descends over the next examples; None for a step of the optimizer."""
        for kind in BUILT:
            if self.path in (None, kind.name) and kind.name not in self.refused:
                runner = self._unless_refused(kind.name, partial(self._compiled, kind))
                # A momentum begins with its first gradient, and no graph is made for that alone.
                if runner or self.path == kind.name:
                    return runner
                if kind.name not in self.refused:
                    # It may yet be built, and a slower one is not built meanwhile.
                    break
        if self.path in (None, "vectors") and "vectors" not in self.refused:
            self.vectors = self.vectors or self._unless_refused("vectors", lambda: Vectors(*self.what))
            return self.vectors
        return None

    def _unless_refused(self, path: str, make: Any) -> Any:
        try:
            return make()
        except Refused as reason:
            self._refuse(path, reason)
            return None

    def _refuse(self, path: str, reason: Refused) -> None:
        if self.path == path:
            raise ValueError(f"path={path!r} is not possible: {reason}.") from reason
        self.refused.add(path)

    def _compiled(self, kind: type[Compiled]) -> Compiled | None:
        if kind in self.built or not self._has_momenta():
            return self.built.get(kind)
        if kind not in self.keys:
            self.keys[kind] = key(kind, *self.what)
        model, loss, own = self.taped.model, self.taped.loss, self.keys[kind]
        step = known(model, own)
        if step is None and (self.path == kind.name or self._repays_building(kind)):
            begun = time.perf_counter()
            try:
                step = kind(*self.what)
            except Refused as reason:
                keep(model, own, loss, reason)
                raise
            keep(model, own, loss, step)
            kind.building = time.perf_counter() - begun
        if step is not None:
            self.built[kind] = step
        return step

    def _repays_building(self, kind: type[Compiled]) -> bool:
        """Whether the examples ahead, and those that were slower than they might have been, take as long."""
        # With those before, it is never much more than twice the time of who knows the future.
        spent, ahead = self.optimizer._spent, (self.count - self.done) * self.pace
        return bool(spent or self.pace) and spent + ahead >= kind.building

    def _has_momenta(self) -> bool:
        return all(
            "momentum_buffer" in self.optimizer.state.get(theta, {})
            for group in self.optimizer.param_groups
            for theta in group["params"]
            if group["momentum"] and theta.requires_grad
        )

    def _by(self, runner: Compiled | Vectors, limit: int) -> None:
        """Descend over at most `limit` examples; the first that a runner cannot do is left to a step."""
        start, stop = self.done, min(self.count, self.done + limit)
        table = rates(self.optimizer, stop - start)
        try:
            costs = runner.run(self.inputs[start:stop], self.targets[start:stop], table)
        except Refused as reason:
            self._refuse(runner.name, reason)
            return
        count = len(costs)
        if count:
            self.optimizer._passed(table[:count], cost := costs.sum(dtype=torch.float64).item())
            self._count(runner.name, cost, count)
        if count < stop - start:
            self._by_step(1)

    def _by_step(self, limit: int) -> None:
        """Descend over at most `limit` examples by `Descent.step`, at most a group at a time."""
        end = min(self.count, self.done + limit)
        function = self.taped if self.step == "tape" else self.taped.recorded
        while self.done < end:
            start = self.done
            stop = int(min(end, start + self.optimizer._room()))
            try:
                cost = self.optimizer.step(function, self.inputs[start:stop], self.targets[start:stop])
            except ValueError as error:
                blamed = self._not_finite(start, stop)
                if blamed is None:
                    raise
                raise ValueError(NOT_FINITE.format(blamed)) from error
            examples = stop - start
            share = examples if self.optimizer.reduction == "mean" else 1
            self._count(self.step, 0.0 if cost is None else cost.item() * share, examples)

    def _count(self, path: str, cost: float, examples: int) -> None:
        self.costs.append((cost, examples))
        self.taken[path] = self.taken.get(path, 0) + examples
        self.done += examples

    @torch.no_grad()
    def _not_finite(self, start: int, stop: int) -> int | None:
        """Return the first of these examples whose cost is not finite."""
        # A model may not bear a row alone, and then nobody is to blame.
        with suppress(Exception):
            for row in range(start, stop):
                if not torch.isfinite(self.taped(self.inputs[row : row + 1], self.targets[row : row + 1])):
                    return row
        return None


def _check_rows(model: Any, inputs: Any, targets: Any) -> None:
    for name, kind, value in (
        ("model", nn.Module, model),
        ("inputs", Tensor, inputs),
        ("targets", Tensor, targets),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name} is a {type(value).__name__}: descend() takes a {kind.__name__}.")
    for name, tensor in (("inputs", inputs), ("targets", targets)):
        if not tensor.dim():
            raise ValueError(f"{name} is a scalar: its first dimension must run over examples.")
    if len(inputs) != len(targets):
        raise ValueError(
            f"targets has {len(targets)} rows and inputs has {len(inputs)}: each example needs one of both."
        )
