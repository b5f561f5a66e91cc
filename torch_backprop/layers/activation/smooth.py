"""Activations whose derivative changes smoothly.

| function   | forward: y                    | backward: dL/dx divided by g                     | kept |
|------------|-------------------------------|--------------------------------------------------|------|
| sigmoid    | s(x) = 1 / (1 + exp(-x))      | y (1 - y)                                        | y    |
| tanh       | tanh x                        | 1 - y^2                                          | y    |
| logsigmoid | log s(x)                      | s(-x)                                            | x    |
| softplus   | log(1 + exp(b x)) / b         | s(b x); 1 where b x > threshold                  | x    |
| elu        | x if x > 0 else a (exp(x) - 1) | 1 if x > 0 else a exp(x)                        | x    |
| selu       | c elu(x; a)                   | c if x > 0 else c a exp(x)                       | x    |
| celu       | x if x > 0 else a (exp(x / a) - 1) | 1 if x > 0 else exp(x / a)                  | x    |
| softsign   | x / (1 + abs(x))              | (1 + abs(x))^-2                                  | x    |
| tanhshrink | x - tanh x                    | tanh(x)^2                                        | x    |

The one non-obvious step: s' = s (1 - s) and 1 - s(x) = s(-x), from which the slopes of tanh x = 2 s(2 x) - 1,
of log s and of softplus follow.

elu, selu and celu keep x although y + a = a exp(x): far below 0 the sum cancels, and at x = -15 in
float32 a fifth of the gradient is lost. y is kept where torch keeps it too, and nowhere else: whoever writes
into the output afterwards would spoil it.

Sources: Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 3.30-3.37 (s, softplus); Clevert,
Unterthiner & Hochreiter (2016), arXiv:1511.07289; Klambauer et al. (2017), arXiv:1706.02515, eq. 2; Barron
(2017), arXiv:1704.07483; Dugas et al. (2001); Turian et al. (2009).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.constants import selu_slopes
from torch_backprop.layers.elementwise import activate, always, elementwise, exp_, never, select, steps
from torch_backprop.rule import FLOAT32, private
from torch_backprop.spec import LayerSpec, case

# from the output, no exponential is taken a second time
sigmoid_rule = elementwise(
    torch.sigmoid,
    always,
    lambda g, y: g * (y * (1 - y)),
    lambda out, g, y: torch.sub(1, y, out=out).mul_(y).mul_(g),
)
tanh_rule = elementwise(
    torch.tanh,
    always,
    lambda g, y: g * (1 - y * y),
    lambda out, g, y: torch.mul(y, y, out=out).neg_().add_(1).mul_(g),
)
logsigmoid_rule = elementwise(
    F.logsigmoid,
    never,
    lambda g, x: g * torch.sigmoid(-x),
    lambda out, g, x: torch.neg(x, out=out).sigmoid_().mul_(g),
)
# from the input: y + a has lost the digits of a exp(x) where that is small
elu_rule = elementwise(
    F.elu,
    never,
    lambda g, x, a: _elu(g, x, 1, a, 1),
    lambda out, g, x, a: _elu_into(out, g, x, 1, a, 1),
)
selu_rule = elementwise(
    F.selu,
    never,
    lambda g, x: _elu(g, x, *selu_slopes(), 1),
    lambda out, g, x: _elu_into(out, g, x, *selu_slopes(), 1),
)
celu_rule = elementwise(
    F.celu,
    never,
    lambda g, x, a: _elu(g, x, 1, 1, a),
    lambda out, g, x, a: _elu_into(out, g, x, 1, 1, a),
)
softsign_rule = elementwise(
    F.softsign,
    never,
    lambda g, x: g / (1 + x.abs()).square(),
    lambda out, g, x: torch.div(g, torch.abs(x, out=out).add_(1).square_(), out=out),
)
# tanh^2, for in 1 - tanh' small numbers would cancel
tanhshrink_rule = elementwise(
    F.tanhshrink,
    never,
    lambda g, x: g * torch.tanh(x).square(),
    lambda out, g, x: torch.tanh(x, out=out).square_().mul_(g),
)


def _elu(g: Tensor, x: Tensor, scale: float, a: float, width: float) -> Tensor:
    # exp only of what is below 0, by relu, whose slope at 0 is 0: above it would overflow
    below = g * (scale * a) * torch.exp(-torch.relu(-x) / width)
    return select(g * scale, below, torch.gt, x, 0)


def _elu_into(out: Tensor, g: Tensor, x: Tensor, scale: float, a: float, width: float) -> Tensor:
    torch.clamp(x, max=0, out=out)
    if width != 1:
        out.div_(width)
    exp_(out) if width > 0 else out.exp_()
    if scale * a != 1:
        out.mul_(steps(torch.empty_like(x), x, a).mul_(scale))
    return out.mul_(g)


def _softplus_into(out: Tensor, g: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    z = x * beta
    torch.gt(z, threshold, out=out)
    return torch.maximum(z.sigmoid_(), out, out=out).mul_(g)


softplus_rule = elementwise(
    F.softplus,
    never,
    lambda g, x, beta, threshold: select(g, g * torch.sigmoid(x * beta), torch.gt, x * beta, threshold),
    _softplus_into,
    autocast={"cuda": FLOAT32},
)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), of any shape ``(*)``; as :func:`torch.nn.functional.sigmoid`."""
    return sigmoid_rule.call(input)


def tanh(input: Tensor) -> Tensor:
    """tanh x, of any shape ``(*)``; as :func:`torch.nn.functional.tanh`."""
    return tanh_rule.call(input)


def logsigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))); as :func:`torch.nn.functional.logsigmoid`."""
    return logsigmoid_rule.call(input)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x above the threshold; as :func:`torch.nn.functional.softplus`."""
    return softplus_rule.call(input, beta, threshold)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0 and alpha (exp(x) - 1) below; as :func:`torch.nn.functional.elu`."""
    return activate(elu_rule, input, inplace, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """elu scaled so that variance is kept; as :func:`torch.nn.functional.selu`."""
    return activate(selu_rule, input, inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0 and alpha (exp(x / alpha) - 1) below; as :func:`torch.nn.functional.celu`."""
    return activate(celu_rule, input, inplace, alpha)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + abs(x)); as :func:`torch.nn.functional.softsign`."""
    if input.is_complex():  # abs has no complex derivative, so the diagonal rule does not hold
        return F.softsign(input)
    return softsign_rule.call(input)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh x; as :func:`torch.nn.functional.tanhshrink`."""
    # torch keeps tanh x
    return tanhshrink_rule.call(private(input))


class Sigmoid(torch.nn.Sigmoid):
    """Drop-in for :class:`torch.nn.Sigmoid`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return sigmoid(input)


class Tanh(torch.nn.Tanh):
    """Drop-in for :class:`torch.nn.Tanh`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return tanh(input)


class LogSigmoid(torch.nn.LogSigmoid):
    """Drop-in for :class:`torch.nn.LogSigmoid`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return logsigmoid(input)


class Softplus(torch.nn.Softplus):
    """Drop-in for :class:`torch.nn.Softplus`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return softplus(input, self.beta, self.threshold)


class ELU(torch.nn.ELU):
    """Drop-in for :class:`torch.nn.ELU`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return elu(input, self.alpha, self.inplace)


class SELU(torch.nn.SELU):
    """Drop-in for :class:`torch.nn.SELU`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return selu(input, self.inplace)


class CELU(torch.nn.CELU):
    """Drop-in for :class:`torch.nn.CELU`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return celu(input, self.alpha, self.inplace)


class Softsign(torch.nn.Softsign):
    """Drop-in for :class:`torch.nn.Softsign`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return softsign(input)


class Tanhshrink(torch.nn.Tanhshrink):
    """Drop-in for :class:`torch.nn.Tanhshrink`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``, element by element."""
        return tanhshrink(input)


SPECS = (
    LayerSpec(Sigmoid, torch.nn.Sigmoid, (case((3, 4)), case(()))),
    LayerSpec(Tanh, torch.nn.Tanh, (case((3, 4)), case((0,)))),
    LayerSpec(LogSigmoid, torch.nn.LogSigmoid, (case((3, 4)),)),
    LayerSpec(
        Softplus,
        torch.nn.Softplus,
        (
            case((3, 4)),
            case((3, 4), beta=2, threshold=1),
            case((3, 4), beta=-1.5),
        ),
    ),
    LayerSpec(ELU, torch.nn.ELU, (case((3, 4)), case((3, 4), alpha=0.5, inplace=True))),
    LayerSpec(SELU, torch.nn.SELU, (case((3, 4)), case((3, 4), inplace=True))),
    LayerSpec(CELU, torch.nn.CELU, (case((3, 4)), case((3, 4), alpha=0.5, inplace=True))),
    LayerSpec(Softsign, torch.nn.Softsign, (case((3, 4)),)),
    LayerSpec(Tanhshrink, torch.nn.Tanhshrink, (case((3, 4)),)),
)
