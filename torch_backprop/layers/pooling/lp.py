"""Power-average pooling. Gulcehre, Cho, Pascanu & Bengio (2014), arXiv:1311.1780 (the L_p unit).

Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 2.30 (the p-norm).

With power p, K elements in a window and u_i their sum of powers; where ceil_mode lets a window end outside,
torch takes K times the mean of the d_i elements inside:

    forward   u_i = K / d_i sum_j x_j^p      y_i = u_i^(1/p)
    backward  dL/dx_j = x_j^(p - 1) sum over the windows i of j of g_i K / d_i y_i^(1 - p)

since dy/du = y^(1 - p) / p and du/dx = K / d p x^(p - 1). At y = 0 the gradient is zero, by torch's
convention. The sum over windows is that of ``averaging``. With p infinite it is max pooling of abs(x).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.pooling.average import AVERAGES
from torch_backprop.layers.pooling.averaging import Averaging, spread
from torch_backprop.layers.pooling.max import max_pool1d, max_pool2d, max_pool3d
from torch_backprop.layers.pooling.windows import Numbers, Sliding, channels_last, each
from torch_backprop.rule import FLOAT32, Rule, private, save, widen
from torch_backprop.spec import LayerSpec, case


class AbsoluteRule(Rule):
    """y = abs(x), real also of a complex x. Saves x."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.abs(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        save(ctx, inputs[0])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * torch.sgn(x)

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        tangent_y = tangent_x * torch.sgn(x).conj()
        return tangent_y.real if x.is_complex() else tangent_y


class LPPoolRule(Rule):
    """Saves x and y."""

    @staticmethod
    def forward(x: Tensor, p: float, how: Averaging) -> Tensor:
        windows = how.windows
        return _POOLS[how.dims](x, p, windows.kernel, windows.stride, how.options[3])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.p, ctx.how = inputs
        save(ctx, x, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None, None]:
        x, y = ctx.saved_tensors
        dims = ctx.how.dims
        sizes, last = x.shape[x.dim() - dims :], channels_last(x, dims)
        # first through the root, whose argument is the mean over a window, then to its elements
        shared = spread(_pulled_through_root(ctx, grad_y, y), ctx.how, sizes, last)
        return (shared * widen(x).pow(ctx.p - 1)).to(x.dtype), None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: None) -> Tensor:
        x, y = ctx.saved_tensors
        tangent_mean = ctx.how.average(tangent_x * x.pow(ctx.p - 1), *ctx.how.options)
        return _pulled_through_root(ctx, tangent_mean, y).to(y.dtype)


class Float32LPPoolRule(LPPoolRule):
    """The function that autocast keeps in float32. Saves x and y."""

    autocast = {"cpu": FLOAT32}


def lp_pool1d(
    input: Tensor, norm_type: int | float, kernel_size: int, stride: Numbers = None, ceil_mode: bool = False
) -> Tensor:
    """The p-th root of each window's sum of p-th powers; as :func:`torch.nn.functional.lp_pool1d`.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        norm_type: the power p; infinite for the largest absolute value.
        kernel_size: the elements of a window.
        stride: from window to window; the kernel's size if None.
        ceil_mode: whether a last window may end outside.

    Returns:
        ``(N, C, L_out)`` or ``(C, L_out)``.

    Raises:
        RuntimeError: shapes or options that do not fit, in torch's words.
        ZeroDivisionError: p is 0.
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor,
    norm_type: int | float,
    kernel_size: Numbers,
    stride: Numbers = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The same on ``(N, C, H, W)`` or ``(C, H, W)``; as :func:`torch.nn.functional.lp_pool2d`."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor,
    norm_type: int | float,
    kernel_size: Numbers,
    stride: Numbers = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The same on ``(N, C, D, H, W)`` or ``(C, D, H, W)``; as :func:`torch.nn.functional.lp_pool3d`."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


class LPPool1d(torch.nn.LPPool1d):
    """Drop-in for :class:`torch.nn.LPPool1d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, L)`` to ``(N, C, L_out)``."""
        return lp_pool1d(input, *_options(self))


class LPPool2d(torch.nn.LPPool2d):
    """Drop-in for :class:`torch.nn.LPPool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, C, H_out, W_out)``."""
        return lp_pool2d(input, *_options(self))


class LPPool3d(torch.nn.LPPool3d):
    """Drop-in for :class:`torch.nn.LPPool3d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, D, H, W)`` to ``(N, C, D_out, H_out, W_out)``."""
        return lp_pool3d(input, *_options(self))


_POOLS = {1: F.lp_pool1d, 2: F.lp_pool2d, 3: F.lp_pool3d}
_MAXIMA = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}
_RULES = {1: LPPoolRule, 2: LPPoolRule, 3: Float32LPPoolRule}


def _lp_pool(dims: int, x: Tensor, p: float, kernel: Numbers, stride: Numbers, ceil_mode: bool) -> Tensor:
    if abs(p) == math.inf:
        sign = 1 if p > 0 else -1
        # the smallest absolute value is the largest of its negative
        return sign * _MAXIMA[dims](sign * AbsoluteRule.call(x), kernel, stride, 0, 1, ceil_mode)
    options = (kernel, stride, 0, ceil_mode)
    how = Averaging(dims, AVERAGES[dims], options, Sliding(dims, kernel, stride, 0), count_include_pad=True)
    # the rule saves its y, which the built-in does not
    return private(_RULES[dims].call(x, p, how))


def _pulled_through_root(ctx: Any, g: Tensor, y: Tensor) -> Tensor:
    """g K y^(1 - p), or 0 where y is 0, be g infinite."""
    elements = math.prod(each(ctx.how.windows.kernel, ctx.how.dims))
    # the sum of powers is 0 where y is, or where y is infinite if p is negative
    zero = y == 0 if ctx.p > 0 else y.isinf()
    # torch differentiates sign(u) abs(u), and takes the sign of NaN for 0: seen where the power is 1;
    # elsewhere not the power of 0, which would be infinite, with an undefined derivative
    slope = torch.sign(y).abs() if ctx.p == 1 else torch.where(zero, 1, widen(y)).pow(1 - ctx.p)
    return torch.where(zero, 0, widen(g) * slope * elements)


def _options(module: Any) -> tuple[Any, ...]:
    return float(module.norm_type), module.kernel_size, module.stride, module.ceil_mode


SPECS = (
    LayerSpec(
        LPPool1d,
        torch.nn.LPPool1d,
        (
            case((2, 3, 8), norm_type=2, kernel_size=2),
            case((2, 3, 8), norm_type=1, kernel_size=3, stride=2, ceil_mode=True),
            case((3, 9), norm_type=float("inf"), kernel_size=2),
        ),
        large=case((32, 64, 1024), norm_type=2, kernel_size=2),
    ),
    LayerSpec(
        LPPool2d,
        torch.nn.LPPool2d,
        (
            case((2, 3, 4, 6), norm_type=2, kernel_size=2),
            case((2, 2, 5, 6), norm_type=4, kernel_size=(3, 2), stride=(2, 1), ceil_mode=True),
            case((2, 4, 4), norm_type=-float("inf"), kernel_size=2),
        ),
        large=case((16, 64, 32, 32), norm_type=2, kernel_size=2),
    ),
    LayerSpec(
        LPPool3d,
        torch.nn.LPPool3d,
        (
            case((2, 2, 2, 4, 4), norm_type=2, kernel_size=2),
            case((2, 3, 5, 4), norm_type=2, kernel_size=(1, 3, 2), stride=(1, 2, 1), ceil_mode=True),
            case((1, 2, 3, 4, 5), norm_type=float("inf"), kernel_size=2, stride=1),
        ),
        large=case((4, 32, 16, 32, 32), norm_type=2, kernel_size=2),
    ),
)
