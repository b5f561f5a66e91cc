"""Padding by a constant.

Along one axis of n elements, padded by l on the left and r on the right (cropped, where negative):

    forward   y_i = x_(i - l) where 0 <= i - l < n, else the constant
    backward  dL/dx_j = g_(j + l)

since the constant is none of x (Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 6.46: the
transpose of the map). The gradient is g padded by -l and -r: cropped, and zero where x was cropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.rule import Rule, owned
from torch_backprop.spec import LayerSpec, case


@dataclass(frozen=True)
class Padding:
    """torch's arguments: ``pad`` has two numbers for each axis, the last axis first."""

    pad: Sequence[int]
    mode: str
    value: float | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The padded tensor."""
        return F.pad(x, self.pad, self.mode, self.value)

    @property
    def sides(self) -> list[tuple[int, int]]:
        """Left and right, the last axis first."""
        return list(zip(self.pad[::2], self.pad[1::2], strict=True))


class ConstantPadRule(Rule):
    """Saves nothing."""

    @staticmethod
    def forward(x: Tensor, padding: Padding) -> Tensor:
        return owned(padding(x))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Padding], output: Tensor) -> None:
        ctx.padding = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        # the constant has no gradient, whatever lay beside it
        return F.pad(grad_y, [-width for width in ctx.padding.pad]), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        return F.pad(tangent_x, ctx.padding.pad)


def constant_pad(input: Tensor, pad: Sequence[int], value: float | None) -> Tensor:
    """``input`` padded by ``value``, or by 0 if that is None."""
    return ConstantPadRule.call(input, Padding(pad, "constant", value))


def _forward(self: Any, input: Tensor) -> Tensor:
    return constant_pad(input, self.padding, self.value)


class ConstantPad1d(torch.nn.ConstantPad1d):
    """Drop-in for :class:`torch.nn.ConstantPad1d`, on ``(N, C, L)`` or without N."""

    forward = _forward


class ConstantPad2d(torch.nn.ConstantPad2d):
    """Drop-in for :class:`torch.nn.ConstantPad2d`, on ``(N, C, H, W)`` or without N."""

    forward = _forward


class ConstantPad3d(torch.nn.ConstantPad3d):
    """Drop-in for :class:`torch.nn.ConstantPad3d`, on ``(N, C, D, H, W)`` or without N."""

    forward = _forward


class ZeroPad1d(torch.nn.ZeroPad1d):
    """Drop-in for :class:`torch.nn.ZeroPad1d`, on ``(N, C, L)`` or without N."""

    forward = _forward


class ZeroPad2d(torch.nn.ZeroPad2d):
    """Drop-in for :class:`torch.nn.ZeroPad2d`, on ``(N, C, H, W)`` or without N."""

    forward = _forward


class ZeroPad3d(torch.nn.ZeroPad3d):
    """Drop-in for :class:`torch.nn.ZeroPad3d`, on ``(N, C, D, H, W)`` or without N."""

    forward = _forward


SPECS = (
    LayerSpec(
        ConstantPad1d,
        torch.nn.ConstantPad1d,
        (
            case((2, 3, 4), padding=(1, 2), value=3.5),
            case((3, 4), padding=(-1, 2), value=-1.0),
            case((2, 3, 4), padding=0, value=1.0),
        ),
        large=case((32, 64, 1024), padding=2, value=1.5),
    ),
    LayerSpec(
        ConstantPad2d,
        torch.nn.ConstantPad2d,
        (case((2, 3, 3, 4), padding=(1, 0, -1, 2), value=float("inf")),),
        large=case((16, 64, 32, 32), padding=2, value=1.5),
    ),
    LayerSpec(
        ConstantPad3d,
        torch.nn.ConstantPad3d,
        (case((2, 3, 2, 3, 4), padding=1, value=2),),
        large=case((4, 32, 16, 32, 32), padding=2, value=1.5),
    ),
    LayerSpec(
        ZeroPad1d,
        torch.nn.ZeroPad1d,
        (case((2, 3, 4), padding=2), case((3, 4), padding=(-1, -1))),
        large=case((32, 64, 1024), padding=2),
    ),
    LayerSpec(
        ZeroPad2d,
        torch.nn.ZeroPad2d,
        (case((2, 3, 3, 4), padding=1),),
        large=case((16, 64, 32, 32), padding=2),
    ),
    LayerSpec(
        ZeroPad3d,
        torch.nn.ZeroPad3d,
        (case((1, 2, 3, 4, 3), padding=(1, -2, 0, 3, -1, -1)),),
        large=case((4, 32, 16, 32, 32), padding=2),
    ),
)
