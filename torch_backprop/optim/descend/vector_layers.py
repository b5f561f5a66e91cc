r"""Layers of one example, a vector x, by BLAS level 2.

    Linear       y = W x + b     dL/dx = W^T g      W <- s W - eta g x^T     b <- s b - eta g
    elementwise  y = f(x)        dL/dx = f'(x) g

with s = 1 - eta lambda for a weight decay lambda. No gradient of a parameter is ever formed.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torch_backprop import nn
from torch_backprop.optim.descend.settings import Settings, allow


class Affine:
    """A Linear layer; `first` if no layer before it learns."""

    def __init__(self, layer: torch.nn.Linear, settings: Settings, first: bool) -> None:
        self.of_w, self.of_b = settings.get(layer.weight), settings.get(layer.bias)
        self.parameters = [theta for theta in (layer.weight, layer.bias) if theta is not None]
        # The same memory, without the class that each call would look at.
        self.w, self.b = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        self.first = first
        self.learns = bool(self.of_w or self.of_b)
        # The same memory for each example.
        self.y, self.grad_x = self.w.new_empty(len(self.w)), self.w.new_empty(self.w.shape[1])
        self.columns = self.w.t()

    def begin(self, rates: Tensor) -> None:
        """Prepare for examples at their rates."""
        self.steps_w = self.of_w.steps(rates) if self.of_w else None
        self.steps_b = self.of_b.steps(rates) if self.of_b else None
        decaying = ((self.w, self.of_w), (self.b, self.of_b))
        self.decays = [(theta, each.shrinks(rates)) for theta, each in decaying if each and each.weight_decay]

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b."""
        self.x = x
        if self.b is None:
            return torch.mv(self.w, x, out=self.y)
        return torch.addmv(self.b, self.w, x, out=self.y)

    def backward(self, g: Tensor) -> Tensor:
        """Update, and return W^T g of the weights before, which the example saw."""
        grad_x = g if self.first else torch.mv(self.columns, g, out=self.grad_x)
        for theta, shrinks in self.decays:
            theta.mul_(next(shrinks))
        if self.steps_w:
            self.w.addr_(g, self.x, alpha=next(self.steps_w))
        if self.steps_b:
            self.b.add_(g, alpha=next(self.steps_b))
        return grad_x


class Elementwise:
    """A layer y = f(x) whose derivative can be had from y."""

    learns = False

    def __init__(self, f: Any, slope: Callable[[Tensor, Tensor], Tensor], like: Tensor) -> None:
        self.f, self.slope = f, slope
        # The same memory for each example.
        self.y, self.one = torch.empty_like(like), like.new_ones(())

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        return self.f(x, out=self.y)

    def backward(self, g: Tensor) -> Tensor:
        """Return f'(x) g."""
        return g.mul_(self.slope(self.y, self.one))


Layer = Affine | Elementwise

# How y is had, with a place for it, and from y and 1 the derivative.
ELEMENTWISE: dict[Any, tuple[Any, Callable[[Tensor, Tensor], Tensor]]] = {
    nn.Tanh.forward: (torch.tanh, lambda y, one: torch.addcmul(one, y, y, value=-1)),
    nn.Sigmoid.forward: (torch.sigmoid, lambda y, _: torch.addcmul(y, y, y, value=-1)),
    nn.ReLU.forward: (partial(torch.clamp, min=0), lambda y, _: torch.sign(y)),
}
# By their forward, for a subclass with its own is another layer.
OURS = {
    getattr(torch.nn, name).forward: getattr(nn, name).forward
    for name in ("Linear", "Tanh", "Sigmoid", "ReLU", "Flatten", "Identity")
}


def vector_layers(model: Any, like: Tensor, settings: Settings) -> tuple[list[Layer], int]:
    """Return the layers of `model` for examples like one, and the number of its outputs.

    Raises:
        Refused: if one is of another kind, or does not fit, or two share a parameter.
    """
    layers: list[Layer] = []
    shape = like.shape
    for layer in _flat(model):
        forward = OURS.get(type(layer).forward, type(layer).forward)
        if forward is nn.Linear.forward:
            allow(
                shape == (layer.in_features,), f"a Linear layer has vectors of {layer.in_features} before it"
            )
            first = not any(isinstance(part, Affine) and part.learns for part in layers)
            layers.append(Affine(layer, settings, first))
            shape = torch.Size([layer.out_features])
        elif forward in ELEMENTWISE:
            layers.append(Elementwise(*ELEMENTWISE[forward], like.new_empty(shape)))
        elif forward is nn.Flatten.forward and (layer.start_dim, layer.end_dim) == (1, -1):
            shape = torch.Size([shape.numel()])
        else:
            allow(forward is nn.Identity.forward, f"it does not know {type(layer).__name__}")
    allow(len(shape) == 1, "the output of an example is a vector")
    return layers, shape.numel()


def _flat(model: Any) -> Iterator[Any]:
    """Yield the layers of Sequential models, nested ones too."""
    if type(model).forward is torch.nn.Sequential.forward:
        for part in model:
            yield from _flat(part)
    else:
        yield model
