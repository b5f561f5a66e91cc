"""Average pooling. LeCun, Bottou, Bengio & Haffner (1998), Proc. IEEE 86, section II.A.

With d_i the divisor of window i, which is the product of its lengths along the axes, or one number for all:

    forward   y_i = sum over the elements j of window i of x_j / d_i
    backward  dL/dx_j = sum over the windows i that have j of g_i / d_i

A window is a product of intervals, and so is the set of windows that have an element: the sum over it goes
axis by axis. Along one axis the windows of element j follow one another, from the first that ends behind j to
the last that begins at or before it; the m-th of every j at once is a selection from g. The map is linear,
and of x only the shape matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.pooling.windows import Axis, Numbers, Sliding, channels_last
from torch_backprop.rule import FLOAT32, Rule, first_order, owned, save, widen
from torch_backprop.spec import LayerSpec, case

AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True)
class Averaging:
    """How windows average: torch's function, its options, and where the windows are.

    Attributes:
        average: maps ``(x, *options)`` to y.
        windows: gives the axes on which the windows lie.
        count_include_pad: whether elements of the padding count in the divisor.
        divisor_override: the divisor of every window, if not None.
        tied: whether the second derivative by x is zero, and not missing.
    """

    dims: int
    average: Callable[..., Tensor]
    options: Numbers
    windows: Any
    count_include_pad: bool = False
    divisor_override: int | None = None
    tied: bool = True

    def divisor(self, axes: list[Axis], device: torch.device) -> Any:
        """The divisors, in the shape of the windows, or one number."""
        if self.divisor_override is not None:
            return self.divisor_override
        divisor = torch.ones((), dtype=torch.int64, device=device)
        for axis in axes:
            start, stop = axis.start(device), axis.stop(device)
            if not self.count_include_pad:
                start, stop = start.clamp(min=0), stop.clamp(max=axis.size)
            divisor = divisor.unsqueeze(-1) * (stop - start)
        return divisor


class AverageRule(Rule):
    """Saves nothing. Returns ``(y, link)``, where the empty link may tie the gradient to x."""

    @staticmethod
    def forward(x: Tensor, how: Averaging) -> tuple[Tensor, Tensor]:
        return owned(how.average(x, *how.options)), x.new_zeros(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.how = inputs
        ctx.sizes = x.shape[x.dim() - ctx.how.dims :]
        ctx.channels_last = channels_last(x, ctx.how.dims)
        if ctx.how.tied:
            save(ctx, output[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor, None]:
        grad_x = spread(grad_y, ctx.how, ctx.sizes, ctx.channels_last)
        if ctx.how.tied:
            (link,) = ctx.saved_tensors
            grad_x = grad_x + link.sum() if torch.is_grad_enabled() else grad_x
        return grad_x, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> tuple[Tensor, Tensor]:
        return ctx.how.average(tangent_x, *ctx.how.options), tangent_x.new_zeros(0)


class Float32AverageRule(AverageRule):
    """The functions that autocast keeps in float32. Saves nothing."""

    autocast = {"cpu": FLOAT32}


def spread(g: Tensor, how: Averaging, sizes: torch.Size, channels_last: bool = False) -> Tensor:
    """Gives each element the sum of the gradients of its windows, each over its window's divisor."""
    axes = how.windows.axes(sizes, g.shape[g.dim() - how.dims :])
    shared = widen(g) / how.divisor(axes, g.device)
    # with the channels last no axis is the last, along which selecting is slow
    shared = shared.movedim(1, -1) if channels_last else shared
    for i in reversed(range(how.dims)):
        shared = cover(shared, i - how.dims - channels_last, axes[i])
    return (shared.movedim(-1, 1) if channels_last else shared).to(g.dtype)


def cover(g: Tensor, dim: int, axis: Axis) -> Tensor:
    """The sum along one axis of the windows of each element."""
    element = torch.arange(axis.size, device=g.device)
    first = torch.searchsorted(axis.stop(g.device), element, right=True)
    if axis.even:
        return _sum(_along(g, dim, first + m) for m in range(axis.overlap))
    if axis.sparse:
        return _add_to_first(_along(g, dim, first), g, dim, axis)
    behind = torch.searchsorted(axis.start(g.device), element, right=True)
    # a window more, of zero, for the elements of fewer windows
    padded = F.pad(g, (0, 0) * (-1 - dim) + (0, 1))
    windows = (first + m for m in range(axis.overlap))
    return _sum(_along(padded, dim, torch.where(i < behind, i, axis.count)) for i in windows)


def _add_to_first(total: Tensor, g: Tensor, dim: int, axis: Axis) -> Tensor:
    """Adds the windows that begin on the last element of the window before, each at its beginning."""
    start, stop = axis.start(g.device)[1:], axis.stop(g.device)[:-1]
    later = g.narrow(dim, 1, axis.count - 1)
    shared = torch.where((start < stop).reshape(-1, *(1 for _ in range(-1 - dim))), later, 0)
    return (total.index_add_ if first_order(total) else total.index_add)(dim, start, shared)


def _sum(terms: Iterator[Tensor]) -> Tensor:
    total = next(terms)
    for term in terms:
        total = total.add_(term) if first_order(total) else total + term
    return total


def _along(g: Tensor, dim: int, index: Tensor) -> Tensor:
    if dim == -1:
        # along the last dimension index_select would copy column by column
        return g.gather(-1, index.expand(*g.shape[:-1], len(index)))
    return g.index_select(dim, index)


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
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


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
    return _avg_pool(2, input, *options)


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
    return _avg_pool(3, input, *options)


class AvgPool1d(torch.nn.AvgPool1d):
    """Drop-in for :class:`torch.nn.AvgPool1d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, L)`` to ``(N, C, L_out)``."""
        return avg_pool1d(input, *_options(self))


class AvgPool2d(torch.nn.AvgPool2d):
    """Drop-in for :class:`torch.nn.AvgPool2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, C, H_out, W_out)``."""
        return avg_pool2d(input, *_options(self), self.divisor_override)


class AvgPool3d(torch.nn.AvgPool3d):
    """Drop-in for :class:`torch.nn.AvgPool3d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, D, H, W)`` to ``(N, C, D_out, H_out, W_out)``."""
        return avg_pool3d(input, *_options(self), self.divisor_override)


_RULES = {1: AverageRule, 2: AverageRule, 3: Float32AverageRule}


def _avg_pool(
    dims: int,
    x: Tensor,
    kernel: Numbers,
    stride: Numbers,
    padding: Numbers,
    ceil_mode: bool,
    count_include_pad: bool,
    *divisor: int | None,
) -> Tensor:
    options = (kernel, stride, padding, ceil_mode, count_include_pad, *divisor)
    windows = Sliding(dims, kernel, stride, padding)
    how = Averaging(dims, AVERAGES[dims], options, windows, count_include_pad, *divisor)
    return _RULES[dims].call(x, how)[0]


def _options(module: Any) -> tuple[Any, ...]:
    return module.kernel_size, module.stride, module.padding, module.ceil_mode, module.count_include_pad


SPECS = (
    LayerSpec(
        AvgPool1d,
        torch.nn.AvgPool1d,
        (
            case((2, 3, 8), kernel_size=2),
            case((2, 3, 8), kernel_size=5, stride=2, padding=2, ceil_mode=True),
            case((3, 9), kernel_size=2, stride=3, padding=1, count_include_pad=False),
        ),
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
    ),
)
