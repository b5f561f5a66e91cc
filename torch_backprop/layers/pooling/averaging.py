"""Pooling that averages: y_i is the sum of window i over its divisor d_i.

    forward   y_i = sum over the elements j of window i of x_j / d_i
    backward  dL/dx_j = sum over the windows i that have j of g_i / d_i

since an element adds up what it gets from each window that it is in (Goodfellow, Bengio & Courville (2016),
"Deep Learning", eq. 6.45). A window is a product of intervals, and so is the set of windows that have an
element: the sum over it goes axis by axis. Along one axis the windows of element j follow one another, from
the first that ends behind j to the last that begins at or before it; the m-th of every j at once is a
selection from g. The map is linear, and of x only the shape matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.pooling.windows import Axis, Numbers, channels_last
from torch_backprop.rule import FLOAT32, Rule, first_order, owned, save, widen


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
        divisor: Any = 1
        for axis in axes:
            lengths = axis.window if axis.even else self._lengths(axis, device)
            divisor = (divisor.unsqueeze(-1) if isinstance(divisor, Tensor) else divisor) * lengths
        return divisor

    def _lengths(self, axis: Axis, device: torch.device) -> Tensor:
        start, stop = axis.start(device), axis.stop(device)
        if not self.count_include_pad:
            start, stop = start.clamp(min=0), stop.clamp(max=axis.size)
        return stop - start


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
    if 0 in sizes:
        # torch lets one window be empty, whose average is undefined
        return g.new_zeros(*g.shape[: g.dim() - how.dims], *sizes)
    axes = how.windows.axes(sizes, g.shape[g.dim() - how.dims :])
    shared = widen(g) / how.divisor(axes, g.device)
    # with the channels last no axis is the last, along which selecting is slow
    shared = shared.movedim(1, -1) if channels_last else shared
    for i in reversed(range(how.dims)):
        shared = cover(shared, i - how.dims - channels_last, axes[i])
    return (shared.movedim(-1, 1) if channels_last else shared).to(g.dtype)


def cover(g: Tensor, dim: int, axis: Axis) -> Tensor:
    """The sum along one axis of the windows of each element."""
    if axis.even and axis.overlap == 1 and torch.compiler.is_compiling():
        # no copy there, but an index
        return g.repeat_interleave(axis.window, dim)
    element = torch.arange(axis.size, device=g.device)
    first = axis.first(element)
    if axis.even:
        return _sum(_along(g, dim, first + m) for m in range(axis.overlap))
    if axis.sparse:
        return _add_to_first(_along(g, dim, first), g, dim, axis)
    behind = axis.behind(element)
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
