"""Any model by the tape, which goes back through its rules and operations without autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_backprop.algorithm import Backpropagation, arguments


class Taped:
    """A cost of rows that knows its gradients, for `Descent.step` to descend by.

    Args:
        optimizer: of which some parameter must learn.
        model: any module of layers of this package, or converted to them.
        loss: a module or function of output and targets, which returns a scalar.

    Raises:
        TypeError, ValueError: if model or loss are of a wrong kind, or nothing learns.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module, loss: Any) -> None:
        self.model, self.loss = model, loss
        self.backpropagation = Backpropagation(model, loss)
        arguments.learning(model, loss, optimizer)
        self.named = arguments.learning(model, loss, None)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cost alone."""
        return self.loss(self.model(inputs), targets)

    def recorded(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cost as autograd records it, refused in the same words as the tape refuses it."""
        return arguments.cost(self.loss, arguments.predicted(self.model, inputs), targets, inputs)

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """Return the cost, and the gradient of each parameter that it depends on."""
        cost, gradients = self.backpropagation(inputs, targets)
        return cost, {self.named[name]: gradient for name, gradient in gradients.items()}
