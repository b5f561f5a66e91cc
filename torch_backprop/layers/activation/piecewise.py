"""Piecewise linear activations: the derivative is constant on each piece, so y says which piece it was.

| function             | y                                | dL/dx                      | kept |
|----------------------|----------------------------------|----------------------------|------|
| relu                 | max(x, 0)                        | g if y > 0                 | y    |
| relu6, hardtanh      | min(max(x, low), high)           | g if low < y < high        | y, or x if rounded |
| leaky_relu           | x if x > 0 else a x              | g if y > 0 else a g        | y, or x if a < 0 |
| threshold            | x if x > t else v                | g if y > t                 | y, or x if v > t |
| hardshrink           | x if abs(x) > l else 0           | g if y != 0                | y    |
| softshrink           | x - l sign(x) if abs(x) > l else 0 | g if y != 0              | y    |
| hardsigmoid          | min(max(x + 3, 0), 6) / 6        | g / 6 if abs(x) < 3        | x    |
| hardswish            | x min(max(x + 3, 0), 6) / 6      | g (x / 3 + 1/2) if abs(x) < 3, g above | x |

At a kink the derivative is torch's; NaN passes g on, as torch does. hardsigmoid keeps x: near 3 its y rounds
to 1 before x reaches 3. Sources: Nair & Hinton (2010); Maas, Hannun & Ng (2013); Howard et al. (2019),
arXiv:1905.02244, section 5.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.elementwise import activate, always, elementwise, keep, never, select, steps
from torch_backprop.spec import LayerSpec, case

# the output tells on which side of a kink the input was
relu_rule = elementwise(
    F.relu,
    always,
    lambda g, y: select(g, 0, torch.ne, y, 0),
    lambda out, g, y: keep(out, g, torch.ne, y, 0),
)
relu6_rule = elementwise(
    F.relu6,
    always,
    lambda g, y: _inside(g, y, 0, 6),
    lambda out, g, y: _inside_into(out, g, y, 0, 6),
)
hardtanh_rule = elementwise(
    F.hardtanh,
    lambda x, low, high: _holds(x, low) and _holds(x, high),
    lambda g, kept, low, high: _inside(g, kept, low, high),
    lambda out, g, kept, low, high: _inside_into(out, g, kept, low, high),
)
# unless the slope is negative: then both sides have the same sign
leaky_relu_rule = elementwise(
    F.leaky_relu,
    lambda x, a: a >= 0,
    lambda g, kept, a: select(g, g * a, torch.gt, kept, 0),
    lambda out, g, kept, a: steps(out, kept, a).mul_(g),
)
# unless the value lies above the threshold, where an input may be too
threshold_rule = elementwise(
    F.threshold,
    lambda x, t, v: v <= t and _holds(x, v),
    lambda g, kept, t, v: select(0, g, torch.le, kept, t),
    lambda out, g, kept, t, v: keep(out, g, torch.ne, F.threshold(kept, t, t), t),
)
hardshrink_rule = elementwise(
    F.hardshrink,
    lambda x, lambd: lambd >= 0,
    lambda g, kept, lambd: select(g, 0, torch.ne, kept, 0) if lambd >= 0 else g + 0 * torch.sign(kept),
    lambda out, g, kept, lambd: keep(out, g, torch.ne, kept, 0) if lambd >= 0 else out.copy_(g),
)
softshrink_rule = elementwise(
    F.softshrink,
    always,
    lambda g, y, lambd: select(g, 0, torch.ne, y, 0),
    lambda out, g, y, lambd: keep(out, g, torch.ne, y, 0),
)
hardsigmoid_rule = elementwise(
    F.hardsigmoid,
    never,
    lambda g, x: select(g / 6, 0, torch.lt, x.abs(), 3),
    lambda out, g, x: keep(out, g, torch.lt, x.abs(), 3).div_(6),
)
hardswish_rule = elementwise(
    F.hardswish,
    never,
    lambda g, x: select(0, select(g, g * (x / 3 + 0.5), torch.ge, x, 3), torch.le, x, -3),
    lambda out, g, x: _hardswish_into(out, g, x),
)


def _inside(g: Tensor, kept: Tensor, low: float, high: float) -> Tensor:
    return select(g, 0, torch.ne, _at_one_end(kept, low, high), high)


def _inside_into(out: Tensor, g: Tensor, kept: Tensor, low: float, high: float) -> Tensor:
    return keep(out, g, torch.ne, _at_one_end(kept, low, high), high)


def _at_one_end(kept: Tensor, low: float, high: float) -> Tensor:
    """What is at a bound or beyond, moved to the upper one, so that one comparison finds it."""
    return F.threshold(kept, low, high).clamp_(max=high)


def _hardswish_into(out: Tensor, g: Tensor, x: Tensor) -> Tensor:
    x = x.clamp(min=-3)
    # from 3 upwards the slope is that at 1.5
    slope = torch.threshold_(torch.neg(x), -3, -1.5)
    grad_x = torch.sub(0.5, slope, alpha=1 / 3, out=slope).mul_(g)
    return keep(out, grad_x, torch.ne, x, -3)


def _holds(x: Tensor, bound: float) -> bool:
    """Whether y at the bound equals it: half precision rounds 0.2, and y no longer tells the sides apart."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    return not half or (float(bound).is_integer() and abs(bound) <= 256)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), of any shape ``(*)``; as :func:`torch.nn.functional.relu`."""
    return activate(relu_rule, input, inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6), of any shape ``(*)``; as :func:`torch.nn.functional.relu6`."""
    return activate(relu6_rule, input, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x clamped to [min_val, max_val]; as :func:`torch.nn.functional.hardtanh`."""
    return activate(hardtanh_rule, input, inplace, min_val, max_val)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x above 0 and negative_slope x below; as :func:`torch.nn.functional.leaky_relu`."""
    return activate(leaky_relu_rule, input, inplace, negative_slope)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x above the threshold, else value; as :func:`torch.nn.functional.threshold`."""
    return activate(threshold_rule, input, inplace, threshold, value)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where abs(x) > lambd, else 0; as :func:`torch.nn.functional.hardshrink`."""
    return hardshrink_rule.call(input, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, and 0 if it would cross; as :func:`torch.nn.functional.softshrink`."""
    return softshrink_rule.call(input, lambd)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6; as :func:`torch.nn.functional.hardsigmoid`."""
    return activate(hardsigmoid_rule, input, inplace)


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
