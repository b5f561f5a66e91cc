"""What a tape holds: values, which collect cotangents, and records, which pass them on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from torch_backprop.algorithm.context import Residual

Pullback = Callable[..., Sequence["Tensor | None"]]


@dataclass(slots=True, eq=False)
class Value:
    """A tensor as the cost depends on it: it outlives the tensor, and holds the sum of its cotangents.

    Attributes:
        uses: how many records may still have a cotangent for it.
        keys: under which it is watched.
        name: of a parameter, which learns.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    cotangent: Tensor | None = None
    uses: int = 0
    keys: list[Hashable] = field(default_factory=list)
    name: str | None = None

    @classmethod
    def of(cls, x: Tensor) -> Value:
        """A new value of ``x``."""
        return cls(x.shape, x.dtype, x.device)

    def add(self, g: Tensor) -> None:
        """Adds a cotangent, summed over what was broadcast, in the value's own dtype and device."""
        if g.shape != self.shape:
            g = g.sum_to_size(self.shape)
        if g.is_complex() and not self.dtype.is_complex:
            g = g.real
        g = g.to(self.device, self.dtype)
        if self.cotangent is None:
            self.cotangent = g
        else:
            # torch adds a sparse tensor to a dense one, but not the other way round
            terms = (g, self.cotangent) if self.cotangent.is_sparse else (self.cotangent, g)
            self.cotangent = terms[0] + terms[1]

    def take(self) -> Tensor | None:
        """The cotangent, which is no longer held."""
        g, self.cotangent = self.cotangent, None
        return g

    def zeros(self) -> Tensor:
        """The cotangent of what the cost does not depend on."""
        return torch.zeros((), dtype=self.dtype, device=self.device).expand(self.shape)


@dataclass(slots=True, eq=False)
class Record:
    """One operation.

    Attributes:
        name: of the rule or operator.
        inputs: the values that the cost depends on through it; None for any other argument.
        outputs: what it computed; None for what is no tensor.
        pullback: maps the cotangents of the outputs to those of the inputs.
        residuals: the tensors that it keeps for the pullback.
        materializes: whether the pullback wants zeros for a missing cotangent.
    """

    name: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    pullback: Pullback
    residuals: tuple[Residual, ...] = ()
    materializes: bool = True

    def pull_back(self) -> None:
        """Adds to the cotangents of the inputs what comes through this operation."""
        cotangents = [None if value is None else value.take() for value in self.outputs]
        if all(g is None for g in cotangents):
            return
        if self.materializes:
            pairs = zip(cotangents, self.outputs, strict=True)
            cotangents = [value.zeros() if g is None and value else g for g, value in pairs]
        for residual in self.residuals:
            residual.check(self.name)
        for value, g in zip(self.inputs, self.pullback(*cotangents), strict=True):
            if value is not None and g is not None:
                value.add(g)


def is_differentiable(y: Tensor) -> bool:
    """Whether a tensor of this dtype can have a cotangent."""
    return y.is_floating_point() or y.is_complex()


def operation(
    name: str,
    inputs: Sequence[Value | None],
    outputs: Sequence[Value],
    pullbacks: Sequence[Callable[..., Tensor]],
) -> Record:
    """The record of an operator with a pullback for each input; its residuals are what these close over."""
    cells = [cell.cell_contents for pull in pullbacks for cell in getattr(pull, "__closure__", None) or ()]
    residuals = tuple(Residual(x) for x in cells if isinstance(x, Tensor))

    def pullback(*cotangents: Tensor | None) -> list[Tensor]:
        return [pull(*cotangents) for pull in pullbacks]

    return Record(name, tuple(inputs), tuple(outputs), pullback, residuals)
