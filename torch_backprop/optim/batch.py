"""Batch gradient descent. Cauchy (1847), Comptes rendus 25, 536-538."""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from torch_backprop.optim.arguments import Rate, Settings, check_choice, check_count, check_number, require
from torch_backprop.optim.bar import Bar
from torch_backprop.optim.convergence import Convergence
from torch_backprop.optim.line_search import ROUNDING, Line, LineSearch
from torch_backprop.optim.open_group import Gradients, OpenGroup, Part
from torch_backprop.optim.processes import place, real, total, unsynchronised
from torch_backprop.optim.replay import Replay, Slice
from torch_backprop.optim.rows import moved
from torch_backprop.optim.stability import Hessian, largest_eigenvalue, show
from torch_backprop.optim.step_size import secant_step
from torch_backprop.optim.update import decayed
from torch_backprop.optim.whole_pass import WholePass

NO_OBJECTIVE = (
    "line_search needs to know what to lower: return the cost from the closure, and let all parameter groups"
    " maximize or none."
)


class BatchGD(WholePass):
    r"""Batch gradient descent: one update per pass, from the exact gradient over all N examples.

        theta <- theta - lr * sum_{i=1}^{N} w_i grad l_i(theta) / sum_{i=1}^{N} w_i

    The update is made at the end of the pass, by `epoch` or `flush`. The parameters are constant during a
    pass, so its sums are the exact cost and gradient, for free.

    Args:
        params: see `Descent`.
        lr: learning rate per update; with a line search or step sizes of its own, the first one tried.
        line_search: "armijo" halves the step until the cost falls enough, and tries twice as much at the next
            update. It keeps the rows of the pass, and computes their cost, without backward, at each trial.
        step_size: "barzilai-borwein" takes the step from the last two gradients.
        tol: `converged` turns True where no element of the gradient is larger in size, or the objective
            fell by less in each of the last passes; None leaves it False.
        n_iter_no_change: how many passes these are.
        settings: see `Descent`; a momentum cannot go with `line_search` or `step_size`.

    Attributes:
        cost: the mean cost of the examples in the last pass, before its update.
        gradient_norm: the 2-norm of the gradient then, weight decay included.
        converged: whether the descent has come to its end; see `tol`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        >>> optimizer = BatchGD([theta], lr=0.5)
        >>> loader = torch.tensor([1.0, 2.0, 3.0, 6.0]).split(3)
        >>> for y in optimizer.epoch(loader):
        ...     cost = optimizer.step(lambda y: ((theta - y) ** 2).mean() / 2, y)
        >>> theta.item(), optimizer.updates, optimizer.cost, optimizer.gradient_norm
        (1.5, 1, 6.25, 3.0)
    """

    group_size = math.inf

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor | Rate,
        *,
        line_search: str | None = None,
        step_size: str | None = None,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 5,
        **settings: Unpack[Settings],
    ) -> None:
        check_choice("line_search", line_search, (None, "armijo"))
        check_choice("step_size", step_size, (None, "barzilai-borwein"))
        if tol is not None:
            check_number("tol", tol)
        check_count("n_iter_no_change", n_iter_no_change)
        self.line_search, self.step_size = line_search, step_size
        self._keeps_rows = line_search is not None
        self.cost = self.gradient_norm = math.nan
        self.converged = False
        self._convergence = Convergence(tol, n_iter_no_change)
        self._search = LineSearch()
        self._objective, self._rose = math.inf, False
        # Of the pass: its rows, what evaluates them, and their count or weight.
        self._kept: list[Slice] = []
        self._source: Any = None
        self._divisor = 1.0
        super().__init__(params, lr, **settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own; see `Updater.add_param_group`."""
        momentum = param_group.get("momentum", self.defaults["momentum"])
        own = "line_search" if self.line_search else "step_size"
        allowed = not (self.line_search or self.step_size) or momentum == 0
        require(allowed, "momentum", momentum, f"0 with {own}, which steps along the gradient")
        super().add_param_group(param_group)

    def largest_stable_lr(
        self,
        cost: Callable[..., Any],
        loader: Iterable[Any],
        *,
        iterations: int = 200,
        tol: float = 1e-6,
        quiet: bool = False,
    ) -> float:
        """Return 2 / lambda_max of the objective's Hessian at the present parameters.

        Args:
            cost: as for `step`; it must be twice differentiable.
            loader: the batches of one pass; each of the `iterations` goes through it again.
            iterations: bound of the number of passes.
            tol: relative accuracy of lambda_max.
            quiet: show no progress bar, which else appears on a terminal after two seconds.

        Returns:
            The bound, infinite if no direction curves upwards; without momentum larger rates diverge.

        Raises:
            ValueError: if an argument is out of its range, or `loader` can be gone through only once.
        """
        check_count("iterations", iterations)
        check_number("tol", tol)
        pairs = [(theta, group) for group in self.param_groups for theta in group["params"]]
        trained = [theta for theta, _ in pairs if theta.requires_grad]
        decay = [group["weight_decay"] for theta, group in pairs if theta.requires_grad]
        # Ascent is descent of the negative, whose curvature is the negative's.
        hessian = Hessian(cost, loader, trained, self.reduction, self._sign(), decay)
        with Bar(quiet) as bar:
            hessian.look = lambda products, batch: show(bar, products, iterations, batch)
            eigenvalue = largest_eigenvalue(hessian.product, trained, iterations, tol)
        return 2 / eigenvalue if eigenvalue > 0 else math.inf

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "line_search": self.line_search, "step_size": self.step_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`; see `Descent.load_state_dict`."""
        # A state is one process's, and so are the rows that a line search has kept of an unfinished pass.
        if place()[1] > 1 and state_dict.get("descent", {}).get("kept"):
            raise ValueError(
                "state_dict['descent']['kept'] has the rows of one process only: save at the end of a pass."
            )
        super().load_state_dict(state_dict)

    def _progress(self) -> dict[str, Any]:
        kept = [{"handed": piece.handed, "share": piece.share} for piece in self._kept]
        measured = {
            "cost_of_pass": self.cost,
            "gradient_norm": self.gradient_norm,
            "converged": self.converged,
        }
        course = {"objective": self._objective, "rose": self._rose, "kept": kept}
        judged = {"best": self._convergence.best, "stalled": self._convergence.stalled}
        return {**super()._progress(), **measured, **course, **judged, "search": asdict(self._search)}

    def _resume(self, progress: dict[str, Any]) -> None:
        super()._resume(progress)
        self.cost, self.gradient_norm = progress["cost_of_pass"], progress["gradient_norm"]
        self.converged, self._objective = progress["converged"], progress["objective"]
        self._rose = progress["rose"]
        self._convergence.best, self._convergence.stalled = progress["best"], progress["stalled"]
        self._search = LineSearch(**progress["search"])
        # A state may have been loaded onto another device than the parameters'.
        device = self._parameters()[0].device
        self._kept = [Slice(moved(piece["handed"], device), piece["share"]) for piece in progress["kept"]]

    def _absorb(self, part: Part) -> None:
        super()._absorb(part)
        if not self._keeps_rows:
            return
        cursor = self._walk.cursor
        if cursor.own and cursor.weight:
            share = cursor.weight if self.reduction == "mean" else 1.0
            self._kept.append(Slice(self._walk.handed, share))
            self._source = self._walk.source

    def _needs_all(self) -> str:
        return "its update is of a whole pass"

    def _close(self, fraction: float = 1.0) -> None:
        # Measured before the update, whose line search starts from what is measured.
        group, self._group = self._group, OpenGroup()
        if group:
            self._divisor = self._denominator(group) / fraction
            gradients = group.mean(self._divisor)
            self._measure(group.cost / self._divisor, gradients)
            if self.line_search and math.isnan(self._objective):
                raise ValueError(NO_OBJECTIVE)
            self._update(gradients)
        self._kept = []

    @torch.no_grad()
    def _measure(self, cost: float, gradients: Gradients) -> None:
        """Note cost and gradient of the pass, whether they are those of an end, and warn if the cost rose."""
        minimized = self._minimized(gradients).values()
        norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in minimized])
        extremes = [torch.aminmax(real(gradient)) for gradient in minimized if gradient.numel()]
        largest = max((max(-pair.min.item(), pair.max.item()) for pair in extremes), default=0.0)
        self.cost, self.gradient_norm = cost, torch.linalg.vector_norm(norms).item()
        before, self._objective = self._objective, self._value(cost)
        self.converged = self._convergence.see(self._objective, largest)
        eps = max(torch.finfo(gradient.dtype).eps for gradient in gradients.values())
        rate = float(self.param_groups[0]["lr"])
        # Barzilai and Borwein's steps do without a monotone fall.
        expected = self.step_size is None and not self._rose
        if expected and self._objective > before + ROUNDING * eps * abs(before):
            self._rose = True
            warnings.warn(
                f"The objective rose from {before:g} to {self._objective:g}: lower lr={rate:g};"
                " largest_stable_lr() says how far, or line_search='armijo' does it for you.",
                stacklevel=2,
            )

    def _minimized(self, gradients: Gradients) -> Gradients:
        return {
            theta: decayed(theta, gradients[theta], group)
            for group in self.param_groups
            for theta in group["params"]
            if theta in gradients
        }

    def _value(self, cost: float) -> float:
        """Return what is minimized, the mean `cost` with the sign of `maximize` and the weight decay."""
        penalties = [
            group["weight_decay"] / 2 * sum(theta.norm().item() ** 2 for theta in group["params"])
            for group in self.param_groups
            if group["weight_decay"]
        ]
        return self._sign() * cost + sum(penalties)

    def _sign(self) -> float:
        # Groups that pull in different directions have no common objective.
        signs = {-1.0 if group["maximize"] else 1.0 for group in self.param_groups}
        return signs.pop() if len(signs) == 1 else math.nan

    def _move(self, gradients: Gradients) -> None:
        if not (self.line_search or self.step_size):
            super()._move(gradients)
            return
        minimized = self._minimized(gradients)
        rates = {theta: float(group["lr"]) for group in self.param_groups for theta in group["params"]}
        step = secant_step(minimized, rates, self.state) if self.step_size else None
        line = Line(minimized, rates)
        if self.line_search:
            self._search.descend(line, self._again, self._objective, step)
        else:
            line.move(step or 1.0)

    def _again(self) -> float:
        """Return the objective of the pass's rows at the present parameters."""
        cost = 0.0
        with unsynchronised(), self._quietly():
            for piece in self._kept:
                # The closure asks for its rows as ever, and gets those of the piece.
                self._walk = Replay(piece)
                try:
                    cost += float(self._source.value()) * piece.share
                finally:
                    self._walk = None
        return self._value(total(cost, self._parameters()[0].device) / self._divisor)
