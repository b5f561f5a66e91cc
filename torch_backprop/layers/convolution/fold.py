r"""Unfold and Fold: an image and its windows (im2col and col2im). Chellapilla, Puri & Simard (2006).

With window l at s_l, tap k at d_k and padding p, each of two dimensions:

    unfold  forward  y_n[ck, l] = x_nc[s_l + d_k - p]                     backward  dL/dx = fold(g)
    fold    forward  y_nc[u] = sum x_n[ck, l] over s_l + d_k - p = u      backward  dL/dx = unfold(g)

Both are linear, and each is the transpose of the other, since the pair of tap k of window l and pixel u is in
both sums when s_l + d_k - p = u: a pixel receives from every window that it was copied to. The pullback of a
linear map is its transpose: Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 6.46.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.convolution.geometry import Sizes
from torch_backprop.rule import Rule, owned
from torch_backprop.spec import LayerSpec, case


@dataclass(frozen=True)
class Windows:
    """The windows of an image of ``size``, as the caller gave them."""

    size: Any
    kernel_size: Sizes
    dilation: Sizes
    padding: Sizes
    stride: Sizes

    def unfold(self, x: Tensor) -> Tensor:
        """The windows, as columns."""
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def fold(self, x: Tensor) -> Tensor:
        """The image that is the sum of the windows."""
        return F.fold(x, self.size, self.kernel_size, self.dilation, self.padding, self.stride)


class UnfoldRule(Rule):
    """Saves nothing."""

    @staticmethod
    def forward(x: Tensor, windows: Windows) -> Tensor:
        return owned(windows.unfold(x))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Windows], output: Tensor) -> None:
        # both maps are linear: what x was does not matter
        ctx.windows = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        # an element has the gradients of all windows that it is in: their sum is a fold
        return ctx.windows.fold(grad_y), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        return ctx.windows.unfold(tangent_x)


class FoldRule(Rule):
    """Saves nothing."""

    @staticmethod
    def forward(x: Tensor, windows: Windows) -> Tensor:
        return owned(windows.fold(x))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Windows], output: Tensor) -> None:
        ctx.windows = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        # a window has the gradients of the elements that it was added to: a copy of them
        return ctx.windows.unfold(grad_y), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        return ctx.windows.fold(tangent_x)


def unfold(
    input: Tensor, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
) -> Tensor:
    """Copies every window of an image into a column; as :func:`torch.nn.functional.unfold`.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size: pixels of a window, in both dimensions or in each.
        dilation: pixels from one tap of a window to the next.
        padding: zeros added on both sides.
        stride: pixels from one window to the next.

    Returns:
        ``(N, C kH kW, L)`` or ``(C kH kW, L)``, of L windows.

    Raises:
        RuntimeError: shapes or options that do not fit, in torch's words.

    >>> unfold(torch.arange(4.0).view(1, 2, 2), (1, 2))
    tensor([[0., 2.],
            [1., 3.]])
    """
    if input.dim() not in (3, 4):
        # torch refuses it, in its own words
        return F.unfold(input, kernel_size, dilation, padding, stride)
    return UnfoldRule.call(input, Windows(tuple(input.shape[-2:]), kernel_size, dilation, padding, stride))


def fold(
    input: Tensor,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Tensor:
    """Adds up windows, each in its place in an image; as :func:`torch.nn.functional.fold`.

    Args:
        input: ``(N, C kH kW, L)`` or ``(C kH kW, L)``, of L windows.
        output_size: H and W, or both in one number.
        kernel_size: pixels of a window, in both dimensions or in each.
        dilation: pixels from one tap of a window to the next.
        padding: pixels cut off on both sides.
        stride: pixels from one window to the next.

    Returns:
        ``(N, C, H, W)`` or ``(C, H, W)``.

    Raises:
        RuntimeError: shapes or options that do not fit, in torch's words.

    >>> fold(torch.ones(2, 2), (1, 3), (1, 2))
    tensor([[[1., 2., 1.]]])
    """
    return FoldRule.call(input, Windows(output_size, kernel_size, dilation, padding, stride))


class Unfold(torch.nn.Unfold):
    """Drop-in for :class:`torch.nn.Unfold`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, C kH kW, L)``, or without N."""
        return unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(torch.nn.Fold):
    """Drop-in for :class:`torch.nn.Fold`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C kH kW, L)`` to ``(N, C, H, W)``, or without N."""
        return fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)


SPECS = (
    LayerSpec(
        Unfold,
        torch.nn.Unfold,
        (
            case((2, 2, 4, 5), kernel_size=(2, 3), padding=1, stride=(2, 1)),
            case((2, 4, 4), kernel_size=2, dilation=(2, 1)),
        ),
        large=case((16, 64, 32, 32), kernel_size=3, padding=1),
    ),
    LayerSpec(
        Fold,
        torch.nn.Fold,
        (
            case((2, 8, 8), output_size=(5, 3), kernel_size=2),
            case((8, 6), output_size=4, kernel_size=(2, 2), padding=(0, 1), stride=2, dilation=1),
        ),
        large=case((8, 576, 1024), output_size=32, kernel_size=3, padding=1),
    ),
)
