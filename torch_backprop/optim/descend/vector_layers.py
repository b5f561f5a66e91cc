r"""Layers of one example, a vector x, by BLAS level 2.

    Linear       y = W x + b     dL/dx = W^T g      W <- s W - eta g x^T     b <- s b - eta g
    elementwise  y = f(x)        dL/dx = f'(x) g

with s = 1 - eta lambda for a weight decay lambda. No gradient of a parameter is ever formed.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from torch_backprop import nn
from torch_backprop.optim.descend.settings import Settings, allow

Function = Callable[[Tensor], Tensor]


class Affine:
    """A Linear layer; `first` if no layer before it learns."""

    def __init__(self, layer: torch.nn.Linear, settings: Settings, first: bool) -> None:
        self.w, self.b, self.first = layer.weight, layer.bias, first
        self.of_w, self.of_b = settings.get(self.w), settings.get(self.b)
        self.learns = bool(self.of_w or self.of_b)
        # The same memory for each example.
        self.y, self.grad_x = self.w.new_empty(len(self.w)), self.w.new_empty(self.w.shape[1])
        self.columns = self.w.t()

    def begin(self, rates: Tensor) -> None:
        """Prepare for examples at their rates."""
        self.factors_w = self.of_w.factors(rates) if self.of_w else None
        self.factors_b = self.of_b.factors(rates) if self.of_b else None

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b."""
        self.x = x
        if self.b is None:
            return torch.mv(self.w, x, out=self.y)
        return torch.addmv(self.b, self.w, x, out=self.y)

    def backward(self, g: Tensor) -> Tensor:
        """Update, and return W^T g of the weights before, which the example saw."""
        grad_x = g if self.first else torch.mv(self.columns, g, out=self.grad_x)
        if self.factors_w:
            step, shrink = next(self.factors_w)
            if shrink == 1:
                self.w.addr_(g, self.x, alpha=step)
            else:
                self.w.addr_(g, self.x, beta=shrink, alpha=step)
        if self.factors_b:
            step, shrink = next(self.factors_b)
            if shrink != 1:
                self.b.mul_(shrink)
            self.b.add_(g, alpha=step)
        return grad_x


class Elementwise:
    """A layer y = f(x) whose derivative can be had from y."""

    learns = False

    def __init__(self, f: Function, slope: Function) -> None:
        self.f, self.slope = f, slope

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        self.y = self.f(x)
        return self.y

    def backward(self, g: Tensor) -> Tensor:
        """Return f'(x) g."""
        return g.mul_(self.slope(self.y))


Layer = Affine | Elementwise

ONE = {dtype: torch.ones((), dtype=dtype) for dtype in (torch.float32, torch.float64)}
ELEMENTWISE: dict[Any, tuple[Function, Function]] = {
    nn.Tanh.forward: (torch.tanh, lambda y: torch.addcmul(ONE[y.dtype], y, y, value=-1)),
    nn.Sigmoid.forward: (torch.sigmoid, lambda y: torch.addcmul(y, y, y, value=-1)),
    nn.ReLU.forward: (torch.relu, torch.sign),
}
# By their forward, for a subclass with its own is another layer.
OURS = {
    getattr(torch.nn, name).forward: getattr(nn, name).forward
    for name in ("Linear", "Tanh", "Sigmoid", "ReLU", "Flatten", "Identity")
}


def vector_layers(model: Any, shape: torch.Size, settings: Settings) -> tuple[list[Layer], int]:
    """Return the layers of `model` for examples of a shape, and the number of its outputs.

    Raises:
        Refused: if one is of another kind, or does not fit, or two share a parameter.
    """
    layers: list[Layer] = []
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
            layers.append(Elementwise(*ELEMENTWISE[forward]))
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
