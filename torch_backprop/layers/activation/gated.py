"""Activations that weigh x by a smooth gate: y = x times a number between 0 and 1.

| function   | forward: y                            | backward: dL/dx divided by g     | kept |
|------------|---------------------------------------|----------------------------------|------|
| silu       | x s(x), s(x) = 1 / (1 + exp(-x))      | s (1 + x (1 - s))                | x    |
| mish       | x t, t = tanh(softplus(x))            | t + x s (1 - t^2)                | x    |
| gelu       | x P(x), P the normal law              | P(x) + x p(x), p its density     | x    |
| gelu, tanh | x (1 + tanh(u / 2)) / 2 = x s(u)      | s (1 + x (1 - s) du/dx)          | x    |

with u = (8 / pi)^(1/2) (x + 0.044715 x^3). Each is a product, so that its derivative is the gate plus x times
the gate's slope, since s' = s (1 - s), P' = p, and t' = (1 - t^2) s because softplus' = s. As
tanh(u / 2) = 2 s(u) - 1, the last row is the first with s(u) as its gate.

Sources: Elfwing, Uchibe & Doya (2018), arXiv:1702.03118, section 2; Misra (2019), arXiv:1908.08681;
Hendrycks & Gimpel (2016), arXiv:1606.08415, section 2. The slopes of s and of softplus: Goodfellow, Bengio &
Courville (2016), "Deep Learning", eqs. 3.34 and 3.37.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.constants import gelu_polynomial, root_two_pi
from torch_backprop.layers.elementwise import activate, elementwise, never
from torch_backprop.spec import LayerSpec, case


def gelu_tanh(x: Tensor) -> Tensor:
    """x Phi(x), with Phi approximated by tanh."""
    return F.gelu(x, approximate="tanh")


silu_rule = elementwise(
    F.silu,
    never,
    lambda g, x: _silu(g, x, torch.sigmoid(x)),
    lambda out, g, x: _silu_into(out, g, x, torch.sigmoid(x)),
)
mish_rule = elementwise(F.mish, never, lambda g, x: _mish(g, x, torch.tanh(F.softplus(x))))
gelu_rule = elementwise(
    F.gelu,
    never,
    lambda g, x: g * (_normal_law(x) + x * _normal_density(x)),
    lambda out, g, x: _gelu_into(out, g, x),
)
gelu_tanh_rule = elementwise(
    gelu_tanh,
    never,
    lambda g, x: _gelu_tanh(g, x, x * x),
    lambda out, g, x: _gelu_tanh_into(out, g, x, x * x),
)


def _silu(g: Tensor, x: Tensor, s: Tensor) -> Tensor:
    return g * (s * (1 + x * (1 - s)))


def _silu_into(out: Tensor, g: Tensor, x: Tensor, s: Tensor) -> Tensor:
    return torch.sub(1, s, out=out).mul_(x).add_(1).mul_(s).mul_(g)


def _mish(g: Tensor, x: Tensor, t: Tensor) -> Tensor:
    return g * (t + x * torch.sigmoid(x) * (1 - t * t))


def _normal_law(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))


def _normal_density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) / root_two_pi()


def _gelu_into(out: Tensor, g: Tensor, x: Tensor) -> Tensor:
    # 1 first, beside which the density's part of a small sum would be lost
    twice_law = torch.erf(x * math.sqrt(0.5)).add_(1)
    # exp2 takes the same time everywhere, exp a hundred times as long where its value is tiny
    density = torch.mul(x, x, out=out).mul_(-0.5 * math.log2(math.e)).exp2_()
    return torch.addcmul(twice_law, density, x, value=2 / root_two_pi(), out=out).mul_(0.5).mul_(g)


def _gelu_tanh(g: Tensor, x: Tensor, square: Tensor) -> Tensor:
    slope, cube = gelu_polynomial()
    u = x * (slope + cube * square)
    # s(-u), for 1 - s(u) has few digits left where the slope is steep
    return g * (torch.sigmoid(u) * (1 + x * torch.sigmoid(-u) * (slope + 3 * cube * square)))


def _gelu_tanh_into(out: Tensor, g: Tensor, x: Tensor, square: Tensor) -> Tensor:
    slope, cube = gelu_polynomial()
    u = torch.mul(square, cube, out=out).add_(slope).mul_(x)
    s = torch.sigmoid(u)
    x_slope = square.mul_(3 * cube).add_(slope).mul_(x)
    return u.neg_().sigmoid_().mul_(x_slope).add_(1).mul_(s).mul_(g)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x / (1 + exp(-x)); as :func:`torch.nn.functional.silu`."""
    return activate(silu_rule, input, inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x)); as :func:`torch.nn.functional.mish`."""
    return activate(mish_rule, input, inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x P(X < x) for a normal X, or its tanh approximation; as :func:`torch.nn.functional.gelu`.

    Raises:
        RuntimeError: ``approximate`` is neither "none" nor "tanh", in torch's words.
    """
    if approximate == "none":
        return gelu_rule.call(input)
    return gelu_tanh_rule.call(input) if approximate == "tanh" else F.gelu(input, approximate=approximate)


class SiLU(torch.nn.SiLU):
    """Drop-in for :class:`torch.nn.SiLU`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return silu(input, self.inplace)


class Mish(torch.nn.Mish):
    """Drop-in for :class:`torch.nn.Mish`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return mish(input, self.inplace)


class GELU(torch.nn.GELU):
    """Drop-in for :class:`torch.nn.GELU`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return gelu(input, self.approximate)


SPECS = (
    LayerSpec(SiLU, torch.nn.SiLU, (case((3, 4)), case((3, 4), inplace=True))),
    LayerSpec(Mish, torch.nn.Mish, (case((3, 4)), case((3, 4), inplace=True))),
    LayerSpec(GELU, torch.nn.GELU, (case((3, 4)), case((3, 4), approximate="tanh"))),
)
