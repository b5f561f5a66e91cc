r"""Sampling an image at the points of a grid. Jaderberg et al. (2015), arXiv:1506.02025, eqs. 1 and 3-7.

A point lies at u = (u_1, ..., u_d), in elements along the axes. Along each axis it takes a few elements, its
taps, with weights w(u). Over the combinations i of taps, its corners:

    forward   y_c = sum_i W_i x_ci                       W_i = prod_a w_(i_a)(u_a)
    backward  dL/dx_ci = sum over the points g_c W_i     dL/du_a = sum_i (dW_i/du_a) sum_c g_c x_ci

since a point enters by its weights alone, of which a factor for each axis depends on one u_a. And u is
linear in the grid's coordinate, but for the padding, which folds it back or holds it at the border. The
weights of the linear mode are 1 - t and t, with t = u - floor(u); of the cubic one, those of Keys (1981),
IEEE TASSP 29(6), 1153-1160, with a = -3/4.

affine_grid is linear in theta: grid_pi = sum_j theta_ij b_pj, with b_p the point p of the unchanged grid
and 1, so that dL/dtheta_ij = sum_p g_pi b_pj.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.constants import cubic
from torch_backprop.rule import Rule, first_order, is_batched, save, widen


@dataclass(frozen=True)
class Sampling:
    """The options of :func:`torch.nn.functional.grid_sample`."""

    mode: str
    padding_mode: str
    align_corners: bool | None

    def __call__(self, x: Tensor, grid: Tensor) -> Tensor:
        """The samples, by torch's operator."""
        if is_batched(x) and is_batched(grid):
            # torch takes two batches for one of two dimensions, unless both come first as in a product
            x, grid = x * 1, grid * 1
        return F.grid_sample(x, grid, self.mode, self.padding_mode, self.align_corners)

    def corners(self, grid: Tensor, sizes: torch.Size) -> Iterator[Corner]:
        """The corners of every point; the last coordinate belongs to the first axis."""
        coordinates = _points(grid).unbind(-1)[::-1]
        for taps in itertools.product(*map(self._taps, coordinates, sizes)):
            place, inside = taps[0].place, taps[0].place >= 0
            for tap, size in zip(taps[1:], sizes[1:], strict=True):
                place, inside = place * size + tap.place, inside & (tap.place >= 0)
            # one element behind the image stands for all outside, so that no sum need be masked
            place = torch.where(inside, place, math.prod(sizes))
            weights = [tap.weight for tap in taps]
            slopes = [_product([*weights[:a], tap.slope, *weights[a + 1 :]]) for a, tap in enumerate(taps)]
            yield Corner(place, _product(weights), slopes)

    def _taps(self, c: Tensor, size: int) -> Iterator[Tap]:
        scale = (size - 1) / 2 if self.align_corners else size / 2
        u = (c + 1) * scale - (0 if self.align_corners else 0.5)
        if self.mode == "bicubic":
            yield from self._cubic(u, scale, size)
            return
        u, sign = self._padded(u, size)
        if self.mode == "nearest":
            # the second derivative by the grid is zero, not missing, as it is in torch
            still = 0 * torch.sign(u) if torch.is_grad_enabled() and u.requires_grad else torch.zeros_like(u)
            yield _tap(u.round(), 1 + still, still, size)
            return
        # the cell is a constant of the derivative, the position in it is not
        low = u.detach().floor()
        yield _tap(low, 1 - (u - low), -scale * sign, size)
        yield _tap(low + 1, u - low, scale * sign, size)

    def _cubic(self, u: Tensor, scale: float, size: int) -> Iterator[Tap]:
        low = u.detach().floor()
        for k in (-1, 0, 1, 2):
            place, _ = self._padded(low + k, size)
            weight, slope = _keys(u - low - k)
            yield _tap(place, weight, scale * slope, size)

    def _padded(self, u: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Where a point outside is taken from, and the derivative of that by where the point was."""
        sign = torch.ones_like(u)
        if self.padding_mode == "zeros":
            return u, sign
        if self.padding_mode == "reflection":
            u, sign = _reflected(u, *((0, size - 1) if self.align_corners else (-0.5, size - 0.5)))
        # a point that was clamped does not follow the grid any more
        inside = (u > 0) & (u < size - 1)
        return u.clamp(0, size - 1), sign * inside


class Tap(NamedTuple):
    """Along one axis an element for every point, ``(N, points)``, its weight, and the slope of that.

    The slope is the derivative by the coordinate of the grid. An element outside has the place -1.
    """

    place: Tensor
    weight: Tensor
    slope: Tensor


class Corner(NamedTuple):
    """An element for every point, ``(N, points)``, its weight, and by axis the slope of that.

    All that is outside has one place, behind the last, so that it touches no element of the image.
    """

    place: Tensor
    weight: Tensor
    slopes: list[Tensor]

    def of(self, rows: Tensor) -> Tensor:
        """The element for every point, ``(N, points, C)``, from an image as ``(N, elements, C)``."""
        # one selection of whole rows: gather would take number by number
        first = torch.arange(len(rows), device=rows.device).unsqueeze(1) * rows.shape[1]
        place = (self.place + first).flatten()
        selected = rows.reshape(len(rows) * rows.shape[1], rows.shape[2]).index_select(0, place)
        return selected.view(*self.place.shape, rows.shape[2])


def _tap(place: Tensor, weight: Tensor, slope: Tensor, size: int) -> Tap:
    inside, outside = (place >= 0) & (place <= size - 1), (place < 0) | (place > size - 1)
    index = torch.where(inside, place.detach(), -1).long()
    # a coordinate that is not a number is neither
    return Tap(index, torch.where(outside, 0, weight), torch.where(outside, 0, slope))


def _keys(t: Tensor) -> tuple[Tensor, Tensor]:
    """Keys's kernel at the distance t, of at most 2, and its derivative."""
    s, a = t.abs(), cubic()
    near, far = ((a + 2) * s - (a + 3)) * s * s + 1, ((s - 5) * s + 8) * s * a - 4 * a
    near_slope, far_slope = (3 * (a + 2) * s - 2 * (a + 3)) * s, ((3 * s - 10) * s + 8) * a
    is_near = s <= 1
    return torch.where(is_near, near, far), torch.sign(t) * torch.where(is_near, near_slope, far_slope)


def _reflected(u: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    span = high - low
    if not span:
        return torch.zeros_like(u), torch.zeros_like(u)
    side = torch.where(u < low, -1.0, 1.0).to(u.dtype)
    distance = (u - low) * side
    # every second reflection runs backwards
    turns = (distance.detach() / span).floor()
    back = turns % 2 == 1
    rest = distance - turns * span
    return torch.where(back, span - rest, rest) + low, torch.where(back, -side, side)


class GridSampleRule(Rule):
    """Saves x and the grid."""

    @staticmethod
    def forward(x: Tensor, grid: Tensor, how: Sampling) -> Tensor:
        return how(x, grid)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Sampling], output: Tensor) -> None:
        x, grid, ctx.how = inputs
        save(ctx, x, grid)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, grid = ctx.saved_tensors
        needs_x, needs_grid, _ = ctx.needs_input_grad
        g = _flat(grad_y)
        grad_x = g.new_zeros(*x.shape[:2], math.prod(x.shape[2:]) + 1) if needs_x else None
        grad_u = [g.new_zeros(())] * grid.shape[-1]
        in_place, rows = first_order(g, x, grid), _rows(x)
        for corner in ctx.how.corners(widen(grid), x.shape[2:]):
            if grad_x is not None:
                add = grad_x.scatter_add_ if in_place else grad_x.scatter_add
                grad_x = add(2, corner.place.unsqueeze(1).expand_as(g), g * corner.weight.unsqueeze(1))
            if needs_grid:
                # the nearest element does not move with the point: its slopes are zero
                part = 1 if ctx.how.mode == "nearest" else (g.mT * corner.of(rows)).sum(2)
                grad_u = [total + slope * part for total, slope in zip(grad_u, corner.slopes, strict=True)]
        # without the element that stood for all outside
        grad_x = None if grad_x is None else grad_x[..., :-1].contiguous().view(x.shape).to(x.dtype)
        return grad_x, _as_grid(grad_u, grid) if needs_grid else None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_grid: Tensor | None, _: None) -> Tensor:
        x, grid = ctx.saved_tensors
        tangent = widen(x).new_zeros(())
        moves = None if tangent_grid is None else _points(widen(tangent_grid)).unbind(-1)[::-1]
        for corner in ctx.how.corners(widen(grid), x.shape[2:]):
            if tangent_x is not None:
                tangent = tangent + corner.weight.unsqueeze(2) * corner.of(_rows(tangent_x))
            for move, slope in zip(moves or (), corner.slopes, strict=False):
                tangent = tangent + (move * slope).unsqueeze(2) * corner.of(_rows(x))
        return tangent.mT.reshape(*x.shape[:2], *grid.shape[1:-1]).to(x.dtype)


def _flat(x: Tensor) -> Tensor:
    return widen(x).reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _points(grid: Tensor) -> Tensor:
    return grid.reshape(len(grid), math.prod(grid.shape[1:-1]), grid.shape[-1])


def _rows(x: Tensor) -> Tensor:
    """An image as ``(N, elements, C)``, and behind it the zero that is outside."""
    rows = _flat(x).mT
    return torch.cat((rows, rows.new_zeros(len(rows), 1, rows.shape[2])), 1)


def _product(factors: list[Tensor]) -> Tensor:
    return functools.reduce(torch.mul, factors)


def _as_grid(by_axis: list[Tensor], grid: Tensor) -> Tensor:
    coordinates = [u.expand(grid.shape[0], math.prod(grid.shape[1:-1])) for u in by_axis[::-1]]
    return torch.stack(coordinates, -1).view(grid.shape).to(grid.dtype)


class AffineGridRule(Rule):
    """Saves nothing."""

    @staticmethod
    def forward(theta: Tensor, corners: bool | None, *size: int) -> Tensor:
        return F.affine_grid(theta, list(size), corners)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.corners, *ctx.size = inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad_grid: Tensor) -> tuple[Tensor | None, ...]:
        g = grad_grid.flatten(1, -2)
        # the grid of the identity is the points themselves, whatever a corner is
        unchanged = torch.eye(g.shape[-1], g.shape[-1] + 1, dtype=g.dtype, device=g.device)
        points = F.affine_grid(unchanged.unsqueeze(0), [1, *ctx.size[1:]], ctx.corners).flatten(1, -2)
        points = torch.cat((points, torch.ones_like(points[..., :1])), -1)
        return g.mT @ points, None, *(None for _ in ctx.size)

    @staticmethod
    def jvp(ctx: Any, tangent_theta: Tensor, *_: Any) -> Tensor:
        return F.affine_grid(tangent_theta, ctx.size, ctx.corners)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """An image at the points of a grid; as :func:`torch.nn.functional.grid_sample`.

    Args:
        input: ``(N, C, H, W)`` or ``(N, C, D, H, W)``.
        grid: ``(N, *, 2)`` or ``(N, *, 3)``, the last axis of the image first, from -1 at one side to 1.
        mode: ``"bilinear"``, ``"nearest"`` or ``"bicubic"``.
        padding_mode: ``"zeros"``, ``"border"`` or ``"reflection"``, for points outside.
        align_corners: whether -1 and 1 are the centres of the corner elements, not their edges.

    Returns:
        ``(N, C, *)``.

    Raises:
        ValueError: an unknown mode, in torch's words.
        RuntimeError: shapes or dtypes that do not fit, in torch's words.
    """
    return GridSampleRule.call(input, grid, Sampling(mode, padding_mode, align_corners))


def affine_grid(theta: Tensor, size: list[int], align_corners: bool | None = None) -> Tensor:
    """The grid that samples an affinely transformed image; as :func:`torch.nn.functional.affine_grid`.

    Args:
        theta: ``(N, 2, 3)`` or ``(N, 3, 4)``.
        size: of the image that is to be sampled, ``(N, C, *)``.
        align_corners: as for :func:`grid_sample`.

    Returns:
        ``(N, *, 2)`` or ``(N, *, 3)``.

    Raises:
        ValueError: a size or dtype that does not fit, in torch's words.
    """
    return AffineGridRule.call(theta, align_corners, *size)
