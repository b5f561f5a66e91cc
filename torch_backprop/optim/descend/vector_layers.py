r"""Layers of one example, a matrix x of one row, and one matrix product for each formula.

    Linear       y = x W^T + b   dL/dx = g W        W <- s W - eta g^T x     b <- s b - eta g
    elementwise  y = f(x)        dL/dx = f'(x) g

with s = 1 - eta lambda for a weight decay lambda. No gradient of a parameter is ever formed. Where weight and
bias are updated alike, (W b) is one matrix, and x has a 1 after it: one product and one update for both. A
product over one column is the fastest update of rank one: addr takes twice its time.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from torch_backprop import nn
from torch_backprop.optim.descend.settings import Settings, allow

Pullback = Callable[[Tensor, Tensor, Tensor], Tensor]


class Place:
    """The memory of one row, the same for each example.

    Attributes:
        y: the row, and `out` the same with a 1 after it.
        g: dL/dy, and `column` its transpose.
    """

    def __init__(self, like: Tensor, size: int) -> None:
        self.out = like.new_ones(1, size + 1)
        self.y = self.out[:, :-1]
        self.g = like.new_empty(1, size)
        self.column = self.g.t()


class Affine:
    """A Linear layer from one place to another; `first` if no layer before it learns.

    Attributes:
        out: what it returns, which is its output with a 1 after it if the next layer has use for that.
    """

    def __init__(
        self, layer: torch.nn.Linear, settings: Settings, first: bool, before: Place, place: Place
    ) -> None:
        self.of_w, self.of_b = settings.get(layer.weight), settings.get(layer.bias)
        self.parameters = [theta for theta in (layer.weight, layer.bias) if theta is not None]
        # The same memory, without the class that each call would look at.
        self.w, self.first = layer.weight.detach(), first
        self.b = None if layer.bias is None else layer.bias.detach()
        self.learns = bool(self.of_w or self.of_b)
        self.place, self.out = place, place.y
        self.y, self.column, self.grad_x = place.y, place.column, before.g
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
        """Return x W^T + b."""
        self.x = x
        if self.b is None:
            torch.mm(x, self.columns, out=self.y)
        else:
            torch.addmm(self.b, x, self.columns, out=self.y)
        return self.out

    def backward(self, g: Tensor) -> Tensor:
        """Update, and return g W of the weights before, which the example saw."""
        grad_x = g if self.first else torch.mm(g, self.w, out=self.grad_x)
        for theta, shrinks in self.decays:
            theta.mul_(next(shrinks))
        if self.steps_w:
            self.w.addmm_(self.column, self.x, alpha=next(self.steps_w))
        if self.b is not None and self.steps_b:
            self.b.add_(g[0], alpha=next(self.steps_b))
        return grad_x


class Joined(Affine):
    """The same with the bias as one more column, the weight of a 1 after x: one update for both."""

    def __init__(
        self, layer: torch.nn.Linear, settings: Settings, first: bool, before: Place, place: Place
    ) -> None:
        super().__init__(layer, settings, first, before, place)
        rows, columns = len(self.w), self.w.shape[1] + 1
        # A loop over the longer dimension inside is the faster one.
        along = rows < columns
        self.both = self.w.new_empty(rows, columns) if along else self.w.new_empty(columns, rows).t()
        self.within, self.columns = self.both[:, :-1], self.both.t()
        self.apart = ((self.w, self.within), (layer.bias.detach(), self.both[:, -1]))

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
        """Return x W^T + b."""
        self.x = x
        torch.mm(x, self.columns, out=self.y)
        return self.out

    def backward(self, g: Tensor) -> Tensor:
        """Update, and return g W."""
        grad_x = g if self.first else torch.mm(g, self.within, out=self.grad_x)
        for theta, shrinks in self.decays:
            theta.mul_(next(shrinks))
        self.both.addmm_(self.column, self.x, alpha=next(self.steps_w))
        return grad_x


class Elementwise:
    """A layer y = f(x), in the place of x, whose derivative can be had from y."""

    learns = False

    def __init__(self, f: Any, pullback: Pullback, place: Place, copies: bool) -> None:
        self.f, self.pullback, self.copies = f, pullback, copies
        self.place, self.out, self.y = place, place.y, place.y
        self.zero = place.y.new_zeros(())

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        if self.copies:
            self.y.copy_(x)
        self.f(self.y)
        return self.out

    def backward(self, g: Tensor) -> Tensor:
        """Return f'(x) g, which takes the places of y and g."""
        return self.pullback(g, self.y, self.zero)


Layer = Affine | Elementwise

# y = f(x) in the place of x, and g f'(x) in the place of g. The step from a to 0 by w is a (1 - w).
ELEMENTWISE: dict[Any, tuple[Any, Pullback]] = {
    nn.Tanh.forward: (Tensor.tanh_, lambda g, y, zero: g.lerp_(zero, y.mul_(y))),
    nn.Sigmoid.forward: (Tensor.sigmoid_, lambda g, y, zero: g.mul_(y.lerp_(zero, y))),
    nn.ReLU.forward: (Tensor.relu_, lambda g, y, zero: g.mul_(y.sign_())),
}
# By their forward, for a subclass with its own is another layer.
OURS = {
    getattr(torch.nn, name).forward: getattr(nn, name).forward
    for name in ("Linear", "Tanh", "Sigmoid", "ReLU", "Flatten", "Identity")
}


def vector_layers(model: Any, like: Tensor, settings: Settings) -> tuple[list[Layer], Place]:
    """Return the layers of `model` for examples like one, and the place of its outputs.

    Raises:
        Refused: if one is of another kind, or does not fit, or two share a parameter.
    """
    layers: list[Layer] = []
    shape = like.shape
    place = Place(like, like.numel())
    for layer in _flat(model):
        forward = OURS.get(type(layer).forward, type(layer).forward)
        if forward is nn.Linear.forward:
            allow(
                shape == (layer.in_features,), f"a Linear layer has vectors of {layer.in_features} before it"
            )
            first = not any(isinstance(part, Affine) and part.learns for part in layers)
            of_w, of_b = settings.get(layer.weight), settings.get(layer.bias)
            before, place = place, Place(like, layer.out_features)
            kind = Joined if of_w and of_w == of_b else Affine
            layers.append(kind(layer, settings, first, before, place))
            shape = torch.Size([layer.out_features])
        elif forward in ELEMENTWISE:
            # The layer before may need its own output, and the examples are not ours to change.
            copies = not (layers and isinstance(layers[-1], Affine))
            if copies:
                before, place = place, Place(like, shape.numel())
                place.g, place.column = before.g, before.column
            layers.append(Elementwise(*ELEMENTWISE[forward], place, copies))
        elif forward is nn.Flatten.forward and (layer.start_dim, layer.end_dim) == (1, -1):
            shape = torch.Size([shape.numel()])
        else:
            allow(forward is nn.Identity.forward, f"it does not know {type(layer).__name__}")
    allow(len(shape) == 1, "the output of an example is a vector")
    for before, after in pairwise(layers):
        if isinstance(after, Joined):
            before.out = before.place.out
    return layers, place


def _flat(model: Any) -> Iterator[Any]:
    """Yield the layers of Sequential models, nested ones too."""
    if type(model).forward is torch.nn.Sequential.forward:
        for part in model:
            yield from _flat(part)
    else:
        yield model
