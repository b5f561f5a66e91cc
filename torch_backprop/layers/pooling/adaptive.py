"""Adaptive pooling: averages and maxima over windows that divide an axis into o parts.

Of n elements, window i has those from floor(i n / o) to before ceil((i + 1) n / o): neighbours share an
element where n / o is not whole, and several where o > n. Average and maximum of windows, and their
derivations, are those of ``averaging`` and ``selection``; only the windows differ.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.pooling.averaging import AverageRule, Averaging, Float32AverageRule
from torch_backprop.layers.pooling.selection import Float32SelectionRule, Pooled, Selection, SelectionRule
from torch_backprop.layers.pooling.windows import Adaptive, Numbers, each
from torch_backprop.rule import tracked
from torch_backprop.spec import LayerSpec, case


def adaptive_avg_pool1d(input: Tensor, output_size: Numbers) -> Tensor:
    """The mean of each window; as :func:`torch.nn.functional.adaptive_avg_pool1d`.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        output_size: the number of windows.

    Returns:
        ``(N, C, output_size)`` or ``(C, output_size)``.

    Raises:
        RuntimeError: shapes or sizes that do not fit, in torch's words.
    """
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Numbers) -> Tensor:
    """The same on ``(N, C, H, W)`` or ``(C, H, W)``; as :func:`torch.nn.functional.adaptive_avg_pool2d`.

    ``output_size`` is one number or one for each axis; None leaves an axis as it is.
    """
    return _adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Numbers) -> Tensor:
    """The same on ``(N, C, D, H, W)`` or without N; as :func:`torch.nn.functional.adaptive_avg_pool3d`.

    ``output_size`` is one number or one for each axis; None leaves an axis as it is.
    """
    return _adaptive_avg_pool(3, input, output_size)


def adaptive_max_pool1d(input: Tensor, output_size: Numbers, return_indices: bool = False) -> Pooled:
    """The largest of each window; as :func:`torch.nn.functional.adaptive_max_pool1d`.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        output_size: the number of windows.
        return_indices: whether to return the places of the largest too.

    Returns:
        ``(N, C, output_size)`` or ``(C, output_size)``, or that and int64 places of the same shape.

    Raises:
        RuntimeError: shapes or sizes that do not fit, in torch's words.
    """
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Numbers, return_indices: bool = False) -> Pooled:
    """The same on ``(N, C, H, W)`` or ``(C, H, W)``; as :func:`torch.nn.functional.adaptive_max_pool2d`.

    ``output_size`` is one number or one for each axis; None leaves an axis as it is.
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Numbers, return_indices: bool = False) -> Pooled:
    """The same on ``(N, C, D, H, W)`` or without N; as :func:`torch.nn.functional.adaptive_max_pool3d`.

    ``output_size`` is one number or one for each axis; None leaves an axis as it is.
    """
    return _adaptive_max_pool(3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(
    input: Tensor, output_size: Numbers, return_indices: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`adaptive_max_pool1d` with its places, whatever ``return_indices`` says, as in torch."""
    return _adaptive_max_pool(1, input, output_size, True)


def adaptive_max_pool2d_with_indices(
    input: Tensor, output_size: Numbers, return_indices: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`adaptive_max_pool2d` with its places, whatever ``return_indices`` says, as in torch."""
    return _adaptive_max_pool(2, input, output_size, True)


def adaptive_max_pool3d_with_indices(
    input: Tensor, output_size: Numbers, return_indices: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`adaptive_max_pool3d` with its places, whatever ``return_indices`` says, as in torch."""
    return _adaptive_max_pool(3, input, output_size, True)


class AdaptiveAvgPool1d(torch.nn.AdaptiveAvgPool1d):
    """Drop-in for :class:`torch.nn.AdaptiveAvgPool1d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, L)`` to ``(N, C, L_out)``."""
        return adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(torch.nn.AdaptiveAvgPool2d):
    """Drop-in for :class:`torch.nn.AdaptiveAvgPool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, C, H_out, W_out)``."""
        return adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(torch.nn.AdaptiveAvgPool3d):
    """Drop-in for :class:`torch.nn.AdaptiveAvgPool3d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, D, H, W)`` to ``(N, C, D_out, H_out, W_out)``."""
        return adaptive_avg_pool3d(input, self.output_size)


class AdaptiveMaxPool1d(torch.nn.AdaptiveMaxPool1d):
    """Drop-in for :class:`torch.nn.AdaptiveMaxPool1d`."""

    def forward(self, input: Tensor) -> Pooled:
        """Maps ``(N, C, L)`` to ``(N, C, L_out)``, or to that and the places."""
        return adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(torch.nn.AdaptiveMaxPool2d):
    """Drop-in for :class:`torch.nn.AdaptiveMaxPool2d`."""

    def forward(self, input: Tensor) -> Pooled:
        """Maps ``(N, C, H, W)`` to ``(N, C, H_out, W_out)``, or to that and the places."""
        return adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(torch.nn.AdaptiveMaxPool3d):
    """Drop-in for :class:`torch.nn.AdaptiveMaxPool3d`."""

    def forward(self, input: Tensor) -> Pooled:
        """Maps ``(N, C, D, H, W)`` to ``(N, C, D_out, H_out, W_out)``, or to that and the places."""
        return adaptive_max_pool3d(input, self.output_size, self.return_indices)


_AVERAGES = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
_AVERAGE_RULES = {1: AverageRule, 2: AverageRule, 3: Float32AverageRule}
_MAXIMA = {
    1: F.adaptive_max_pool1d_with_indices,
    2: F.adaptive_max_pool2d_with_indices,
    3: F.adaptive_max_pool3d_with_indices,
}
_MAXIMUM_RULES = {1: SelectionRule, 2: SelectionRule, 3: Float32SelectionRule}


def _adaptive_avg_pool(dims: int, x: Tensor, output_size: Numbers) -> Tensor:
    counts = [n if o is None else o for n, o in zip(x.shape[-dims:], each(output_size, dims), strict=False)]
    # of a whole plane torch takes the mean, whose gradient is not tied to x
    tied = any(count != 1 for count in counts)
    how = Averaging(dims, _AVERAGES[dims], (output_size,), Adaptive(dims), tied=tied)
    return _AVERAGE_RULES[dims].call(x, how)[0]


def _adaptive_max_pool(dims: int, x: Tensor, output_size: Numbers, return_indices: bool) -> Any:
    # places are narrowed only where someone may ask for the derivative
    if tracked(x):
        how = Selection(dims, _MAXIMA[dims], (output_size,), Adaptive(dims))
        y, places, _ = _MAXIMUM_RULES[dims].call(x, None, how)
    else:
        y, places = _MAXIMA[dims](x, output_size)
    return (y, places) if return_indices else y


SPECS = (
    LayerSpec(
        AdaptiveAvgPool1d,
        torch.nn.AdaptiveAvgPool1d,
        (case((2, 3, 7), output_size=3), case((3, 9), output_size=2), case((2, 3, 3), output_size=5)),
        large=case((32, 64, 1024), output_size=4),
    ),
    LayerSpec(
        AdaptiveAvgPool2d,
        torch.nn.AdaptiveAvgPool2d,
        (
            case((2, 3, 5, 4), output_size=(3, None)),
            case((2, 3, 4, 6), output_size=1),
            case((3, 2, 5), output_size=(4, 5)),
        ),
        large=case((16, 64, 32, 32), output_size=4),
    ),
    LayerSpec(
        AdaptiveAvgPool3d,
        torch.nn.AdaptiveAvgPool3d,
        (case((2, 2, 4, 3, 5), output_size=(2, None, 3)), case((2, 3, 2, 4), output_size=1)),
        large=case((4, 32, 16, 32, 32), output_size=4),
    ),
    LayerSpec(
        AdaptiveMaxPool1d,
        torch.nn.AdaptiveMaxPool1d,
        (case((2, 3, 7), output_size=3), case((3, 4), output_size=6, return_indices=True)),
        large=case((32, 64, 1024), output_size=4),
    ),
    LayerSpec(
        AdaptiveMaxPool2d,
        torch.nn.AdaptiveMaxPool2d,
        (
            case((2, 3, 5, 4), output_size=(3, None)),
            case((2, 3, 4, 6), output_size=1, return_indices=True),
            case((3, 2, 5), output_size=(4, 2)),
        ),
        large=case((16, 64, 32, 32), output_size=4),
    ),
    LayerSpec(
        AdaptiveMaxPool3d,
        torch.nn.AdaptiveMaxPool3d,
        (
            case((2, 2, 4, 3, 5), output_size=(2, None, 3)),
            case((2, 3, 2, 4), output_size=2, return_indices=True),
        ),
        large=case((4, 32, 16, 32, 32), output_size=4),
    ),
)
