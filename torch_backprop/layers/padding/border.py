"""Padding by reflection, by replication and around a circle.

Along one axis of n elements, padded by l on the left and r on the right (cropped, where negative), with s(i)
the element that element i of the output repeats:

    forward   y_i = x_s(i)
    backward  dL/dx_j = sum of g_i over the i with s(i) = j

since an element adds up what its repetitions get (Goodfellow, Bengio & Courville (2016), "Deep Learning", eq.
6.45). Inside, s(i) = i - l: the gradient is g, cropped. To that each axis adds the borders of g, folded back
onto what they repeat. With p = i - l outside [0, n):

    reflect   s = -p or 2 (n - 1) - p      replicate   s = 0 or n - 1      circular   s = p mod n

The map is linear, and of x only the shape matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.padding.constant import Padding, constant_pad
from torch_backprop.layers.pooling.windows import channels_last
from torch_backprop.rule import FLOAT32, Rule, is_plain, owned, save, widen
from torch_backprop.spec import LayerSpec, case


class BorderPadRule(Rule):
    """Saves nothing. Returns ``(y, link)``.

    The empty link ties the gradient to x: its second derivative is zero, as in torch, and not missing.
    """

    @staticmethod
    def forward(x: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
        return owned(padding(x)), x.new_zeros(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Padding], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.padding = inputs
        dims = len(ctx.padding.sides)
        ctx.channels_last = channels_last(x, dims)
        # torch takes (C, D, H, W) for a batch of images, of which the depth is innermost
        images = x.dim() == dims + 1 == 4 and is_plain(x) and channels_last(x, 2)
        ctx.format = torch.channels_last if images else torch.contiguous_format
        save(ctx, output[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (link,) = ctx.saved_tensors
        folded = widen(grad_y.movedim(1, -1).contiguous() if ctx.channels_last else grad_y)
        for i, (left, right) in enumerate(ctx.padding.sides):
            folded = fold(folded, -1 - i - ctx.channels_last, left, right, ctx.padding.mode)
        # nothing folded is grad_y itself, which is not ours to give away
        mine = any(map(any, ctx.padding.sides))
        folded = (folded.contiguous if mine else folded.clone)(memory_format=ctx.format).to(grad_y.dtype)
        grad_x = folded.movedim(-1, 1) if ctx.channels_last else folded
        return grad_x + link.sum() if torch.is_grad_enabled() else grad_x, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> tuple[Tensor, Tensor]:
        (link,) = ctx.saved_tensors
        return ctx.padding(tangent_x), torch.zeros_like(link)


class Float32BorderPadRule(BorderPadRule):
    """The paddings that autocast keeps in float32. Saves nothing."""

    autocast = {"cpu": FLOAT32}


def fold(g: Tensor, dim: int, left: int, right: int, mode: str) -> Tensor:
    """The gradient before one axis was padded by ``left`` and ``right``."""
    padded, size = g.shape[dim], g.shape[dim] - left - right
    left_crop, right_crop = max(-left, 0), max(-right, 0)
    # what was cropped has no gradient
    opened = F.pad(g, (0, 0) * (-1 - dim) + (left_crop, right_crop)) if left_crop or right_crop else g
    inside = opened.narrow(dim, max(left, 0), size)
    # a crop on one side may reach into the border on the other
    left_border, right_border = min(max(left, 0), padded), min(max(right, 0), padded)
    if not (left_border or right_border):
        return inside
    last = g.narrow(dim, padded - right_border, right_border)
    borders = torch.cat((g.narrow(dim, 0, left_border), last), dim)
    outside = torch.cat(
        (
            torch.arange(-left, left_border - left, device=g.device),
            torch.arange(size + right - right_border, size + right, device=g.device),
        )
    )
    return inside.index_add(dim, repeated(outside, size, left_crop, right_crop, mode), borders)


def repeated(p: Tensor, size: int, left_crop: int, right_crop: int, mode: str) -> Tensor:
    """The elements that the positions ``p`` outside an axis of ``size`` repeat."""
    if mode == "reflect":
        return size - 1 - (size - 1 - p.abs()).abs()
    if mode == "replicate":
        return p.clamp(0, size - 1)
    # the circle is that of the elements that were not cropped
    return (p - left_crop) % (size - left_crop - right_crop) + left_crop


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Pads the last axes; as :func:`torch.nn.functional.pad`.

    Args:
        input: ``(*)``; if the mode is not constant, ``(N, C, *)`` or ``(C, *)`` with one to three axes.
        pad: two numbers for each axis, the last axis first; a negative one crops.
        mode: ``"constant"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        value: the constant; 0 if None.

    Raises:
        NotImplementedError: a number of axes that the mode does not pad, in torch's words.
        RuntimeError: pads that do not fit, in torch's words; also where a crop leaves less of a circle than
            is padded, of which torch returns memory that was never written.
    """
    if mode == "constant":
        return constant_pad(input, pad, value)
    padding = Padding(pad, mode, value)
    # as torch's list for autocast has it, which leaves out reflection in three dimensions
    in_float32 = mode == "replicate" or (mode == "reflect" and len(pad) < 6)
    y, _ = (Float32BorderPadRule if in_float32 else BorderPadRule).call(input, padding)
    if mode == "circular":
        _check_circle(input, padding.sides)
    return y


def _check_circle(x: Tensor, sides: list[tuple[int, int]]) -> None:
    for size, (left, right) in zip(reversed(x.shape), sides, strict=False):
        circle = size + min(left, 0) + min(right, 0)
        if 0 <= circle < max(left, right) <= size:
            raise RuntimeError("Padding value causes wrapping around more than once.")


def _reflect(self: Any, input: Tensor) -> Tensor:
    return pad(input, self.padding, "reflect")


def _replicate(self: Any, input: Tensor) -> Tensor:
    return pad(input, self.padding, "replicate")


def _circle(self: Any, input: Tensor) -> Tensor:
    self._check_input_dim(input)
    return pad(input, self.padding, "circular")


class ReflectionPad1d(torch.nn.ReflectionPad1d):
    """Drop-in for :class:`torch.nn.ReflectionPad1d`, on ``(N, C, L)`` or without N."""

    forward = _reflect


class ReflectionPad2d(torch.nn.ReflectionPad2d):
    """Drop-in for :class:`torch.nn.ReflectionPad2d`, on ``(N, C, H, W)`` or without N."""

    forward = _reflect


class ReflectionPad3d(torch.nn.ReflectionPad3d):
    """Drop-in for :class:`torch.nn.ReflectionPad3d`, on ``(N, C, D, H, W)`` or without N."""

    forward = _reflect


class ReplicationPad1d(torch.nn.ReplicationPad1d):
    """Drop-in for :class:`torch.nn.ReplicationPad1d`, on ``(N, C, L)`` or without N."""

    forward = _replicate


class ReplicationPad2d(torch.nn.ReplicationPad2d):
    """Drop-in for :class:`torch.nn.ReplicationPad2d`, on ``(N, C, H, W)`` or without N."""

    forward = _replicate


class ReplicationPad3d(torch.nn.ReplicationPad3d):
    """Drop-in for :class:`torch.nn.ReplicationPad3d`, on ``(N, C, D, H, W)`` or without N."""

    forward = _replicate


class CircularPad1d(torch.nn.CircularPad1d):
    """Drop-in for :class:`torch.nn.CircularPad1d`, on ``(N, C, L)`` or without N."""

    forward = _circle


class CircularPad2d(torch.nn.CircularPad2d):
    """Drop-in for :class:`torch.nn.CircularPad2d`, on ``(N, C, H, W)`` or without N."""

    forward = _circle


class CircularPad3d(torch.nn.CircularPad3d):
    """Drop-in for :class:`torch.nn.CircularPad3d`, on ``(N, C, D, H, W)`` or without N."""

    forward = _circle


SPECS = (
    LayerSpec(
        ReflectionPad1d,
        torch.nn.ReflectionPad1d,
        (case((2, 3, 4), padding=(3, 2)), case((3, 5), padding=(-1, 3)), case((2, 4), padding=0)),
        large=case((32, 64, 1024), padding=2),
    ),
    LayerSpec(
        ReflectionPad2d,
        torch.nn.ReflectionPad2d,
        (case((2, 3, 3, 4), padding=(1, 2, 2, 1)), case((3, 4, 3), padding=(1, -1, 0, 2))),
        large=case((16, 64, 32, 32), padding=2),
    ),
    LayerSpec(
        ReflectionPad3d,
        torch.nn.ReflectionPad3d,
        (case((2, 2, 2, 3, 4), padding=1),),
        large=case((4, 32, 16, 32, 32), padding=2),
    ),
    LayerSpec(
        ReplicationPad1d,
        torch.nn.ReplicationPad1d,
        (case((2, 3, 4), padding=(1, 6)), case((3, 4), padding=(2, -1))),
        large=case((32, 64, 1024), padding=2),
    ),
    LayerSpec(
        ReplicationPad2d,
        torch.nn.ReplicationPad2d,
        (case((2, 3, 3, 4), padding=(1, 2, 3, 0)),),
        large=case((16, 64, 32, 32), padding=2),
    ),
    LayerSpec(
        ReplicationPad3d,
        torch.nn.ReplicationPad3d,
        (case((1, 2, 2, 3, 4), padding=(1, 0, 2, 1, 1, 3)),),
        large=case((4, 32, 16, 32, 32), padding=2),
    ),
    LayerSpec(
        CircularPad1d,
        torch.nn.CircularPad1d,
        (case((2, 3, 4), padding=(4, 2)), case((3, 5), padding=(2, -2)), case((3, 5), padding=(-1, 3))),
        large=case((32, 64, 1024), padding=2),
    ),
    LayerSpec(
        CircularPad2d,
        torch.nn.CircularPad2d,
        (case((2, 3, 3, 4), padding=(1, 2, 3, 0)),),
        large=case((16, 64, 32, 32), padding=2),
    ),
    LayerSpec(
        CircularPad3d,
        torch.nn.CircularPad3d,
        (case((1, 2, 2, 3, 4), padding=(1, 0, 2, 1, 1, 2)),),
        large=case((4, 32, 16, 32, 32), padding=2),
    ),
)
