"""One pass over tensors in memory, by a path that is chosen or asked for."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from torch_backprop.optim.arguments import check_choice
from torch_backprop.optim.bar import Bar
from torch_backprop.optim.descend.compiled import Compiled
from torch_backprop.optim.descend.path import Pass, Path
from torch_backprop.optim.descend.settings import Refused
from torch_backprop.optim.descend.steps import Autograd, Tape
from torch_backprop.optim.descend.unrolled import Unrolled
from torch_backprop.optim.descend.vectors import Vectors
from torch_backprop.optim.descent import Descent
from torch_backprop.optim.open_group import mean_cost

PATHS: dict[str, type[Path]] = {kind.name: kind for kind in (Compiled, Unrolled, Vectors, Autograd, Tape)}
"""The paths, in the order in which they are tried."""
TRIAL = 64
"""Examples by which a path that needs no building is timed, for a faster one may be worth building."""


class Descending:
    """A pass that goes, at each moment, by the first path that is open to it.

    Args:
        optimizer: the one that descends.
        model, loss, inputs, targets, path: as `WholePass.descend` has them.

    Attributes:
        course: how far it is, and by which paths.
        why_not: of each path that refused, the reason.

    Raises:
        TypeError, ValueError: if they are of a wrong kind or length.
    """

    def __init__(
        self, optimizer: Descent, model: Any, loss: Any, inputs: Any, targets: Any, path: str | None
    ) -> None:
        check_choice("path", path, (None, *PATHS))
        total = _count(model, inputs, targets)
        optimizer._check_ready()
        self.course = Pass(optimizer, model, loss, inputs, targets, total, asked=path is not None)
        self.kinds = [PATHS[path]] if path else list(PATHS.values())
        self.why_not: dict[str, str] = {}
        # It takes on what other paths leave.
        self.tape = Tape(self.course)
        self.opened: dict[str, Path] = {}

    def run(self, quiet: bool) -> Tensor | None:
        """Go through all examples, under a progress bar unless `quiet`; returns their mean cost."""
        course, total = self.course, self.course.total
        with Bar(quiet) as bar:
            while course.done < total:
                path = self._path()
                self._advance(path or self.tape, total if path else course.done + 1)
                name = (path or self.tape).name
                bar.show(course.done, total, f"{course.done} of {total} examples, {name}")
        course.optimizer.end_epoch()
        mean = mean_cost(course.costs, course.optimizer.reduction)
        theta = course.optimizer._parameters()[0]
        dtype = torch.promote_types(theta.dtype, torch.float32)
        return None if mean is None else torch.tensor(mean, dtype=dtype, device=theta.device)

    def _path(self) -> Path | None:
        """Return the first path that is open; None if that which was asked for is not open yet."""
        for kind in self.kinds:
            if kind.name in self.opened:
                return self.opened[kind.name]
            if kind.name in self.why_not:
                continue
            try:
                path = kind.open(self.course)
            except Refused as reason:
                self._refuse(kind.name, reason)
                continue
            if path is not None:
                self.opened[kind.name] = path
                return path
        return None

    def _advance(self, path: Path, total: int) -> None:
        """Descend over a stretch of examples, and note how long that takes."""
        course, start, begun = self.course, self.course.done, time.perf_counter()
        trial = not (path.built or course.asked or course.pace)
        stop = min(total, start + (TRIAL if trial else path.stretch))
        try:
            path.advance(course, stop)
        except Refused as reason:
            del self.opened[path.name]
            self._refuse(path.name, reason)
            return
        if course.done < stop:
            self.tape.advance(course, course.done + 1)
        if not path.built:
            seconds = time.perf_counter() - begun
            course.pace = seconds / (course.done - start)
            course.optimizer._spent += seconds

    def _refuse(self, path: str, reason: Refused) -> None:
        self.why_not[path] = str(reason)
        if self.course.asked:
            raise ValueError(f"path={path!r} is not possible: {reason}.") from reason


def _count(model: Any, inputs: Any, targets: Any) -> int:
    """Return the number of examples.

    Raises:
        TypeError, ValueError: if there is no model, or inputs and targets are not of one number.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: descend() takes a Module.")
    counts = [_length(name, rows) for name, rows in (("inputs", inputs), ("targets", targets))]
    if counts[0] != counts[1]:
        raise ValueError(
            f"targets has {counts[1]} rows and inputs has {counts[0]}: each example needs one of both."
        )
    return counts[0]


def _length(name: str, rows: Any) -> int:
    if not isinstance(rows, (Tensor, tuple, dict)):
        raise TypeError(
            f"{name} is a {type(rows).__name__}: descend() takes a Tensor, or a tuple or dict of them."
        )
    tensors = [x for x in pytree.tree_leaves(rows) if isinstance(x, Tensor)]
    if not tensors or not all(x.dim() for x in tensors):
        raise ValueError(f"{name} has a scalar or no tensor: its first dimension must run over examples.")
    lengths = [len(x) for x in tensors]
    if len(set(lengths)) > 1:
        raise ValueError(f"{name} has tensors of {lengths} rows: each example needs one of each.")
    return lengths[0]
