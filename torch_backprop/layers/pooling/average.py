"""Average pooling. LeCun, Bottou, Bengio & Haffner (1998), Proc. IEEE 86, section II.B.

Over the elements j of window i, with d_i the elements of the window, or what else it is divided by:

    forward   y_i = sum_j x_j / d_i
    backward  dL/dx_j = sum over the windows i that have j of g_i / d_i

since an element adds up what it gets from each window that it is in (Goodfellow, Bengio & Courville (2016),
"Deep Learning", eq. 6.45). How that sum is taken is in ``averaging``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.pooling.averaging import AverageRule, Averaging, Float32AverageRule
from torch_backprop.layers.pooling.windows import Numbers, Sliding
from torch_backprop.spec import LayerSpec, case

AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def avg_pool1d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window; as :func:`torch.nn.functional.avg_pool1d`.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        kernel_size: the elements of a window.
        stride: from window to window; the kernel's size if None.
        padding: windows may begin and end so far outside, on zeros; at most half a window.
        ceil_mode: whether a last window may end outside the padding.
        count_include_pad: whether the zeros count in the mean.

    Returns:
        ``(N, C, L_out)`` or ``(C, L_out)``.

    Raises:
        RuntimeError: shapes or options that do not fit, in torch's words.
    """
    return _avg_pool(1, input, (kernel_size, stride, padding, ceil_mode, count_include_pad))


def avg_pool2d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The same on ``(N, C, H, W)`` or ``(C, H, W)``; as :func:`torch.nn.functional.avg_pool2d`.

    Arguments as :func:`avg_pool1d`, each one number or one for each axis; the sum of a window is divided by
    ``divisor_override`` if given.
    """
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _avg_pool(2, input, options)


def avg_pool3d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The same on ``(N, C, D, H, W)`` or ``(C, D, H, W)``; as :func:`torch.nn.functional.avg_pool3d`.

    Arguments as :func:`avg_pool2d`.
    """
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _avg_pool(3, input, options)


class AvgPool1d(torch.nn.AvgPool1d):
    """Drop-in for :class:`torch.nn.AvgPool1d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, L)`` to ``(N, C, L_out)``."""
        options = (self.padding, self.ceil_mode, self.count_include_pad)
        return avg_pool1d(input, self.kernel_size, self.stride, *options)


class AvgPool2d(torch.nn.AvgPool2d):
    """Drop-in for :class:`torch.nn.AvgPool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, C, H_out, W_out)``."""
        return avg_pool2d(input, *_options(self))


class AvgPool3d(torch.nn.AvgPool3d):
    """Drop-in for :class:`torch.nn.AvgPool3d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, D, H, W)`` to ``(N, C, D_out, H_out, W_out)``."""
        return avg_pool3d(input, *_options(self))


_RULES = {1: AverageRule, 2: AverageRule, 3: Float32AverageRule}


def _avg_pool(dims: int, x: Tensor, options: tuple[Any, ...]) -> Tensor:
    kernel, stride, padding, _, count_include_pad, *override = options
    windows = Sliding(dims, kernel, stride, padding)
    divisor = override[0] if override else None
    how = Averaging(dims, AVERAGES[dims], options, windows, count_include_pad, divisor)
    return _RULES[dims].call(x, how)[0]


def _options(module: Any) -> tuple[Any, ...]:
    windows = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
    return *windows, module.count_include_pad, module.divisor_override


SPECS = (
    LayerSpec(
        AvgPool1d,
        torch.nn.AvgPool1d,
        (
            case((2, 3, 8), kernel_size=2),
            case((2, 3, 8), kernel_size=5, stride=2, padding=2, ceil_mode=True),
            case((3, 9), kernel_size=2, stride=3, padding=1, count_include_pad=False),
        ),
        large=case((32, 64, 1024), kernel_size=2),
    ),
    LayerSpec(
        AvgPool2d,
        torch.nn.AvgPool2d,
        (
            case((2, 3, 4, 6), kernel_size=2),
            case((2, 2, 6, 5), kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), ceil_mode=True),
            case((3, 5, 6), kernel_size=3, stride=1, padding=1, count_include_pad=False),
            case((2, 2, 5, 6), kernel_size=(2, 3), stride=2, divisor_override=4),
        ),
        large=case((16, 64, 32, 32), kernel_size=2),
    ),
    LayerSpec(
        AvgPool3d,
        torch.nn.AvgPool3d,
        (
            case((2, 2, 2, 4, 4), kernel_size=2),
            case((2, 3, 5, 4), kernel_size=(1, 3, 2), stride=(1, 2, 1), padding=(0, 1, 1), ceil_mode=True),
            case((1, 2, 3, 4, 5), kernel_size=2, stride=1, padding=1, count_include_pad=False),
            case((1, 2, 3, 4, 5), kernel_size=2, stride=(1, 2, 3), divisor_override=3),
        ),
        large=case((4, 32, 16, 32, 32), kernel_size=2),
    ),
)
