"""Any descent by steps of the optimizer, a group of examples at a time: by autograd, or by the tape."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_backprop.optim.descend.path import Pass, Path
from torch_backprop.optim.descend.settings import allow
from torch_backprop.optim.taped import Taped

NOT_FINITE = (
    "The cost of example {} is not finite: look at this example, or lower lr."
    " The parameters are those before it."
)


class Steps(Path):
    """Descends by `Descent.step`, which does all that an optimizer may be set to.

    Raises:
        TypeError, ValueError: if model or loss are of a wrong kind, or nothing learns.
    """

    stretch = 256

    def __init__(self, course: Pass) -> None:
        self.taped = Taped(course.optimizer, course.model, course.loss)
        self.cost = self.taped

    def advance(self, course: Pass, stop: int) -> None:
        """Descend over the examples up to `stop`, at most a group at a time."""
        optimizer = course.optimizer
        while course.done < stop:
            start = course.done
            end = int(min(stop, start + optimizer._room()))
            try:
                cost = optimizer.step(self.cost, *course.rows(start, end))
            except ValueError as error:
                blamed = self._not_finite(course, start, end)
                if blamed is None:
                    raise
                raise ValueError(NOT_FINITE.format(blamed)) from error
            share = end - start if optimizer.reduction == "mean" else 1
            course.count(self.name, 0.0 if cost is None else cost.item() * share, end - start)

    @torch.no_grad()
    def _not_finite(self, course: Pass, start: int, end: int) -> int | None:
        """Return the first of these examples whose cost is not finite."""
        # A model may not bear a row alone, and then nobody is to blame.
        with suppress(Exception):
            for row in range(start, end):
                if not torch.isfinite(self.taped(*course.rows(row, row + 1))):
                    return row
        return None


class Autograd(Steps):
    """By autograd, which where an update is of many examples takes half and a third of the tape's time."""

    name = "autograd"

    def __init__(self, course: Pass) -> None:
        super().__init__(course)
        self.cost = self.taped.recorded

    @classmethod
    def open(cls, course: Pass) -> Path | None:
        """Return it for groups of many, or if it was asked for."""
        tensors = [x for x in pytree.tree_leaves(course.inputs) if isinstance(x, Tensor)]
        recorded = not (torch.is_inference_mode_enabled() or any(x.is_inference() for x in tensors))
        allow(recorded, "autograd records nothing in inference mode, nor of tensors that were made in it")
        return cls(course) if course.asked or course.optimizer.group_size > 1 else None


class Tape(Steps):
    """By the tape, which goes back through a model's rules and operations without autograd."""

    name = "tape"

    @classmethod
    def open(cls, course: Pass) -> Path:
        """Return it: what the tape cannot do, it says itself."""
        return cls(course)
