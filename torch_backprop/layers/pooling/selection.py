"""Pooling that selects: y_i = x_a(i), where a(i) is the place of the element that window i selects.

    forward   y_i = x_a(i)
    backward  dL/dx_j = sum of g_i over the windows i that selected j

since the matrix of x_a(i) by x_j has a 1 where a(i) = j, and its transpose pulls back (Goodfellow, Bengio &
Courville (2016), "Deep Learning", eq. 6.46). The places are constants of the derivative, which is linear in
g: the second derivative by x is zero. A place is saved as its distance from the window's beginning, so that a
byte holds it where the windows are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.pooling.windows import Numbers, channels_last, flattened
from torch_backprop.rule import FLOAT32, Rule, first_order, owned, save

Pooled = Any
"""The pooled tensor, or with ``return_indices`` that and the places: torch's functions return either."""

_INTEGERS = (torch.uint8, torch.int16, torch.int32)


@dataclass(frozen=True)
class Selection:
    """How windows select: torch's function, its options, and where the windows are.

    Attributes:
        select: maps ``(x, *options)`` to y and to the places in a plane, as torch counts them.
        windows: gives the axes on which the windows lie; None if only torch knows.
    """

    dims: int
    select: Callable[..., tuple[Tensor, Tensor]]
    options: Numbers
    windows: Any = None

    def narrow(self, places: Tensor, sizes: torch.Size) -> Tensor:
        """The places in the smallest integers that hold their distances."""
        origins, reach = self._origins(places, sizes)
        # a store of 16 bits would keep Inductor from vectorizing the whole forward pass
        narrow = (torch.uint8, torch.int32) if torch.compiler.is_compiling() else _INTEGERS
        dtype = next((dtype for dtype in narrow if reach <= torch.iinfo(dtype).max), torch.int64)
        # casts and differences of integers wrap around, so that only the difference must fit
        return places.to(dtype, copy=True).sub_(origins.to(dtype))

    def widen(self, distances: Tensor, sizes: torch.Size) -> Tensor:
        """The places that :meth:`narrow` narrowed."""
        return distances.to(torch.int64, copy=True).add_(self._origins(distances, sizes)[0])

    def _origins(self, places: Tensor, sizes: torch.Size) -> tuple[Tensor, int]:
        """The first place of each window, which may lie outside the plane, and the farthest from it."""
        origins = torch.zeros((), dtype=torch.int64, device=places.device)
        if self.windows is None:
            return origins, math.prod(sizes) - 1
        reach = 0
        # Horner: the place of (d, h, w) is (d H + h) W + w
        for axis in self.windows.axes(sizes, places.shape[places.dim() - self.dims :]):
            origins = origins.unsqueeze(-1) * axis.size + axis.start(places.device)
            reach = reach * axis.size + axis.reach
        return origins, reach


class SelectionRule(Rule):
    """Saves the places. Returns ``(y, places, link)``.

    The empty link ties the gradient to x: its second derivative is zero, as in torch, and not missing.
    """

    @staticmethod
    def forward(x: Tensor, samples: Tensor | None, how: Selection) -> tuple[Tensor, Tensor, Tensor]:
        y, places = how.select(x, *how.options) if samples is None else how.select(x, *how.options, samples)
        return owned(y), owned(places), x.new_zeros(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, _, ctx.how = inputs
        _, places, link = output
        ctx.shape, ctx.sizes = x.shape, x.shape[x.dim() - ctx.how.dims :]
        ctx.channels_last = channels_last(x, ctx.how.dims)
        ctx.mark_non_differentiable(places)
        # integers have no derivative, so that no order of differentiation misses what is made of them here
        save(ctx, ctx.how.narrow(places, ctx.sizes), link)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        distances, link = ctx.saved_tensors
        places = ctx.how.widen(distances, ctx.sizes)
        grad_x = deposit(grad_y, places, ctx.shape, ctx.how.dims, ctx.channels_last)
        return grad_x + link.sum() if torch.is_grad_enabled() else grad_x, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> tuple[Tensor, None, Tensor]:
        distances, link = ctx.saved_tensors
        places = ctx.how.widen(distances, ctx.sizes)
        return pick(tangent_x, places, ctx.how.dims), None, torch.zeros_like(link)


class Float32SelectionRule(SelectionRule):
    """The functions that autocast keeps in float32. Saves the places."""

    autocast = {"cpu": FLOAT32}


def pick(x: Tensor, places: Tensor, dims: int) -> Tensor:
    """x at ``places`` of its planes, in the shape of ``places``."""
    return flattened(x, dims).gather(-1, flattened(places, dims)).reshape(places.shape)


def deposit(y: Tensor, places: Tensor, shape: torch.Size, dims: int, channels_last: bool = False) -> Tensor:
    """Adds each of y at its place into zeros of ``shape``: the transpose of :func:`pick`."""
    if channels_last:
        # all channels in one row, in the order of the memory: plane by plane would leap through it
        channels = torch.arange(shape[1], device=places.device)
        places = torch.add(channels, places.movedim(1, -1), alpha=shape[1])
        last = torch.Size((shape[0], *shape[2:], shape[1]))
        return deposit(y.movedim(1, -1), places, last, dims + 1).movedim(-1, 1)
    lead, plane = shape[: len(shape) - dims], math.prod(shape[len(shape) - dims :])
    zeros, places, y = y.new_zeros(*lead, plane), flattened(places, dims), flattened(y, dims)
    # overlapping windows may select the same element: their gradients add up
    add = zeros.scatter_add_ if first_order(y, places) else zeros.scatter_add
    return add(-1, places, y).reshape(shape)
