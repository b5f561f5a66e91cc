r"""Layers of one example, a vector x, by BLAS level 2.

    Linear       y = W x + b     dL/dx = W^T g      W <- s W - eta g x^T     b <- s b - eta g
    elementwise  y = f(x)        dL/dx = f'(x) g

with s = 1 - eta lambda for a weight decay lambda. No gradient of a parameter is ever formed. Where weight and
bias are updated alike, (W b) is one matrix, and x has a 1 after it: one product and one update for both.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from torch_backprop import nn
from torch_backprop.optim.descend.settings import Settings, allow


class Affine:
    """A Linear layer; `first` if no layer before it learns.

    Attributes:
        y: the place of its output, and `out` the same with a 1 after it, if the next layer has use for that.
    """

    def __init__(self, layer: torch.nn.Linear, settings: Settings, first: bool) -> None:
        self.of_w, self.of_b = settings.get(layer.weight), settings.get(layer.bias)
        self.parameters = [theta for theta in (layer.weight, layer.bias) if theta is not None]
        # The same memory, without the class that each call would look at.
        self.w, self.first = layer.weight.detach(), first
        self.b = None if layer.bias is None else layer.bias.detach()
        self.learns = bool(self.of_w or self.of_b)
        # The same memory for each example.
        self.out = self.y = self.w.new_empty(len(self.w))
        self.grad_x = self.w.new_empty(self.w.shape[1])
        self.columns = self.w.t()

    def begin(self, rates: Tensor) -> None:
        """Prepare for examples at their rates."""
        self.steps_w: Any = self.of_w.steps(rates) if self.of_w else None
        self.steps_b: Any = self.of_b.steps(rates) if self.of_b else None
        decaying: Any = ((self.w, self.of_w), (self.b, self.of_b))
        self.decays = [(theta, each.shrinks(rates)) for theta, each in decaying if each and each.weight_decay]

    def end(self) -> None:
        """Finish after them."""

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b."""
        self.x = x
        if self.b is None:
            torch.mv(self.w, x, out=self.y)
        else:
            torch.addmv(self.b, self.w, x, out=self.y)
        return self.out

    def backward(self, g: Tensor) -> Tensor:
        """Update, and return W^T g of the weights before, which the example saw."""
        grad_x = g if self.first else torch.mv(self.columns, g, out=self.grad_x)
        for theta, shrinks in self.decays:
            theta.mul_(next(shrinks))
        if self.steps_w:
            self.w.addr_(g, self.x, alpha=next(self.steps_w))
        if self.b is not None and self.steps_b:
            self.b.add_(g, alpha=next(self.steps_b))
        return grad_x


class Joined(Affine):
    """The same with the bias as one more column, the weight of a 1 after x: one update for both."""

    def __init__(self, layer: torch.nn.Linear, settings: Settings, first: bool) -> None:
        super().__init__(layer, settings, first)
        self.both = self.w.new_empty(len(self.w), self.w.shape[1] + 1)
        self.apart = ((self.w, self.both[:, :-1]), (layer.bias.detach(), self.both[:, -1]))
        self.columns = self.both[:, :-1].t()

    def begin(self, rates: Tensor) -> None:
        """Put weight and bias together."""
        super().begin(rates)
        self.decays = [(self.both, each) for _, each in self.decays[:1]]
        for theta, place in self.apart:
            place.copy_(theta)

    def end(self) -> None:
        """Take them apart."""
        for theta, place in self.apart:
            theta.copy_(place)

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b."""
        self.x = x
        torch.mv(self.both, x, out=self.y)
        return self.out

    def backward(self, g: Tensor) -> Tensor:
        """Update, and return W^T g."""
        grad_x = g if self.first else torch.mv(self.columns, g, out=self.grad_x)
        for theta, shrinks in self.decays:
            theta.mul_(next(shrinks))
        self.both.addr_(g, self.x, alpha=next(self.steps_w))
        return grad_x


class Elementwise:
    """A layer y = f(x) whose derivative can be had from y."""

    learns = False

    def __init__(self, f: Any, slope: Callable[[Tensor, Tensor], Tensor], like: Tensor) -> None:
        self.f, self.slope = f, slope
        # The same memory for each example.
        self.out = self.y = torch.empty_like(like)
        self.one = like.new_ones(())

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        self.f(x, out=self.y)
        return self.out

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
            of_w, of_b = settings.get(layer.weight), settings.get(layer.bias)
            layers.append((Joined if of_w and of_w == of_b else Affine)(layer, settings, first))
            shape = torch.Size([layer.out_features])
        elif forward in ELEMENTWISE:
            layers.append(Elementwise(*ELEMENTWISE[forward], like.new_empty(shape)))
        elif forward is nn.Flatten.forward and (layer.start_dim, layer.end_dim) == (1, -1):
            shape = torch.Size([shape.numel()])
        else:
            allow(forward is nn.Identity.forward, f"it does not know {type(layer).__name__}")
    allow(len(shape) == 1, "the output of an example is a vector")
    for before, after in pairwise(layers):
        if isinstance(after, Joined):
            before.out = before.y.new_ones(len(before.y) + 1)
            before.y = before.out[:-1]
    return layers, shape.numel()


def _flat(model: Any) -> Iterator[Any]:
    """Yield the layers of Sequential models, nested ones too."""
    if type(model).forward is torch.nn.Sequential.forward:
        for part in model:
            yield from _flat(part)
    else:
        yield model
