"""Stochastic gradient descent. Robbins & Monro (1951), Annals of Mathematical Statistics 22, 400-407."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from torch_backprop.optim.arguments import Rate, Settings, check_choice, check_count, check_number, require
from torch_backprop.optim.averaging import average_in, swap
from torch_backprop.optim.convergence import Convergence
from torch_backprop.optim.open_group import Gradients, Part
from torch_backprop.optim.schedule import Schedule
from torch_backprop.optim.variance_reduction import VarianceReduction, at_snapshot, difference
from torch_backprop.optim.walk import Evaluate
from torch_backprop.optim.whole_pass import WholePass


class StochasticGD(WholePass):
    r"""Stochastic gradient descent: one update per example, whatever the loader's batch size.

        theta <- theta - lr * grad l_i(theta)        i = 1, 2, ... in the loader's order

    A weight scales nothing here, for each example is divided by its own, unless ``normalize="population"``;
    one of 0 skips its example. Feed loader batches of many rows: they are walked one by one. For another
    order in each pass, or independent draws, give the loader a `WindowSampler`.

    Args:
        params: see `Descent`.
        lr: learning rate per update, the first one if there is a schedule.
        schedule: "constant", "optimal", "invscaling" or "adaptive", by the formulas of `Schedule`.
            "optimal" takes the largest weight_decay for alpha; "adaptive" divides by 5 at the end of a pass.
        power_t: the exponent of "invscaling".
        tol: "adaptive" divides where the objective fell by less than this below its lowest value ...
        n_iter_no_change: ... in that many passes in a row.
        average: keep the mean of the iterates, from the first update on, or from update number `average` on;
            `averaged` puts it in place of the parameters.
        variance_reduction: "svrg" takes the gradient over all examples in a pass without updates, and reduces
            the variance of the updates in the next `inner_passes` passes by it. It needs the ends of passes:
            use `epoch`.
        inner_passes: see `variance_reduction`.
        settings: see `Descent`.

    Attributes:
        converged: with schedule="adaptive" whether lr has fallen to 1e-6 and the objective falls no more, and
            None otherwise.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import torch
        >>> theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        >>> optimizer = StochasticGD([theta], lr=0.5, average=True)
        >>> cost = optimizer.step(lambda y: ((theta - y) ** 2).mean() / 2, torch.tensor([1.0, 2.0, 3.0, 6.0]))
        >>> theta.item(), optimizer.updates, optimizer.examples_seen
        (4.0625, 4, 4)
        >>> with optimizer.averaged():
        ...     theta.item()
        1.984375
    """

    group_size = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor | Rate,
        *,
        schedule: str = "constant",
        power_t: float = 0.5,
        tol: float = 1e-3,
        n_iter_no_change: int = 5,
        average: bool | int = False,
        variance_reduction: str | None = None,
        inner_passes: int = 2,
        **settings: Unpack[Settings],
    ) -> None:
        check_number("tol", tol)
        check_count("n_iter_no_change", n_iter_no_change)
        check_count("average", int(average) if isinstance(average, bool) else average, 0)
        check_choice("variance_reduction", variance_reduction, (None, "svrg"))
        check_count("inner_passes", inner_passes)
        self._schedule = Schedule(schedule, power_t, Convergence(tol, n_iter_no_change))
        self.scheduled = schedule != "constant"
        self.converged = False if schedule == "adaptive" else None
        self.average = int(average)
        self._swapped = False
        self._reduction = VarianceReduction(inner_passes) if variance_reduction else None
        super().__init__(params, lr, **settings)
        expected = "another one without weight_decay, which is its alpha: set weight_decay=1e-4"
        require(schedule != "optimal" or self._alpha() > 0, "schedule", schedule, expected)

    def rate(self, group: Mapping[str, Any]) -> float:
        """Return the lr of a parameter group for the next update, by the schedule."""
        return self._schedule.rate(group["eta0"], self.updates, self._alpha())

    def swap_average(self) -> None:
        """Exchange parameters and averages; while they are exchanged, no step can be made."""
        swap(self._parameters(), self.state)
        self._swapped = not self._swapped

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages in place of the parameters inside the block; in such a block they stay there.

        Raises:
            RuntimeError: if there is no average.
        """
        if not self.average:
            raise RuntimeError("There is no average: construct StochasticGD with average=True.")
        if self._swapped:
            yield
            return
        self.swap_average()
        try:
            yield
        finally:
            self.swap_average()

    def _check_ready(self) -> None:
        if self._swapped:
            raise RuntimeError(
                "The parameters are averages now: leave averaged(), or call swap_average() first."
            )

    def _identity(self) -> dict[str, Any]:
        options = {
            "schedule": self._schedule.name,
            "average": self.average,
            "svrg": self._reduction is not None,
        }
        return {**super()._identity(), **options}

    def _progress(self) -> dict[str, Any]:
        schedule, convergence = self._schedule, self._schedule.convergence
        course = {"divisions": schedule.divisions, "objective": schedule.objective, "of": schedule.examples}
        judged = {"best": convergence.best, "stalled": convergence.stalled, "converged": self.converged}
        reduced = self._reduction.pack(self._parameters()) if self._reduction else {}
        return {**super()._progress(), **course, **judged, **reduced, "swapped": self._swapped}

    def _resume(self, progress: dict[str, Any]) -> None:
        super()._resume(progress)
        schedule, convergence = self._schedule, self._schedule.convergence
        schedule.divisions, schedule.objective = progress["divisions"], progress["objective"]
        schedule.examples, self.converged = progress["of"], progress["converged"]
        convergence.best, convergence.stalled = progress["best"], progress["stalled"]
        self._swapped = progress["swapped"]
        if self._reduction:
            self._reduction.unpack(progress, self._parameters())

    def _needs_all(self) -> str:
        if self._schedule.name == "adaptive":
            return "schedule='adaptive' looks at the objective first"
        if self._reduction:
            return "variance_reduction compares the gradients with older ones"
        return "average is taken over all parameters" if self.average else ""

    def _alpha(self) -> float:
        # scikit-learn's one rate for all, though an intercept has no decay.
        return max(group["weight_decay"] for group in self.param_groups)

    def _room(self) -> float:
        # Nothing is updated in a pass for the snapshot, so its rows need not come one by one.
        return math.inf if self._reduction and self._reduction.measures else super()._room()

    def _differentiate(self, evaluate: Evaluate) -> tuple[Any, Gradients]:
        if self._reduction is None or self._reduction.measures:
            return evaluate()
        value, gradients = evaluate()
        with at_snapshot(self._parameters(), self.state), self._quietly():
            _, old = evaluate()
        return value, difference(gradients, old)

    def _absorb(self, part: Part) -> None:
        if self._reduction and self._reduction.measures:
            self.examples_seen += part.examples
            self._reduction.full.add(part)
            return
        if self._schedule.name == "adaptive":
            # Before the update, as scikit-learn sums it up.
            penalty = part.examples * self._penalty()
            self._schedule.see(part.cost + penalty, part.examples)
        super()._absorb(part)

    def _passed(self, rates: Tensor, cost: float) -> None:
        super()._passed(rates, cost)
        if self._schedule.name == "adaptive":
            self._schedule.see(cost, len(rates))

    def _penalty(self) -> float:
        return sum(
            group["weight_decay"] / 2 * theta.detach().norm().item() ** 2
            for group in self.param_groups
            for theta in group["params"]
            if group["weight_decay"]
        )

    def _update(self, gradients: Gradients) -> None:
        if self._reduction:
            gradients = self._reduction.corrected(gradients, self.state)
        super()._update(gradients)

    def _move(self, gradients: Gradients) -> None:
        super()._move(gradients)
        # The update under way is not counted yet.
        count = self.updates + 2 - self.average
        if self.average and count > 0:
            average_in(self._parameters(), self.state, count)

    def _end_pass(self) -> None:
        super()._end_pass()
        if self._schedule.name == "adaptive":
            largest = max(group["eta0"] for group in self.param_groups)
            self.converged = self._schedule.end_pass(largest)
        if self._reduction:
            full = self._reduction.full
            self._reduction.end_pass(self._parameters(), self.state, self._denominator(full))
