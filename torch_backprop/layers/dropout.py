"""Dropout of elements and of whole channels. Srivastava et al. (2014), JMLR 15; Tompson et al. (2015).

With a mask m, 1 with probability 1 - p and else 0, drawn for each element or for each channel:

    dropout        forward  y = x m / (1 - p)          backward  dL/dx = g m / (1 - p)
    alpha dropout  forward  y = a (x m + v (m - 1) + v p)   backward  dL/dx = g a m

since m, once drawn, is a constant (Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 7.57). Alpha
dropout keeps mean 0 and variance 1 through SELU (Klambauer et al. 2017, arXiv:1706.02515, "New dropout
technique"): v = 1.7580993408473766 is SELU's scale times its alpha, a = ((1 - p) (1 + p v^2))^(-1/2). Only m
is saved: one bit for an element, one number for a channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.bits import pack, unpack
from torch_backprop.layers.constants import selu_limit
from torch_backprop.rule import Rule, is_plain, save
from torch_backprop.spec import LayerSpec, case


class DropoutRule(Rule):
    """Draws m and saves it, as bits where it can be seen, else with its factor. Returns ``(y, m)``."""

    @staticmethod
    def forward(x: Tensor, p: float, alpha: bool) -> tuple[Tensor, Tensor]:
        # on CUDA torch's fused kernel draws, and draws differently from bernoulli_
        if x.is_cuda and not alpha:
            y, mask = torch.native_dropout(x, p, True)
            return y, pack(mask) if is_plain(mask) else mask.to(x.dtype) / (1 - p)
        # in the order in which torch fills its mask, with and without vmap
        noise = (torch.empty_like(x) if is_plain(x) else x.new_empty(x.shape)).bernoulli_(1 - p)
        # compiled, a mask of booleans takes longer to write than all the rest
        kept = pack(noise != 0) if is_plain(noise) else noise
        return _alpha_dropped(x, noise, p) if alpha else x * noise.div_(1 - p), kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, p, alpha = inputs
        ctx.mark_non_differentiable(output[1])
        save(ctx, output[1])
        ctx.shape, ctx.p, ctx.alpha = x.shape, p, alpha

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        # with alpha too the shift of what is dropped is a constant: a scaled mask remains
        return _masked(ctx, grad_y), None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> tuple[Tensor, None]:
        return _masked(ctx, tangent_x), None


class ScaleRule(Rule):
    """y = x m, with a constant m ``(N, C, 1, ...)`` or ``()`` that already holds the scale. Saves m."""

    @staticmethod
    def forward(x: Tensor, m: Tensor) -> Tensor:
        return x * m

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        save(ctx, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        (m,) = ctx.saved_tensors
        # m is a constant of the derivative, so that no order has a gradient for it
        return grad_y * m, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        (m,) = ctx.saved_tensors
        return tangent_x * m


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drops elements of ``(*)`` with probability p; as :func:`torch.nn.functional.dropout`.

    Raises:
        ValueError: p is not between 0 and 1, in torch's words.
    """
    return _drop_elements(F.dropout, input, p, training, inplace)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Drops elements of ``(*)`` to SELU's limit; as :func:`torch.nn.functional.alpha_dropout`.

    Raises:
        ValueError: p is not between 0 and 1, in torch's words.
    """
    return _drop_elements(F.alpha_dropout, input, p, training, inplace)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drops channels of ``(N, C, L)`` or ``(C, L)``; as :func:`torch.nn.functional.dropout1d`.

    Raises:
        ValueError: p is not between 0 and 1, in torch's words.
        RuntimeError: the input is neither 2-D nor 3-D, in torch's words.
    """
    return _drop_channels(F.dropout1d, 2 if input.dim() == 3 else 1, input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drops channels of ``(N, C, H, W)`` or ``(N, C, L)``; as :func:`torch.nn.functional.dropout2d`.

    Raises:
        ValueError: p is not between 0 and 1, in torch's words.
        RuntimeError: the input has fewer than two dimensions, in torch's words.
    """
    return _drop_channels(F.dropout2d, 2, input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drops channels of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; as :func:`torch.nn.functional.dropout3d`.

    Raises:
        ValueError: p is not between 0 and 1, in torch's words.
        RuntimeError: the input has no dimension, in torch's words.
    """
    return _drop_channels(F.dropout3d, 2 if input.dim() == 5 else 1, input, p, training, inplace)


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Drops channels of ``(N, C, *)`` to SELU's limit; as :func:`torch.nn.functional.feature_alpha_dropout`.

    Raises:
        ValueError: p is not between 0 and 1, in torch's words.
        RuntimeError: the input has fewer than two dimensions, in torch's words.
    """
    return _drop_channels(F.feature_alpha_dropout, 2, input, p, training, inplace)


class Dropout(torch.nn.Dropout):
    """Drop-in for :class:`torch.nn.Dropout`; draws the random numbers that it would draw."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``."""
        return dropout(input, self.p, self.training, self.inplace)


class Dropout1d(torch.nn.Dropout1d):
    """Drop-in for :class:`torch.nn.Dropout1d`; draws the random numbers that it would draw."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, L)`` or ``(C, L)`` to the same shape."""
        return dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(torch.nn.Dropout2d):
    """Drop-in for :class:`torch.nn.Dropout2d`; draws the random numbers that it would draw."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` or ``(N, C, L)`` to the same shape."""
        return dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(torch.nn.Dropout3d):
    """Drop-in for :class:`torch.nn.Dropout3d`; draws the random numbers that it would draw."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, D, H, W)`` or ``(C, D, H, W)`` to the same shape."""
        return dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(torch.nn.AlphaDropout):
    """Drop-in for :class:`torch.nn.AlphaDropout`; draws the random numbers that it would draw."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*)`` to ``(*)``; never in place, whatever the option says, as in torch."""
        return alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(torch.nn.FeatureAlphaDropout):
    """Drop-in for :class:`torch.nn.FeatureAlphaDropout`; draws the random numbers that it would draw."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` to the same shape; never in place, whatever the option says, as in torch."""
        return feature_alpha_dropout(input, self.p, self.training)


def _drop_elements(f: Callable[..., Tensor], x: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    if x.is_nested or not _draws(x, p, training):
        return f(x, p, training, inplace)
    y = ScaleRule.call(x, x.new_zeros(())) if p == 1 else DropoutRule.call(x, p, f is F.alpha_dropout)[0]
    return x.copy_(y) if inplace else y


def _drop_channels(
    f: Callable[..., Tensor], leading: int, x: Tensor, p: float, training: bool, inplace: bool
) -> Tensor:
    """torch's function on one number a channel draws the mask, and checks and warns as torch does."""
    if not _draws(x, p, training):
        return f(x, p, training, inplace)
    m = f(x.new_ones(x.shape[:leading] + (1,) * (x.dim() - leading)), p, True)
    if p == 1:
        y = ScaleRule.call(x, x.new_zeros(()))
    elif f is F.feature_alpha_dropout:
        # of ones it makes a (1 + v p) where kept, above 0, and a v (p - 1) where dropped, below
        noise = (m > 0).to(x.dtype)
        y = ScaleRule.call(x, noise * _scale(p)) + _alpha_shift(noise, p)
    else:
        y = ScaleRule.call(x, m)
    return x.copy_(y) if inplace else y


def _draws(x: Tensor, p: float, training: bool) -> bool:
    """Whether torch would draw a mask; if not, its own function returns the input or raises."""
    return training and 0 < p <= 1 and x.numel() > 0


def _scale(p: float) -> float:
    return 1 / math.sqrt((selu_limit() ** 2 * p + 1) * (1 - p))


def _alpha_shift(noise: Tensor, p: float) -> Tensor:
    a = _scale(p)
    return noise.add(-1).mul_(selu_limit() * a).add_(selu_limit() * a * p)


def _alpha_dropped(x: Tensor, noise: Tensor, p: float) -> Tensor:
    shift = _alpha_shift(noise, p)
    return (x * noise.mul_(_scale(p))).add_(shift)


def _masked(ctx: Any, g: Tensor) -> Tensor:
    (noise,) = ctx.saved_tensors
    if noise.dtype == torch.uint8:
        noise = unpack(noise, ctx.shape).to(g.dtype)
        # the product in forward's order, so that gradient and value round alike
        noise = noise * _scale(ctx.p) if ctx.alpha else noise / (1 - ctx.p)
    return g * noise


SPECS = (
    LayerSpec(
        Dropout,
        torch.nn.Dropout,
        (
            case((3, 5)),
            case((4, 7), p=0.2, inplace=True),
            case((3, 5), p=1.0),
            case((3, 5), p=0.0),
            case((), p=0.3),
            case((3, 5), train=False),
        ),
    ),
    LayerSpec(
        Dropout1d,
        torch.nn.Dropout1d,
        (case((2, 3, 4)), case((3, 4), p=0.2, inplace=True)),
        large=case((32, 64, 1024)),
    ),
    LayerSpec(
        Dropout2d,
        torch.nn.Dropout2d,
        (case((2, 3, 4, 2)), case((2, 3, 4, 2), p=0.2)),
        large=case((16, 64, 32, 32)),
    ),
    LayerSpec(
        Dropout3d,
        torch.nn.Dropout3d,
        (case((2, 3, 2, 2, 2)), case((3, 2, 2, 2), p=1.0)),
        large=case((4, 32, 16, 32, 32)),
    ),
    LayerSpec(AlphaDropout, torch.nn.AlphaDropout, (case((3, 5)), case((3, 5), p=0.2, inplace=True))),
    LayerSpec(
        FeatureAlphaDropout,
        torch.nn.FeatureAlphaDropout,
        (case((2, 3, 4)), case((2, 3), p=0.2)),
        large=case((16, 64, 32, 32)),
    ),
)
