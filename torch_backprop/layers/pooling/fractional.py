"""Fractional max pooling: windows begin at random. Graham (2014), arXiv:1412.6071, section 2.

Along an axis of n elements, o windows of k begin, with the sample s in [0, 1) and a = (n - k) / (o - 1), at

    floor((i + s) a) - floor(s a) for i < o - 1, and the last at n - k

Maximum and derivation are those of ``max``. Of the windows the derivative needs only what they selected.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.pooling.selection import Float32SelectionRule, Pooled, Selection
from torch_backprop.layers.pooling.windows import Numbers
from torch_backprop.rule import tracked
from torch_backprop.spec import Draw, LayerSpec, case


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Numbers,
    output_size: Numbers = None,
    output_ratio: Numbers = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Pooled:
    """The largest of windows at random; as :func:`torch.nn.functional.fractional_max_pool2d`.

    Args:
        input: ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size: the elements of a window, one number or one for each axis.
        output_size: the number of windows, or
        output_ratio: that as a part of the input's size.
        return_indices: whether to return the places h W + w of the largest too.
        _random_samples: ``(N, C, 2)``, where the windows begin; drawn if None.

    Returns:
        ``(N, C, H_out, W_out)`` or ``(C, H_out, W_out)``, or that and int64 places of the same shape.

    Raises:
        ValueError: neither a size nor a ratio, in torch's words.
        RuntimeError: shapes or sizes that do not fit, in torch's words.
    """
    options = (kernel_size, output_size, output_ratio)
    return _fractional_max_pool(2, input, options, return_indices, _random_samples)


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Numbers,
    output_size: Numbers = None,
    output_ratio: Numbers = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Pooled:
    """The same on ``(N, C, D, H, W)``; as :func:`torch.nn.functional.fractional_max_pool3d`.

    Arguments as :func:`fractional_max_pool2d`, with samples ``(N, C, 3)``.
    """
    options = (kernel_size, output_size, output_ratio)
    return _fractional_max_pool(3, input, options, return_indices, _random_samples)


def fractional_max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Numbers,
    output_size: Numbers = None,
    output_ratio: Numbers = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`fractional_max_pool2d` with its places, whatever ``return_indices`` says, as in torch."""
    options = (kernel_size, output_size, output_ratio)
    return _fractional_max_pool(2, input, options, True, _random_samples)


def fractional_max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Numbers,
    output_size: Numbers = None,
    output_ratio: Numbers = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`fractional_max_pool3d` with its places, whatever ``return_indices`` says, as in torch."""
    options = (kernel_size, output_size, output_ratio)
    return _fractional_max_pool(3, input, options, True, _random_samples)


class FractionalMaxPool2d(torch.nn.FractionalMaxPool2d):
    """Drop-in for :class:`torch.nn.FractionalMaxPool2d`; draws the random numbers that it would draw."""

    def forward(self, input: Tensor) -> Pooled:
        """Maps ``(N, C, H, W)`` to ``(N, C, H_out, W_out)``, or to that and the places."""
        return fractional_max_pool2d(input, *_options(self))


class FractionalMaxPool3d(torch.nn.FractionalMaxPool3d):
    """Drop-in for :class:`torch.nn.FractionalMaxPool3d`; draws the random numbers that it would draw."""

    def forward(self, input: Tensor) -> Pooled:
        """Maps ``(N, C, D, H, W)`` to ``(N, C, D_out, H_out, W_out)``, or to that and the places."""
        return fractional_max_pool3d(input, *_options(self))


_POOLS = {2: F.fractional_max_pool2d_with_indices, 3: F.fractional_max_pool3d_with_indices}


def _fractional_max_pool(
    dims: int, x: Tensor, options: tuple[Any, ...], return_indices: bool, samples: Tensor | None
) -> Pooled:
    _, output_size, output_ratio = options
    # what lacks a size or a dimension torch refuses, in its own words
    refused = x.dim() <= dims or (output_size is None and output_ratio is None)
    if refused or not tracked(x):
        y, places = _POOLS[dims](x, *options, _random_samples=samples)
    else:
        if samples is None:
            batch = 1 if x.dim() == dims + 1 else x.size(0)
            # here, because autocast may give the rule another dtype than torch draws in
            samples = torch.rand(batch, x.size(-dims - 1), dims, dtype=x.dtype, device=x.device)
        how = Selection(dims, _POOLS[dims], (*options, True))
        y, places, _ = Float32SelectionRule.call(x, samples, how)
    return (y, places) if return_indices else y


def _options(module: Any) -> tuple[Any, ...]:
    sizes = (module.kernel_size, module.output_size, module.output_ratio)
    return *sizes, module.return_indices, module._random_samples


SPECS = (
    LayerSpec(
        FractionalMaxPool2d,
        torch.nn.FractionalMaxPool2d,
        (
            case((2, 3, 7, 6), kernel_size=2, output_size=(4, 3)),
            case((3, 6, 8), kernel_size=(3, 2), output_ratio=(0.5, 0.6), return_indices=True),
            case((2, 3, 6, 6), kernel_size=2, output_size=4, _random_samples=Draw((2, 3, 2), "unit")),
        ),
        large=case((16, 64, 32, 32), kernel_size=2, output_ratio=0.6),
    ),
    LayerSpec(
        FractionalMaxPool3d,
        torch.nn.FractionalMaxPool3d,
        (
            case((2, 2, 4, 5, 6), kernel_size=2, output_size=(2, 3, 4)),
            case((2, 5, 6, 4), kernel_size=2, output_ratio=0.5, return_indices=True),
        ),
        large=case((4, 32, 16, 32, 32), kernel_size=2, output_ratio=0.6),
    ),
)
