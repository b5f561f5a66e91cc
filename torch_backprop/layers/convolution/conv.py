"""Conv1d, Conv2d and Conv3d. LeCun et al. (1989), Neural Computation 1, 541-551.

The derivation is in :mod:`torch_backprop.layers.convolution.rule`. A padding mode other than zeros is a
padding before the convolution, with a derivative of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.convolution.geometry import Geometry, Sizes
from torch_backprop.layers.convolution.rule import convolve
from torch_backprop.layers.padding.border import pad
from torch_backprop.spec import LayerSpec, case


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Slides a kernel over a signal; as :func:`torch.nn.functional.conv1d`.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        weight: ``(O, C / groups, k)``.
        bias: ``(O)``.
        stride: elements from one window to the next.
        padding: zeros added on both sides; or ``"valid"``, none, or ``"same"``, as many as keep the size.
        dilation: elements from one tap of the kernel to the next.
        groups: groups of channels, each with kernels of its own.

    Returns:
        ``(N, O, L')`` or ``(O, L')``, with L' = floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1.

    Raises:
        RuntimeError: shapes, dtypes or options that do not fit, in torch's words.

    >>> conv1d(torch.arange(5.0).view(1, 5), torch.ones(1, 1, 3))
    tensor([[3., 6., 9.]])
    """
    return convolve(input, weight, bias, Geometry(1, stride, padding, dilation, groups))


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Slides a kernel over an image; as :func:`torch.nn.functional.conv2d`.

    Maps ``(N, C, H, W)`` or ``(C, H, W)``, with a weight ``(O, C / groups, kH, kW)``, to ``(N, O, H', W')``
    or ``(O, H', W')``; the options, the sizes and the errors are those of :func:`conv1d`, a number for both
    dimensions or one for each.
    """
    return convolve(input, weight, bias, Geometry(2, stride, padding, dilation, groups))


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Slides a kernel over a volume; as :func:`torch.nn.functional.conv3d`.

    Maps ``(N, C, D, H, W)`` or ``(C, D, H, W)``, with a weight ``(O, C / groups, kD, kH, kW)``, to
    ``(N, O, D', H', W')`` or ``(O, D', H', W')``; the options, the sizes and the errors are those of
    :func:`conv1d`, a number for all three dimensions or one for each.
    """
    return convolve(input, weight, bias, Geometry(3, stride, padding, dilation, groups))


class Conv1d(torch.nn.Conv1d):
    """Drop-in for :class:`torch.nn.Conv1d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Maps ``(N, C, L)`` to ``(N, O, L')``, or both without N."""
        return _padded(conv1d, self, input, weight, bias)


class Conv2d(torch.nn.Conv2d):
    """Drop-in for :class:`torch.nn.Conv2d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, O, H', W')``, or both without N."""
        return _padded(conv2d, self, input, weight, bias)


class Conv3d(torch.nn.Conv3d):
    """Drop-in for :class:`torch.nn.Conv3d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Maps ``(N, C, D, H, W)`` to ``(N, O, D', H', W')``, or both without N."""
        return _padded(conv3d, self, input, weight, bias)


class LazyConv1d(torch.nn.LazyConv1d, Conv1d):
    """Drop-in for :class:`torch.nn.LazyConv1d`: it becomes :class:`Conv1d`."""

    weight: Any
    bias: Any
    cls_to_become: Any = Conv1d


class LazyConv2d(torch.nn.LazyConv2d, Conv2d):
    """Drop-in for :class:`torch.nn.LazyConv2d`: it becomes :class:`Conv2d`."""

    weight: Any
    bias: Any
    cls_to_become: Any = Conv2d


class LazyConv3d(torch.nn.LazyConv3d, Conv3d):
    """Drop-in for :class:`torch.nn.LazyConv3d`: it becomes :class:`Conv3d`."""

    weight: Any
    bias: Any
    cls_to_become: Any = Conv3d


def _padded(
    function: Callable[..., Tensor], module: Any, input: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    # borders that are not zeros are padded by a rule of their own
    padding = module.padding
    if module.padding_mode != "zeros":
        input, padding = pad(input, module._reversed_padding_repeated_twice, module.padding_mode), 0
    return function(input, weight, bias, module.stride, padding, module.dilation, module.groups)


SPECS = (
    LayerSpec(
        Conv1d,
        torch.nn.Conv1d,
        (
            case((2, 3, 7), in_channels=3, out_channels=2, kernel_size=3, stride=2, padding=1),
            case(
                (3, 6), in_channels=3, out_channels=2, kernel_size=2, padding="same", dilation=3, bias=False
            ),
            case((2, 4, 6), in_channels=4, out_channels=8, kernel_size=3, groups=4, padding=2, dilation=2),
            case((1, 2, 4), in_channels=2, out_channels=1, kernel_size=3, padding=2, padding_mode="reflect"),
        ),
        large=case((16, 32, 2048), in_channels=32, out_channels=32, kernel_size=3, padding=1),
    ),
    LayerSpec(
        Conv2d,
        torch.nn.Conv2d,
        (
            case((2, 3, 6, 5), in_channels=3, out_channels=2, kernel_size=(3, 2), stride=2, padding=(1, 0)),
            case((2, 4, 4, 4), in_channels=4, out_channels=4, kernel_size=3, padding="same", groups=4),
            case((2, 6, 5, 4), in_channels=6, out_channels=4, kernel_size=2, dilation=(2, 1), groups=2),
            case((2, 4, 5), in_channels=2, out_channels=3, kernel_size=(2, 4), padding="same", bias=False),
            case(
                (1, 1, 3, 4), in_channels=1, out_channels=2, kernel_size=2, padding=1, padding_mode="circular"
            ),
        ),
        large=case((16, 64, 32, 32), in_channels=64, out_channels=64, kernel_size=3, padding=1),
    ),
    LayerSpec(
        Conv3d,
        torch.nn.Conv3d,
        (
            case((2, 2, 4, 2, 2), in_channels=2, out_channels=2, kernel_size=2, stride=(3, 2, 1), padding=1),
            case(
                (1, 1, 2, 2, 2),
                in_channels=1,
                out_channels=1,
                kernel_size=2,
                padding=1,
                padding_mode="replicate",
            ),
            case(
                (2, 3, 3, 4), in_channels=2, out_channels=2, kernel_size=(1, 2, 2), groups=2, padding="valid"
            ),
        ),
        large=case((2, 16, 32, 32, 32), in_channels=16, out_channels=16, kernel_size=3, padding=1),
    ),
    LayerSpec(
        LazyConv1d,
        torch.nn.LazyConv1d,
        (case((2, 3, 5), out_channels=2, kernel_size=3),),
        large=case((16, 32, 2048), out_channels=32, kernel_size=3, padding=1),
    ),
    LayerSpec(
        LazyConv2d,
        torch.nn.LazyConv2d,
        (case((2, 2, 4, 3), out_channels=2, kernel_size=2, bias=False),),
        large=case((16, 64, 32, 32), out_channels=64, kernel_size=3, padding=1),
    ),
    LayerSpec(
        LazyConv3d,
        torch.nn.LazyConv3d,
        (case((2, 2, 3, 3, 2), out_channels=2, kernel_size=2),),
        large=case((2, 16, 32, 32, 32), out_channels=16, kernel_size=3, padding=1),
    ),
)
