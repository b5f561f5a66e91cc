"""Piecewise linear activations: the derivative is constant on each piece, of hardswish linear.

| function             | forward: y                       | backward: dL/dx            | kept |
|----------------------|----------------------------------|----------------------------|------|
| relu                 | max(x, 0)                        | g if y > 0                 | y    |
| relu6, hardtanh      | min(max(x, low), high)           | g if low < x < high        | bits |
| leaky_relu           | x if x > 0 else a x              | g if x > 0 else a g        | bits |
| threshold            | x if x > t else v                | g if x > t                 | bits |
| hardshrink           | x if abs(x) > l else 0           | g if abs(x) > l            | bits |
| softshrink           | x - l sign(x) if abs(x) > l else 0 | g if abs(x) > l          | bits |
| hardsigmoid          | min(max(x + 3, 0), 6) / 6        | g / 6 if abs(x) < 3        | bits |
| hardswish            | x min(max(x + 3, 0), 6) / 6      | g (x / 3 + 1/2) if abs(x) < 3, g above | x |

The one non-obvious step: a derivative that is constant on a piece needs of x only the piece, which is a bit;
and the output of relu has that bit, since y > 0 just where x > 0. torch keeps y too, and often the next
layer. At a kink the derivative is torch's. Of NaN torch's vectorized code makes another than its scalar code:
here NaN passes g on wherever it stands, as in the latter. Sources: Nair & Hinton (2010), and Goodfellow,
Bengio & Courville (2016), "Deep Learning", eq. 3.32 (relu); Maas, Hannun & Ng (2013); Howard et al. (2019),
arXiv:1905.02244, section 5.2.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.elementwise import activate, always, elementwise, keep, never, select
from torch_backprop.layers.pieces import bend, pieces
from torch_backprop.spec import LayerSpec, case

# the output tells on which side of the kink the input was
relu_rule = elementwise(
    F.relu,
    always,
    lambda g, y: select(g, 0, torch.ne, y, 0),
    lambda out, g, y: keep(out, g, torch.ne, y, 0),
)
relu6_rule = pieces(
    F.relu6,
    lambda x: _beyond(x, 0, 6),
    lambda out, x: _mark_beyond(out, x, 0, 6),
    lambda: (1, 0),
)
hardtanh_rule = pieces(
    F.hardtanh,
    lambda x, low, high: _beyond(x, low, high),
    lambda out, x, low, high: _mark_beyond(out, x, low, high),
    lambda low, high: (1, 0),
)
leaky_relu_rule = pieces(
    F.leaky_relu,
    lambda x, a: x > 0,
    lambda out, x, a: torch.gt(x, 0, out=out),
    lambda a: (a, 1),
)
threshold_rule = pieces(
    F.threshold,
    # the lower side, so that NaN is on the side that passes g on
    lambda x, t, v: x <= t,
    lambda out, x, t, v: torch.le(x, t, out=out),
    lambda t, v: (1, 0),
)
hardshrink_rule = pieces(
    F.hardshrink,
    lambda x, lambd: _between(x, lambd),
    lambda out, x, lambd: _mark_between(out, x, lambd),
    lambda lambd: (1, 0),
)
softshrink_rule = pieces(
    F.softshrink,
    lambda x, lambd: _between(x, lambd),
    lambda out, x, lambd: _mark_between(out, x, lambd),
    lambda lambd: (1, 0),
)
hardsigmoid_rule = pieces(
    F.hardsigmoid,
    lambda x: x.abs() < 3,
    lambda out, x: torch.abs(x, out=out).lt_(3),
    lambda: (0, 1 / 6),
)
hardswish_rule = elementwise(
    F.hardswish,
    never,
    lambda g, x: select(0, select(g, g * (x / 3 + 0.5), torch.ge, x, 3), torch.le, x, -3),
    lambda out, g, x: _hardswish_into(out, g, x),
)


def _beyond(x: Tensor, low: float, high: float) -> Tensor:
    return (x <= low) | (x >= high)


def _mark_beyond(out: Tensor, x: Tensor, low: float, high: float) -> Any:
    if low == -high:
        return torch.abs(x, out=out).ge_(high)
    # what is at the lower bound or beyond is moved to the upper one, so that one comparison finds both
    return torch.ops.aten.threshold(x, low, high, out=out).ge_(high)


def _between(x: Tensor, lambd: float) -> Tensor:
    return (x >= -lambd) & (x <= lambd)


def _mark_between(out: Tensor, x: Tensor, lambd: float) -> Any:
    return torch.abs(x, out=out).le_(lambd)


def _hardswish_into(out: Tensor, g: Tensor, x: Tensor) -> Tensor:
    # outside -3 to 3 the slopes are those at -1.5 and 1.5
    slope = torch.threshold(x, -3, -1.5).neg_()
    slope = torch.sub(0.5, torch.threshold_(slope, -3, -1.5), alpha=1 / 3, out=slope)
    # an infinite or undefined factor makes the sum so too
    if torch.dot(g.reshape(-1), x.reshape(-1)).isfinite():
        return torch.mul(slope, g, out=out)
    return keep(out, slope.mul_(g), torch.ne, x.clamp(min=-3), -3)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), of any shape ``(*)``; as :func:`torch.nn.functional.relu`."""
    return activate(relu_rule, input, inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6), of any shape ``(*)``; as :func:`torch.nn.functional.relu6`."""
    return bend(relu6_rule, input, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x clamped to [min_val, max_val]; as :func:`torch.nn.functional.hardtanh`."""
    return bend(hardtanh_rule, input, inplace, min_val, max_val)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x above 0 and negative_slope x below; as :func:`torch.nn.functional.leaky_relu`."""
    return bend(leaky_relu_rule, input, inplace, negative_slope)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x above the threshold, else value; as :func:`torch.nn.functional.threshold`."""
    return bend(threshold_rule, input, inplace, threshold, value)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where abs(x) > lambd, else 0; as :func:`torch.nn.functional.hardshrink`."""
    return bend(hardshrink_rule, input, False, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, and 0 if it would cross; as :func:`torch.nn.functional.softshrink`."""
    return bend(softshrink_rule, input, False, lambd)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6; as :func:`torch.nn.functional.hardsigmoid`."""
    return bend(hardsigmoid_rule, input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x hardsigmoid(x); as :func:`torch.nn.functional.hardswish`."""
    return activate(hardswish_rule, input, inplace)


class ReLU(torch.nn.ReLU):
    """Drop-in for :class:`torch.nn.ReLU`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return relu(input, self.inplace)


class ReLU6(torch.nn.ReLU6):
    """Drop-in for :class:`torch.nn.ReLU6`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return relu6(input, self.inplace)


class Hardtanh(torch.nn.Hardtanh):
    """Drop-in for :class:`torch.nn.Hardtanh`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return hardtanh(input, self.min_val, self.max_val, self.inplace)


class LeakyReLU(torch.nn.LeakyReLU):
    """Drop-in for :class:`torch.nn.LeakyReLU`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return leaky_relu(input, self.negative_slope, self.inplace)


class Threshold(torch.nn.Threshold):
    """Drop-in for :class:`torch.nn.Threshold`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return threshold(input, self.threshold, self.value, self.inplace)


class Hardshrink(torch.nn.Hardshrink):
    """Drop-in for :class:`torch.nn.Hardshrink`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return hardshrink(input, self.lambd)


class Softshrink(torch.nn.Softshrink):
    """Drop-in for :class:`torch.nn.Softshrink`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return softshrink(input, self.lambd)


class Hardsigmoid(torch.nn.Hardsigmoid):
    """Drop-in for :class:`torch.nn.Hardsigmoid`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return hardsigmoid(input, self.inplace)


class Hardswish(torch.nn.Hardswish):
    """Drop-in for :class:`torch.nn.Hardswish`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return hardswish(input, self.inplace)


SPECS = (
    LayerSpec(ReLU, torch.nn.ReLU, (case((3, 4)), case((2, 3, 4), inplace=True), case(()), case((0, 3)))),
    LayerSpec(ReLU6, torch.nn.ReLU6, (case((3, 4)), case((3, 4), inplace=True))),
    LayerSpec(
        Hardtanh, torch.nn.Hardtanh, (case((3, 4)), case((3, 4), min_val=-0.5, max_val=0.2, inplace=True))
    ),
    LayerSpec(
        LeakyReLU,
        torch.nn.LeakyReLU,
        (case((3, 4)), case((3, 4), negative_slope=0.2, inplace=True), case((3, 4), negative_slope=-0.5)),
    ),
    LayerSpec(
        Threshold,
        torch.nn.Threshold,
        (case((3, 4), threshold=0.1, value=-1.0, inplace=True), case((3, 4), threshold=0.1, value=2.0)),
    ),
    LayerSpec(Hardshrink, torch.nn.Hardshrink, (case((3, 4)), case((3, 4), lambd=-0.5))),
    LayerSpec(Softshrink, torch.nn.Softshrink, (case((3, 4)), case((3, 4), lambd=0.0))),
    LayerSpec(Hardsigmoid, torch.nn.Hardsigmoid, (case((3, 4)), case((3, 4), inplace=True))),
    LayerSpec(Hardswish, torch.nn.Hardswish, (case((3, 4)), case((3, 4), inplace=True))),
)
