"""Backpropagation. Rumelhart, Hinton & Williams (1986), Nature 323, 533-536.

    forward pass    each layer computes its output, and keeps what its pullback needs
    cost            one number, which says how far the outputs are from the targets
    backward pass   in reverse, each layer's pullback takes the error of its output, dL/dy, to that of its
                    input and to the gradients of its parameters
    update          each parameter moves against its gradient
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils import _pytree as pytree

from torch_backprop.algorithm.tape import Tape

Loss = Callable[[Any, Any], Tensor]


class Backpropagation:
    """The algorithm itself, without autograd."""

    def __init__(self, model: Module, loss: Loss, update: torch.optim.Optimizer | None = None) -> None:
        self.model = model
        self.loss = loss

    def __call__(self, inputs: Any, targets: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the cost, and the gradient of each parameter."""
        parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        gradients = {}
        with _constant(parameters):
            with Tape() as tape:
                for name, parameter in parameters.items():
                    tape.watch(name, parameter, is_parameter=True)
                output = call(self.model, inputs)
                cost = self.loss(output, targets)
            with torch.no_grad():
                for name, gradient in tape.pull_back(cost):
                    gradients[name] = gradient
        return cost.detach(), gradients


def call(model: Module, inputs: Any) -> Any:
    """The output for one tensor, a tuple of arguments, or a mapping of named ones."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


@contextmanager
def _constant(parameters: Mapping[str, Tensor]) -> Iterator[None]:
    for p in parameters.values():
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters.values():
            p.requires_grad_(True)
            p.__dict__.pop("_torch_backprop", None)
