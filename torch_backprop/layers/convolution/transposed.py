"""ConvTranspose1d, 2d and 3d. Zeiler et al. (2010), "Deconvolutional networks".

The derivation is in :mod:`torch_backprop.layers.convolution.rule`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.convolution.geometry import Geometry, Sizes
from torch_backprop.layers.convolution.rule import convolve
from torch_backprop.spec import LayerSpec, case


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of a convolution over a signal; as :func:`torch.nn.functional.conv_transpose1d`.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        weight: ``(C, O / groups, k)``.
        bias: ``(O)``.
        stride: elements from one window of the output to the next.
        padding: elements cut off on both sides of the output.
        output_padding: elements added on its one side, fewer than ``stride`` or than ``dilation``.
        groups: groups of channels, each with kernels of its own.
        dilation: elements from one tap of the kernel to the next.

    Returns:
        ``(N, O, L')`` or ``(O, L')``, of
        L' = (L - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1 elements.

    Raises:
        RuntimeError: shapes, dtypes or options that do not fit, in torch's words.

    >>> conv_transpose1d(torch.tensor([[1.0, 10.0]]), torch.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[ 1., 12., 23., 30.]])
    """
    geometry = Geometry(1, stride, padding, dilation, groups, output_padding, transposed=True)
    return convolve(input, weight, bias, geometry)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of a convolution over an image; as :func:`torch.nn.functional.conv_transpose2d`.

    Maps ``(N, C, H, W)`` or ``(C, H, W)``, with a weight ``(C, O / groups, kH, kW)``, to ``(N, O, H', W')``
    or ``(O, H', W')``; the options, the sizes and the errors are those of :func:`conv_transpose1d`, a number
    for both dimensions or one for each.
    """
    geometry = Geometry(2, stride, padding, dilation, groups, output_padding, transposed=True)
    return convolve(input, weight, bias, geometry)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of a convolution over a volume; as :func:`torch.nn.functional.conv_transpose3d`.

    Maps ``(N, C, D, H, W)`` or ``(C, D, H, W)``, with a weight ``(C, O / groups, kD, kH, kW)``, to
    ``(N, O, D', H', W')`` or ``(O, D', H', W')``; the options, the sizes and the errors are those of
    :func:`conv_transpose1d`, a number for all three dimensions or one for each.
    """
    geometry = Geometry(3, stride, padding, dilation, groups, output_padding, transposed=True)
    return convolve(input, weight, bias, geometry)


class ConvTranspose1d(torch.nn.ConvTranspose1d):
    """Drop-in for :class:`torch.nn.ConvTranspose1d`."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps ``(N, C, L)`` to ``(N, O, L')``; ``output_size`` chooses the output padding."""
        return _sized(conv_transpose1d, 1, self, input, output_size)


class ConvTranspose2d(torch.nn.ConvTranspose2d):
    """Drop-in for :class:`torch.nn.ConvTranspose2d`."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, O, H', W')``; ``output_size`` chooses the output padding."""
        return _sized(conv_transpose2d, 2, self, input, output_size)


class ConvTranspose3d(torch.nn.ConvTranspose3d):
    """Drop-in for :class:`torch.nn.ConvTranspose3d`."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps ``(N, C, D, H, W)`` to ``(N, O, D', H', W')``; ``output_size`` chooses the output padding."""
        return _sized(conv_transpose3d, 3, self, input, output_size)


class LazyConvTranspose1d(torch.nn.LazyConvTranspose1d, ConvTranspose1d):
    """Drop-in for :class:`torch.nn.LazyConvTranspose1d`: it becomes :class:`ConvTranspose1d`."""

    weight: Any
    bias: Any
    cls_to_become: Any = ConvTranspose1d


class LazyConvTranspose2d(torch.nn.LazyConvTranspose2d, ConvTranspose2d):
    """Drop-in for :class:`torch.nn.LazyConvTranspose2d`: it becomes :class:`ConvTranspose2d`."""

    weight: Any
    bias: Any
    cls_to_become: Any = ConvTranspose2d


class LazyConvTranspose3d(torch.nn.LazyConvTranspose3d, ConvTranspose3d):
    """Drop-in for :class:`torch.nn.LazyConvTranspose3d`: it becomes :class:`ConvTranspose3d`."""

    weight: Any
    bias: Any
    cls_to_become: Any = ConvTranspose3d


def _sized(
    function: Callable[..., Tensor],
    dimensions: int,
    module: Any,
    input: Tensor,
    output_size: list[int] | None,
) -> Tensor:
    if module.padding_mode != "zeros":
        raise ValueError(f"Only `zeros` padding mode is supported for ConvTranspose{dimensions}d")
    options = module.stride, module.padding
    # under a stride several sizes are convolved to one: the caller may say which is meant
    extra = module._output_padding(
        input, output_size, *options, module.kernel_size, dimensions, module.dilation
    )
    return function(input, module.weight, module.bias, *options, extra, module.groups, module.dilation)


SPECS = (
    LayerSpec(
        ConvTranspose1d,
        torch.nn.ConvTranspose1d,
        (
            case(
                (2, 3, 4), in_channels=3, out_channels=2, kernel_size=3, stride=2, padding=1, output_padding=1
            ),
            case((4, 5), in_channels=4, out_channels=4, kernel_size=2, groups=4, bias=False),
        ),
        large=case((16, 32, 2048), in_channels=32, out_channels=32, kernel_size=4, stride=2, padding=1),
    ),
    LayerSpec(
        ConvTranspose2d,
        torch.nn.ConvTranspose2d,
        (
            case((2, 3, 3, 4), in_channels=3, out_channels=2, kernel_size=(3, 2), stride=(2, 1)),
            # an output padding of a whole stride and more
            case(
                (2, 2, 3, 2),
                in_channels=2,
                out_channels=2,
                kernel_size=2,
                dilation=3,
                output_padding=2,
                padding=1,
            ),
            case((2, 6, 3, 3), in_channels=6, out_channels=4, kernel_size=2, groups=2),
        ),
        large=case((16, 64, 32, 32), in_channels=64, out_channels=64, kernel_size=4, stride=2, padding=1),
    ),
    LayerSpec(
        ConvTranspose3d,
        torch.nn.ConvTranspose3d,
        (
            case((2, 2, 2, 3, 2), in_channels=2, out_channels=3, kernel_size=2, stride=(2, 1, 1)),
            case((2, 2, 2, 3), in_channels=2, out_channels=2, kernel_size=2, groups=2, padding=(0, 1, 0)),
        ),
        large=case((2, 16, 32, 32, 32), in_channels=16, out_channels=16, kernel_size=4, stride=2, padding=1),
    ),
    LayerSpec(
        LazyConvTranspose1d,
        torch.nn.LazyConvTranspose1d,
        (case((2, 3, 4), out_channels=2, kernel_size=1),),
        large=case((16, 32, 2048), out_channels=32, kernel_size=4, stride=2, padding=1),
    ),
    LayerSpec(
        LazyConvTranspose2d,
        torch.nn.LazyConvTranspose2d,
        (case((2, 3, 2, 2), out_channels=2, kernel_size=2, bias=False),),
        large=case((16, 64, 32, 32), out_channels=64, kernel_size=4, stride=2, padding=1),
    ),
    LayerSpec(
        LazyConvTranspose3d,
        torch.nn.LazyConvTranspose3d,
        (case((2, 2, 2, 2, 2), out_channels=2, kernel_size=2),),
        large=case((2, 16, 32, 32, 32), out_channels=16, kernel_size=4, stride=2, padding=1),
    ),
)
