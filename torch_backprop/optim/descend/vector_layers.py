r"""Layers of one example, a matrix x of one row, and one matrix product for each formula.

    Linear       y = x W^T + b   dL/dx = g W        W <- s W - eta g^T x     b <- s b - eta g
    elementwise  y = f(x)        dL/dx = f'(x) g

with s = 1 - eta lambda for a weight decay lambda. No gradient of a parameter is ever formed. Where weight and
bias are updated alike, (W b) is one matrix, and x has a 1 after it: one product and one update for both. A
product over one column is the fastest update of rank one: addr takes twice its time.

A layer is a list of steps without arguments, between places in memory that are the same for each example.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torch_backprop import nn
from torch_backprop.optim.descend.settings import Settings, allow

Step = Callable[[], object]


class Place:
    """The memory of one row of so many elements.

    Attributes:
        y: the row, and `out` the same with a 1 after it.
        x: which of these the next layer takes; or the example itself, of which this is the place.
        g: dL/dy, and `column` its transpose.
    """

    def __init__(self, like: Tensor, size: int) -> None:
        self.out = like.new_ones(1, size + 1)
        self.x = self.y = self.out[:, :-1]
        self.g = like.new_empty(1, size)
        self.column = self.g.t()


class Affine:
    """A Linear layer, from the place before to the one after; `first` if no layer before it learns."""

    def __init__(
        self, layer: torch.nn.Linear, settings: Settings, first: bool, before: Place, after: Place
    ) -> None:
        self.of_w, self.of_b = settings.get(layer.weight), settings.get(layer.bias)
        self.parameters = [theta for theta in (layer.weight, layer.bias) if theta is not None]
        # The same memory, without the class that each call would look at.
        self.w, self.b = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        self.learns = bool(self.of_w or self.of_b)
        self.before, self.after, self.g, self.column = before, after, after.g, after.column
        self.lay_out(layer)
        self.forwards: list[Step] = [self.forward]
        # By the weights before the update, which the example saw.
        self.backwards: list[Step] = [] if first else [partial(torch.mm, self.g, self.w, out=before.g)]
        self.backwards += [self.update] if self.learns else []

    def lay_out(self, layer: torch.nn.Linear) -> None:
        """Find W^T."""
        self.columns = self.w.t()

    def begin(self, rates: Tensor) -> None:
        """Prepare for examples at their rates."""
        self.steps_w: Any = self.of_w.steps(rates) if self.of_w else None
        self.steps_b: Any = self.of_b.steps(rates) if self.of_b else None
        decaying: Any = ((self.w, self.of_w), (self.b, self.of_b))
        self.decays = [(theta, each.shrinks(rates)) for theta, each in decaying if each and each.weight_decay]

    def end(self) -> None:
        """Finish after them."""

    def forward(self) -> None:
        """Take x to x W^T + b."""
        if self.b is None:
            torch.mm(self.before.x, self.columns, out=self.after.y)
        else:
            torch.addmm(self.b, self.before.x, self.columns, out=self.after.y)

    def update(self) -> None:
        """Decay and descend."""
        for theta, shrinks in self.decays:
            theta.mul_(next(shrinks))
        if self.steps_w:
            self.w.addmm_(self.column, self.before.x, alpha=next(self.steps_w))
        if self.b is not None and self.steps_b:
            self.b.add_(self.g[0], alpha=next(self.steps_b))


class Joined(Affine):
    """The same with the bias as one more column, the weight of a 1 after x: one update for both."""

    def lay_out(self, layer: torch.nn.Linear) -> None:
        """Lay out W and b together, the longer dimension inside, where it makes the faster loop."""
        rows, columns = len(self.w), self.w.shape[1] + 1
        both = self.w.new_empty(rows, columns) if rows < columns else self.w.new_empty(columns, rows).t()
        self.apart = ((self.w, both[:, :-1]), (layer.bias.detach(), both[:, -1]))
        self.both, self.columns, self.w = both, both.t(), both[:, :-1]
        self.before.x = self.before.out

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

    def forward(self) -> None:
        """Take x to x W^T + b."""
        torch.mm(self.before.x, self.columns, out=self.after.y)

    def update(self) -> None:
        """Decay and descend."""
        for theta, shrinks in self.decays:
            theta.mul_(next(shrinks))
        self.both.addmm_(self.column, self.before.x, alpha=next(self.steps_w))


class Elementwise:
    """A layer y = f(x), in the place of x, whose derivative can be had from y; dL/dx is in that of dL/dy."""

    learns = False

    def __init__(self, kind: Any, place: Place) -> None:
        f, pullback = ELEMENTWISE[kind]
        self.forwards: list[Step] = [f(place.y)]
        self.backwards: list[Step] = pullback(place.g, place.y, place.y.new_zeros(()))


class Copy:
    """The same vector in another place, where it may be overwritten or kept; it has one error."""

    learns = False

    def __init__(self, before: Place, place: Place) -> None:
        place.g, place.column = before.g, before.column
        self.forwards: list[Step] = [lambda: place.y.copy_(before.x)]
        self.backwards: list[Step] = []


Layer = Affine | Elementwise | Copy

# y = f(x) in the place of x, and g f'(x) in the place of g. From a to 0 by w it is a (1 - w).
ELEMENTWISE: dict[Any, tuple[Callable[[Tensor], Step], Callable[[Tensor, Tensor, Tensor], list[Step]]]] = {
    nn.Tanh.forward: (
        lambda y: y.tanh_,
        lambda g, y, zero: [partial(y.mul_, y), partial(g.lerp_, zero, y)],
    ),
    nn.Sigmoid.forward: (
        lambda y: y.sigmoid_,
        lambda g, y, zero: [partial(y.lerp_, zero, y), partial(g.mul_, y)],
    ),
    nn.ReLU.forward: (lambda y: y.relu_, lambda g, y, zero: [y.sign_, partial(g.mul_, y)]),
}
# By their forward, for a subclass with its own is another layer.
OURS = {
    getattr(torch.nn, name).forward: getattr(nn, name).forward
    for name in ("Linear", "Tanh", "Sigmoid", "ReLU", "Flatten", "Identity")
}


def vector_layers(model: Any, like: Tensor, settings: Settings) -> tuple[list[Layer], Place, Place]:
    """Return the layers of `model` for examples like one, and the places of an example and of its outputs.

    Raises:
        Refused: if one is of another kind, or does not fit, or two share a parameter.
    """
    layers: list[Layer] = []
    shape = like.shape
    start = place = Place(like, like.numel())
    for layer in _flat(model):
        forward = OURS.get(type(layer).forward, type(layer).forward)
        if forward is nn.Linear.forward:
            allow(
                shape == (layer.in_features,), f"a Linear layer has vectors of {layer.in_features} before it"
            )
            first = not any(part.learns for part in layers)
            of_w, of_b = settings.get(layer.weight), settings.get(layer.bias)
            before, place = place, Place(like, layer.out_features)
            kind = Joined if of_w and of_w == of_b else Affine
            layers.append(kind(layer, settings, first, before, place))
            shape = torch.Size([layer.out_features])
        elif forward in ELEMENTWISE:
            place = _own(layers, place)
            layers.append(Elementwise(forward, place))
        elif forward is nn.Flatten.forward and (layer.start_dim, layer.end_dim) == (1, -1):
            shape = torch.Size([shape.numel()])
        else:
            allow(forward is nn.Identity.forward, f"it does not know {type(layer).__name__}")
    allow(len(shape) == 1, "the output of an example is a vector")
    return layers, start, _own(layers, place)


def _own(layers: list[Layer], place: Place) -> Place:
    """Return a place for what is at `place` that no layer before reads, nor the caller."""
    if layers and isinstance(layers[-1], Affine):
        return place
    before, place = place, Place(place.y, place.y.shape[1])
    layers.append(Copy(before, place))
    return place


def _flat(model: Any) -> Iterator[Any]:
    """Yield the layers of Sequential models, nested ones too."""
    if type(model).forward is torch.nn.Sequential.forward:
        for part in model:
            yield from _flat(part)
    else:
        yield model
