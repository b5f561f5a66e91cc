"""Max pooling. Riesenhuber & Poggio (1999), Nature Neuroscience 2, 1019-1025.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 6.37 (the maximum over a group).

Over the elements j of window i, with a(i) the place of the largest as torch finds it:

    forward   y_i = max_j x_j = x_a(i)
    backward  dL/dx_j = sum of g_i over the windows i with a(i) = j

since a small change of x leaves a(i) as it is, but where elements tie. What follows from the
places alone is in ``selection``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.pooling.selection import Float32SelectionRule, Pooled, Selection, SelectionRule
from torch_backprop.layers.pooling.windows import Numbers, Sliding
from torch_backprop.rule import tracked
from torch_backprop.spec import LayerSpec, case


def max_pool1d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """The largest in each window; as :func:`torch.nn.functional.max_pool1d`.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        kernel_size: the elements of a window.
        stride: from window to window; the kernel's size if None.
        padding: windows may begin and end so far outside; at most half a window.
        dilation: from element to element of a window.
        ceil_mode: whether a last window may end outside the padding.
        return_indices: whether to return the places of the largest too.

    Returns:
        ``(N, C, L_out)`` or ``(C, L_out)``, or that and int64 places of the same shape.

    Raises:
        RuntimeError: shapes or options that do not fit, in torch's words.
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """The same on ``(N, C, H, W)`` or ``(C, H, W)``; as :func:`torch.nn.functional.max_pool2d`.

    Arguments as :func:`max_pool1d`, each one number or one for each axis; places are h W + w.
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """The same on ``(N, C, D, H, W)`` or ``(C, D, H, W)``; as :func:`torch.nn.functional.max_pool3d`.

    Arguments as :func:`max_pool1d`, each one number or one for each axis; places are (d H + h) W + w.
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool1d` with its places, whatever ``return_indices`` says, as in torch."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool2d` with its places, whatever ``return_indices`` says, as in torch."""
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool3d` with its places, whatever ``return_indices`` says, as in torch."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


class MaxPool1d(torch.nn.MaxPool1d):
    """Drop-in for :class:`torch.nn.MaxPool1d`."""

    def forward(self, input: Tensor) -> Pooled:
        """Maps ``(N, C, L)`` to ``(N, C, L_out)``, or to that and the places."""
        return max_pool1d(input, *_options(self))


class MaxPool2d(torch.nn.MaxPool2d):
    """Drop-in for :class:`torch.nn.MaxPool2d`."""

    def forward(self, input: Tensor) -> Pooled:
        """Maps ``(N, C, H, W)`` to ``(N, C, H_out, W_out)``, or to that and the places."""
        return max_pool2d(input, *_options(self))


class MaxPool3d(torch.nn.MaxPool3d):
    """Drop-in for :class:`torch.nn.MaxPool3d`."""

    def forward(self, input: Tensor) -> Pooled:
        """Maps ``(N, C, D, H, W)`` to ``(N, C, D_out, H_out, W_out)``, or to that and the places."""
        return max_pool3d(input, *_options(self))


def _max_pool1d_with_indices(x: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    try:
        return F.max_pool1d_with_indices(x, *options)
    except NotImplementedError:
        raise
    except RuntimeError:
        # asked for no places, torch refuses shapes and options in other words
        F.max_pool1d(x, *options)
        raise


_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_SELECTING_POOLS = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}
# what torch does when it is asked for no places
_QUIET_POOLS = _SELECTING_POOLS | {1: _max_pool1d_with_indices}
_QUIET_RULES = {1: SelectionRule, 2: SelectionRule, 3: Float32SelectionRule}


def _max_pool(
    dims: int,
    x: Tensor,
    kernel: Numbers,
    stride: Numbers,
    padding: Numbers,
    dilation: Numbers,
    ceil_mode: bool,
    return_indices: bool,
) -> Pooled:
    # nothing to save, and in one dimension torch has a faster kernel that finds no places
    if not tracked(x):
        return _POOLS[dims](x, kernel, stride, padding, dilation, ceil_mode, return_indices)
    pools, rule = (_SELECTING_POOLS, SelectionRule) if return_indices else (_QUIET_POOLS, _QUIET_RULES[dims])
    windows = Sliding(dims, kernel, stride, padding, dilation)
    how = Selection(dims, pools[dims], (kernel, stride, padding, dilation, ceil_mode), windows)
    y, places, _ = rule.call(x, None, how)
    return (y, places) if return_indices else y


def _options(module: Any) -> tuple[Any, ...]:
    return (
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.ceil_mode,
        module.return_indices,
    )


SPECS = (
    LayerSpec(
        MaxPool1d,
        torch.nn.MaxPool1d,
        (
            case((2, 3, 7), kernel_size=2),
            case((2, 3, 9), kernel_size=3, stride=2, padding=1, ceil_mode=True, return_indices=True),
            case((3, 9), kernel_size=3, stride=1, dilation=2),
        ),
        large=case((32, 64, 1024), kernel_size=2),
    ),
    LayerSpec(
        MaxPool2d,
        torch.nn.MaxPool2d,
        (
            case((2, 3, 4, 6), kernel_size=2),
            case((2, 2, 6, 5), kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), ceil_mode=True),
            case((3, 5, 6), kernel_size=2, stride=1, dilation=(2, 3), return_indices=True),
            case((1, 2, 18, 16), kernel_size=17, stride=1, padding=2),
        ),
        large=case((16, 64, 32, 32), kernel_size=2),
    ),
    LayerSpec(
        MaxPool3d,
        torch.nn.MaxPool3d,
        (
            case((2, 2, 2, 4, 4), kernel_size=2),
            case((2, 3, 5, 4), kernel_size=(1, 3, 2), stride=(1, 2, 1), padding=(0, 1, 1), ceil_mode=True),
            case((1, 2, 3, 3, 5), kernel_size=2, stride=1, dilation=(1, 2, 1), return_indices=True),
        ),
        large=case((4, 32, 16, 32, 32), kernel_size=2),
    ),
)
