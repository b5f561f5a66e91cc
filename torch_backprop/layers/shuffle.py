"""Shuffles: permutations of elements, whose derivative is the permutation back.

    pixel shuffle    forward   y[c, h r + i, w r + j] = x[(c r + i) r + j, h, w]
                     backward  dL/dx = pixel_unshuffle(g, r)
    channel shuffle  forward   y[c G + k] = x[k C / G + c], over G groups
                     backward  dL/dx = channel_shuffle(g, C / G)

since the transpose of a permutation is its inverse.

Shi et al. (2016), arXiv:1609.05158, eq. 4; Zhang et al. (2018), arXiv:1707.01083, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.rule import Rule, owned
from torch_backprop.spec import LayerSpec, case


@dataclass(frozen=True)
class Permutation:
    """A function with its number, and those of the permutation back."""

    there: Callable[[Tensor, int], Tensor]
    number: int
    back: Callable[[Tensor, int], Tensor]
    number_back: int


class PermutationRule(Rule):
    """Saves nothing."""

    @staticmethod
    def forward(x: Tensor, permutation: Permutation) -> Tensor:
        return owned(permutation.there(x, permutation.number))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Permutation], output: Tensor) -> None:
        x, ctx.permutation = inputs
        # the numbers of x are not needed
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        # torch returns an input without elements in the shape that it has
        if not grad_y.numel():
            return grad_y.reshape(ctx.shape), None
        # a permutation is orthogonal: its transpose is its inverse
        return ctx.permutation.back(grad_y, ctx.permutation.number_back), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        return ctx.permutation.there(tangent_x, ctx.permutation.number)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels to pixels; as :func:`torch.nn.functional.pixel_shuffle`.

    Args:
        input: ``(*, C r^2, H, W)``.
        upscale_factor: r.

    Returns:
        ``(*, C, H r, W r)``.

    Raises:
        RuntimeError: a number of channels that r^2 does not divide, in torch's words.
    """
    permutation = Permutation(F.pixel_shuffle, upscale_factor, F.pixel_unshuffle, upscale_factor)
    return PermutationRule.call(input, permutation)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels to channels; as :func:`torch.nn.functional.pixel_unshuffle`.

    Args:
        input: ``(*, C, H r, W r)``.
        downscale_factor: r.

    Returns:
        ``(*, C r^2, H, W)``.

    Raises:
        RuntimeError: a height or width that r does not divide, in torch's words.
    """
    permutation = Permutation(F.pixel_unshuffle, downscale_factor, F.pixel_shuffle, downscale_factor)
    return PermutationRule.call(input, permutation)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Takes channels from the groups by turns; as :func:`torch.nn.functional.channel_shuffle`.

    Args:
        input: ``(N, C, *)``.
        groups: G, which divides C.

    Raises:
        RuntimeError: a number of channels that G does not divide, in torch's words.
    """
    channels = input.shape[1] if input.dim() > 1 else 0
    permutation = Permutation(F.channel_shuffle, groups, F.channel_shuffle, channels // max(groups, 1))
    return PermutationRule.call(input, permutation)


class PixelShuffle(torch.nn.PixelShuffle):
    """Drop-in for :class:`torch.nn.PixelShuffle`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*, C r^2, H, W)`` to ``(*, C, H r, W r)``."""
        return pixel_shuffle(input, self.upscale_factor)


class PixelUnshuffle(torch.nn.PixelUnshuffle):
    """Drop-in for :class:`torch.nn.PixelUnshuffle`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*, C, H r, W r)`` to ``(*, C r^2, H, W)``."""
        return pixel_unshuffle(input, self.downscale_factor)


class ChannelShuffle(torch.nn.ChannelShuffle):
    """Drop-in for :class:`torch.nn.ChannelShuffle`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` to ``(N, C, *)``."""
        return channel_shuffle(input, self.groups)


SPECS = (
    LayerSpec(
        PixelShuffle,
        torch.nn.PixelShuffle,
        (case((2, 8, 2, 3), upscale_factor=2), case((9, 2, 1), upscale_factor=3)),
        large=case((16, 64, 32, 32), upscale_factor=2),
    ),
    LayerSpec(
        PixelUnshuffle,
        torch.nn.PixelUnshuffle,
        (case((2, 3, 4, 6), downscale_factor=2), case((2, 3, 6), downscale_factor=3)),
        large=case((16, 64, 32, 32), downscale_factor=2),
    ),
    LayerSpec(
        ChannelShuffle,
        torch.nn.ChannelShuffle,
        (case((2, 6, 2, 3), groups=3), case((2, 6, 4), groups=2), case((2, 4, 2, 1, 2), groups=1)),
        large=case((16, 64, 32, 32), groups=4),
    ),
)
