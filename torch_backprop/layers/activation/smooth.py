"""Activations whose derivative changes smoothly.

| function   | y                             | dL/dx divided by g                               | kept |
|------------|-------------------------------|--------------------------------------------------|------|
| sigmoid    | s(x) = 1 / (1 + exp(-x))      | y (1 - y)                                        | y    |
| tanh       | tanh x                        | 1 - y^2                                          | y    |
| logsigmoid | log s(x)                      | s(-x) = 1 - exp(y)                               | y    |
| softplus   | log(1 + exp(b x)) / b         | s(b x) = 1 - exp(-b y); 1 where b x > threshold  | y, or x |
| elu        | x if x > 0 else a (exp(x) - 1) | 1 if x > 0 else a exp(x)                        | x    |
| selu       | c elu(x; a)                   | c if x > 0 else c a exp(x)                       | x    |
| celu       | x if x > 0 else a (exp(x / a) - 1) | 1 if x > 0 else exp(x / a)                  | x    |
| softsign   | x / (1 + abs(x))              | (1 + abs(x))^-2                                  | x    |
| tanhshrink | x - tanh x                    | tanh(x)^2                                        | x    |
| silu       | x s(x)                        | s (1 + x (1 - s))                                | x    |
| mish       | x t, t = tanh(softplus(x))    | t + x s (1 - t^2)                                | x    |
| gelu       | x P(x), P the normal law      | P(x) + x p(x), p its density                     | x    |
| gelu, tanh | x (1 + tanh u) / 2, u = k (x + 0.044715 x^3) | (1 + tanh u + x (1 - tanh(u)^2) du/dx) / 2 | x |

elu, selu and celu keep x although y + a = a exp(x): far below 0 the sum cancels, and at x = -15 in float32 a
fifth of the gradient is lost. softplus is linear above its threshold, where y alone cannot tell the two
branches apart within exp(-threshold): y is kept when that is below rounding.

Sources: Clevert, Unterthiner & Hochreiter (2016), arXiv:1511.07289; Klambauer et al. (2017),
arXiv:1706.02515; Barron (2017), arXiv:1704.07483; Hendrycks & Gimpel (2016), arXiv:1606.08415; Elfwing,
Uchibe & Doya (2018), arXiv:1702.03118; Misra (2019), arXiv:1908.08681; Dugas et al. (2001);
Turian et al. (2009).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.elementwise import activate, always, elementwise, never, select
from torch_backprop.rule import FLOAT32
from torch_backprop.spec import LayerSpec, case

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def gelu_tanh(x: Tensor) -> Tensor:
    """x Phi(x), with Phi approximated by tanh."""
    return F.gelu(x, approximate="tanh")


# from the output, no exponential is taken a second time
sigmoid_rule = elementwise(torch.sigmoid, always, lambda g, y: g * (y * (1 - y)))
tanh_rule = elementwise(torch.tanh, always, lambda g, y: g * (1 - y * y))
logsigmoid_rule = elementwise(F.logsigmoid, always, lambda g, y: g * -torch.expm1(y))
# from the input: y + a has lost the digits of a exp(x) where that is small
elu_rule = elementwise(F.elu, never, lambda g, x, a: _elu(g, x, 1, a, 1))
selu_rule = elementwise(F.selu, never, lambda g, x: _elu(g, x, SELU_SCALE, SELU_ALPHA, 1))
celu_rule = elementwise(F.celu, never, lambda g, x, a: _elu(g, x, 1, 1, a))
softsign_rule = elementwise(F.softsign, never, lambda g, x: g / (1 + x.abs()).square())
# tanh^2, for in 1 - tanh' small numbers would cancel
tanhshrink_rule = elementwise(F.tanhshrink, never, lambda g, x: g * torch.tanh(x).square())
silu_rule = elementwise(F.silu, never, lambda g, x: _silu(g, x, torch.sigmoid(x)))
mish_rule = elementwise(F.mish, never, lambda g, x: _mish(g, x, torch.tanh(F.softplus(x))))
gelu_rule = elementwise(F.gelu, never, lambda g, x: g * (_normal_law(x) + x * _normal_density(x)))
gelu_tanh_rule = elementwise(gelu_tanh, never, lambda g, x: _gelu_tanh(g, x))


def _elu(g: Tensor, x: Tensor, scale: float, a: float, width: float) -> Tensor:
    # exp only of what is below 0: its overflow above would make the second derivative undefined
    below = g * (scale * a) * torch.exp(x.clamp(max=0) / width)
    return select(g * scale, below, torch.gt, x, 0)


def _silu(g: Tensor, x: Tensor, s: Tensor) -> Tensor:
    return g * (s * (1 + x * (1 - s)))


def _mish(g: Tensor, x: Tensor, t: Tensor) -> Tensor:
    return g * (t + x * torch.sigmoid(x) * (1 - t * t))


def _normal_law(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))


def _normal_density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _gelu_tanh(g: Tensor, x: Tensor) -> Tensor:
    k, c = math.sqrt(2 / math.pi), 0.044715
    t = torch.tanh(k * (x + c * x * x * x))
    return g * (0.5 * (1 + t + x * (1 - t * t) * (k * (1 + 3 * c * x * x))))


def _softplus_keeps_output(x: Tensor, beta: float, threshold: float) -> bool:
    if not x.is_floating_point() or beta <= 0:
        return False
    return math.exp(-threshold) < torch.finfo(x.dtype).eps


def _softplus(g: Tensor, kept: Tensor, beta: float, threshold: float) -> Tensor:
    z = kept * beta
    # 1 - exp(-b y) without its cancellation where y is small
    slope = -torch.expm1(-z) if _softplus_keeps_output(kept, beta, threshold) else torch.sigmoid(z)
    return select(g, g * slope, torch.gt, z, threshold)


softplus_rule = elementwise(F.softplus, _softplus_keeps_output, _softplus, {"cuda": FLOAT32})


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
    return tanhshrink_rule.call(input)


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
    LayerSpec(Sigmoid, torch.nn.Sigmoid, (case((3, 4)), case(()))),
    LayerSpec(Tanh, torch.nn.Tanh, (case((3, 4)), case((0,)))),
    LayerSpec(LogSigmoid, torch.nn.LogSigmoid, (case((3, 4)),)),
    LayerSpec(
        Softplus,
        torch.nn.Softplus,
        (case((3, 4)), case((3, 4), beta=2, threshold=1), case((3, 4), beta=-1.5)),
    ),
    LayerSpec(ELU, torch.nn.ELU, (case((3, 4)), case((3, 4), alpha=0.5, inplace=True))),
    LayerSpec(SELU, torch.nn.SELU, (case((3, 4)), case((3, 4), inplace=True))),
    LayerSpec(CELU, torch.nn.CELU, (case((3, 4)), case((3, 4), alpha=0.5, inplace=True))),
    LayerSpec(Softsign, torch.nn.Softsign, (case((3, 4)),)),
    LayerSpec(Tanhshrink, torch.nn.Tanhshrink, (case((3, 4)),)),
    LayerSpec(SiLU, torch.nn.SiLU, (case((3, 4)), case((3, 4), inplace=True))),
    LayerSpec(Mish, torch.nn.Mish, (case((3, 4)), case((3, 4), inplace=True))),
    LayerSpec(GELU, torch.nn.GELU, (case((3, 4)), case((3, 4), approximate="tanh"))),
)
