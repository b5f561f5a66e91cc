"""Any model by the tape, which goes back through its rules and operations without autograd."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from torch_backprop.algorithm import Backpropagation


class Taped:
    """A cost of rows that knows its gradients, for `Descent.step` to descend by.

    Args:
        model: any module of layers of this package, or converted to them.
        loss: a module or function of output and targets, which returns a scalar.
    """

    def __init__(self, model: nn.Module, loss: Any) -> None:
        self.model, self.loss = model, loss
        self.backpropagation = Backpropagation(model, loss)
        self.named = dict(model.named_parameters())

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cost alone."""
        return self.loss(self.model(inputs), targets)

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """Return the cost, and the gradient of each parameter that it depends on."""
        cost, gradients = self.backpropagation(inputs, targets)
        return cost, {self.named[name]: gradient for name, gradient in gradients.items()}
