"""Local response normalization over channels. Krizhevsky, Sutskever & Hinton (2012), NeurIPS 25, section 3.3.

Channel c is divided by what the channels of its window W(c), n of them, have at the same position:

    forward   d_c = k + alpha / n sum_(j in W(c)) x_j^2    y_c = x_c d_c^-beta
    backward  dL/dx_j = g_j d_j^-beta - 2 alpha beta / n x_j sum_(c with j in W(c)) g_c x_c d_c^(-beta - 1)

The one non-obvious step: the second sum is over the windows that j is in, not over those in j's window, since
x_j gets from every y_c that it is in (Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 6.45). They
differ where windows are not symmetric, as they are not in ``LocalResponseNorm`` of an even size (it has one
channel more before than after), nor in ``CrossMapLRN2d``: as torch computes it, there the first channel is in
the window of all channels that come after its own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules._functions import CrossMapLRN2d as _CrossMapLRN2d

from torch_backprop.layers.elementwise import pull
from torch_backprop.rule import FLOAT32, Rule, save
from torch_backprop.spec import LayerSpec, case


class ResponseRule(Rule):
    """Saves x. The window is ``before`` and ``after`` channels, and the first if it ``keeps_first``."""

    @staticmethod
    def forward(
        x: Tensor, before: int, after: int, keeps_first: bool, share: float, beta: float, k: float
    ) -> Tensor:
        # the forward too is a chain of elementwise passes, which tiles make cheap
        return pull(_value, x, x, before, after, keeps_first, share, beta, k)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *ctx.options = inputs
        save(ctx, x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return pull(_pullback, grad_y, x, *ctx.options), *(None for _ in ctx.options)

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: None) -> Tensor:
        (x,) = ctx.saved_tensors
        return pull(_pushforward, tangent_x, x, *ctx.options)


class SequenceRule(ResponseRule):
    """That of ``(N, C, L)``, for which torch uses ``avg_pool2d``."""

    autocast = {"cuda": FLOAT32}


class SpatialRule(ResponseRule):
    """That of more dimensions, for which torch uses ``avg_pool3d``: where that has no kernel, it says so."""

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def forward(
        x: Tensor, before: int, after: int, keeps_first: bool, share: float, beta: float, k: float
    ) -> Tensor:
        # raises where that has no kernel for this dtype
        F.avg_pool3d(x.new_zeros(1, 1, 1, 1), 1)
        return pull(_value, x, x, before, after, keeps_first, share, beta, k)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Divides each channel by those around it; as :func:`torch.nn.functional.local_response_norm`.

    Args:
        input: ``(N, C, *)``, with one dimension more at least.
        size: the number of channels of a window.
        alpha: the factor of the mean square.
        beta: the power.
        k: what is added to it.

    Raises:
        ValueError: fewer than three dimensions, in torch's words.
        RuntimeError: a dtype that is not floating-point, in torch's words.
    """
    if input.dim() < 3 or not input.numel() or size < 1 or not input.is_floating_point():
        return F.local_response_norm(input, size, alpha, beta, k)
    rule = SequenceRule if input.dim() == 3 else SpatialRule
    return rule.call(input, size // 2, (size - 1) // 2, False, alpha / size, beta, k)


class LocalResponseNorm(torch.nn.LocalResponseNorm):
    """Drop-in for :class:`torch.nn.LocalResponseNorm`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` to the same shape."""
        return local_response_norm(input, self.size, self.alpha, self.beta, self.k)


class CrossMapLRN2d(torch.nn.CrossMapLRN2d):
    """Drop-in for :class:`torch.nn.CrossMapLRN2d`, with the gradient that belongs to its values."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to the same shape."""
        if input.dim() != 4 or not input.is_floating_point() or not input.shape[1]:
            return _CrossMapLRN2d.apply(input, self.size, self.alpha, self.beta, self.k)  # raises
        around, share = int((self.size - 1) / 2 + 1) - 1, self.alpha / self.size
        return ResponseRule.call(input.contiguous(), around, around, True, share, self.beta, self.k)


def _value(_: Tensor, x: Tensor, *options: Any) -> Tensor:
    return x * _divided(x, *options)[0]


def _pullback(g: Tensor, x: Tensor, *options: Any) -> Tensor:
    power, slope = _divided(x, *options)
    return g * power - 2 * x * _over_windows(g * x * slope, *options[:3])


def _pushforward(t: Tensor, x: Tensor, *options: Any) -> Tensor:
    power, slope = _divided(x, *options)
    return t * power - 2 * x * slope * _window(x * t, *options[:3])


def _divided(
    x: Tensor, before: int, after: int, keeps_first: bool, share: float, beta: float, k: float
) -> tuple[Tensor, Tensor]:
    """d^-beta, and alpha beta / n d^(-beta - 1)."""
    d = _window(x * x, before, after, keeps_first) * share + k
    power = d**-beta
    # without a power nothing is divided, not even by a d of 0
    return power, power / d * (share * beta) if beta else torch.zeros_like(d)


def _window(t: Tensor, before: int, after: int, keeps_first: bool) -> Tensor:
    """The sums over the channels of each channel's window."""
    sums = _sums(t, before, after)
    if not keeps_first:
        return sums
    near, far = _cut(sums, after + 1)
    return torch.cat((near, far + t.narrow(1, 0, 1)), 1)


def _over_windows(t: Tensor, before: int, after: int, keeps_first: bool) -> Tensor:
    """The transpose: the sums over the channels in whose window each channel is."""
    sums = _sums(t, after, before)
    if not keeps_first:
        return sums
    first, others = _cut(sums, 1)
    return torch.cat((first + _cut(t, after + 1)[1].sum(1, keepdim=True), others), 1)


def _cut(t: Tensor, channel: int) -> tuple[Tensor, Tensor]:
    # not by indexing, which makes an alias of a whole that is_grads_batched cannot batch
    first, others = t.tensor_split([channel], 1)
    return first, others


def _sums(t: Tensor, before: int, after: int) -> Tensor:
    samples, channels, *positions = t.shape
    edges = (t.new_zeros(samples, length, *positions) for length in (before, after))
    padded = torch.cat((next(edges), t, next(edges)), 1)
    total = padded.narrow(1, 0, channels)
    for offset in range(1, before + after + 1):
        total = total + padded.narrow(1, offset, channels)
    return total


SPECS = (
    LayerSpec(
        LocalResponseNorm,
        torch.nn.LocalResponseNorm,
        (
            case((2, 5, 3), size=3, alpha=0.5),
            case((2, 5, 2, 3), size=4, alpha=0.5, beta=0.5, k=2.0),
            case((2, 2, 2, 2), size=7),
        ),
        large=case((16, 64, 32, 32), size=5),
    ),
    LayerSpec(
        CrossMapLRN2d,
        torch.nn.CrossMapLRN2d,
        (
            case((1, 4, 1, 2), size=3, alpha=0.5),
            case((2, 5, 2, 2), size=4, alpha=0.5, beta=0.5, k=2.0),
            case((2, 1, 2, 2), size=4),
        ),
        large=case((16, 64, 32, 32), size=5),
    ),
)
