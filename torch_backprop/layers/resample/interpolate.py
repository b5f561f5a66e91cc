r"""Upsampling and downsampling. Keys (1981), IEEE TASSP 29(6), 1153-1160, eq. 15, for the cubic kernel.

As at fixed points in Jaderberg et al. (2015), arXiv:1506.02025, eqs. 3 (forward) and 6 (backward).

Along an axis every output o is a weighted sum of a few inputs i, its taps: one of the nearest, two of the
linear modes, four of the cubic one, more where a filter is widened against aliasing. Axes are independent.
With W and V for the weights along two of them:

    forward   y_op = sum_ij W_oi V_pj x_ij
    backward  dL/dx_ij = sum_op W_oi V_pj g_op

since the map is linear, and its transpose has the same weights: axis by axis, each output sends its gradient
back to its taps. The weights of an axis need no formula for each mode: they are what the interpolation makes
of the unit vectors, or of the ramp 0, 1, 2, ...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.pooling.adaptive import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
)
from torch_backprop.rule import Rule, widen
from torch_backprop.spec import LayerSpec, case

SHORT = {"nearest": 1, "nearest-exact": 1, "linear": 2, "bilinear": 2, "trilinear": 2}
"""Modes whose taps follow one another from the place of the output, and how many there are."""

Sizes = int | Sequence[int] | None
Factors = float | Sequence[float] | None


@dataclass(frozen=True)
class Interpolation:
    """The arguments of :func:`torch.nn.functional.interpolate`, the input apart."""

    size: Any
    scale_factor: Any
    mode: str
    align_corners: bool | None
    recompute_scale_factor: bool | None
    antialias: bool

    def __call__(self, x: Tensor) -> Tensor:
        """The interpolated input."""
        return F.interpolate(
            x,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
            self.antialias,
        )

    def taps(self, g: Tensor, axis: int, length: int) -> tuple[Tensor, Tensor]:
        """Of each output along an axis, the inputs and their weights, both ``(taps, outputs)``."""
        if self.antialias or self.mode not in SHORT:
            return self._taps_of_vectors(g, axis, length)
        # in float64, in which the place of an output is exact to the bits that its weights have
        ramp = torch.arange(length, dtype=torch.float64, device=g.device).unsqueeze(0)
        place = self._along(axis, g, ramp).squeeze(0)
        low = place.floor()
        index = torch.stack((low, (low + 1).clamp(max=length - 1))).long()
        t = (place - low).to(g.dtype)
        return (
            (index[:1], torch.ones_like(t)[None])
            if SHORT[self.mode] == 1
            else (index, torch.stack((1 - t, t)))
        )

    def _taps_of_vectors(self, g: Tensor, axis: int, length: int) -> tuple[Tensor, Tensor]:
        weights = self._along(axis, g, torch.eye(length, dtype=g.dtype, device=g.device))
        radius: float = 3 if self.mode == "lanczos" else 2
        if self.antialias:
            # the filter covers the inputs that an output stands for
            radius = radius * max(1.0, self._stretch(axis, length, g.shape[2 + axis])) + 1
        index = weights.abs().topk(min(length, math.ceil(2 * radius)), 0).indices
        weights = weights.gather(0, index)
        # a weight of zero must not carry an infinite gradient elsewhere
        return torch.where(weights == 0, index[:1], index), weights

    def _along(self, axis: int, g: Tensor, vectors: Tensor) -> Tensor:
        """Vectors ``(k, length)`` interpolated along one axis, to the length that g has there."""
        scale, axes = self._scale(axis), range(g.dim() - 2)
        size = [g.shape[2 + axis] if i == axis else 2 for i in axes] if scale is None else None
        factor = None if scale is None else [scale if i == axis else 1.0 for i in axes]
        alone = Interpolation(size, factor, self.mode, self.align_corners, None, self.antialias)
        # the other axes stay as they are, of two elements: over one, torch's antialiasing reads wrong strides
        image = vectors.view(1, len(vectors), *(-1 if i == axis else 1 for i in axes))
        image = image.expand(-1, -1, *(-1 if i == axis else 2 for i in axes)).contiguous()
        return alone(image).movedim(2 + axis, 2).flatten(3)[0, :, :, 0] if len(axes) > 1 else alone(image)[0]

    def _scale(self, axis: int) -> float | None:
        """The factor of an axis, if that and not the sizes says where an output lies."""
        if self.scale_factor is None or self.recompute_scale_factor:
            return None
        return self.scale_factor[axis] if isinstance(self.scale_factor, Sequence) else self.scale_factor

    def _stretch(self, axis: int, length: int, outputs: int) -> float:
        scale = self._scale(axis)
        return length / max(outputs, 1) if scale is None else 1 / scale


class InterpolateRule(Rule):
    """Saves nothing: the weights depend on sizes alone."""

    @staticmethod
    def forward(x: Tensor, how: Interpolation) -> Tensor:
        return how(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Interpolation], output: Tensor) -> None:
        x, ctx.how = inputs
        ctx.shape, ctx.dtype = x.shape, x.dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        g = widen(grad_y)
        for axis, length in enumerate(ctx.shape[2:]):
            index, weights = ctx.how.taps(g, axis, length)
            g = _sent_back(g, 2 + axis, index, weights, length)
        return g.to(ctx.dtype), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        return ctx.how(tangent_x)


def interpolate(
    input: Tensor,
    size: Sizes = None,
    scale_factor: Factors = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """An image on a finer or a coarser grid; as :func:`torch.nn.functional.interpolate`.

    Args:
        input: ``(N, C, *)`` with one to three axes.
        size: the length of every axis, or of each.
        scale_factor: the lengths over the input's, instead of ``size``.
        mode: ``"nearest"``, ``"nearest-exact"``, ``"linear"``, ``"bilinear"``, ``"trilinear"``,
            ``"bicubic"``, ``"lanczos"`` or ``"area"``.
        align_corners: whether the centres of the corner elements, not their edges, stay where they are.
        recompute_scale_factor: whether an output's place follows from the lengths, not from ``scale_factor``.
        antialias: whether a filter as wide as an output comes before the sampling.

    Returns:
        ``(N, C, *)``.

    Raises:
        NotImplementedError: a mode that does not fit the number of axes, in torch's words.
        ValueError: options that contradict one another, in torch's words.
    """
    how = Interpolation(
        _frozen(size), _frozen(scale_factor), mode, align_corners, recompute_scale_factor, antialias
    )
    return _averaged(input, how) if mode == "area" else InterpolateRule.call(input, how)


class Upsample(torch.nn.Upsample):
    """Drop-in for :class:`torch.nn.Upsample`."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` to ``(N, C, *)`` with other lengths of the last one to three axes."""
        return interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            recompute_scale_factor=self.recompute_scale_factor,
        )


class UpsamplingNearest2d(torch.nn.UpsamplingNearest2d):
    """Drop-in for :class:`torch.nn.UpsamplingNearest2d`."""

    forward = Upsample.forward


class UpsamplingBilinear2d(torch.nn.UpsamplingBilinear2d):
    """Drop-in for :class:`torch.nn.UpsamplingBilinear2d`."""

    forward = Upsample.forward


def _averaged(input: Tensor, how: Interpolation) -> Tensor:
    # torch checks the options and finds the lengths, without the numbers
    lengths = how(torch.empty(input.shape, dtype=input.dtype, device="meta")).shape[2:]
    pool = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[len(lengths) - 1]
    return pool(input, lengths)


def _frozen(numbers: Any) -> Any:
    return tuple(numbers) if isinstance(numbers, list) else numbers


def _sent_back(g: Tensor, axis: int, index: Tensor, weights: Tensor, length: int) -> Tensor:
    """Adds to each input along an axis the weighted gradients of the outputs of which it is a tap."""
    shape = [length if i == axis else size for i, size in enumerate(g.shape)]
    behind = (1,) * (g.dim() - 1 - axis)
    total = g.new_zeros(shape)
    for tap, weight in zip(index, weights, strict=True):
        # a single tap has all the weight
        total = total.index_add(axis, tap, g * weight.view(-1, *behind) if len(index) > 1 else g)
    return total


SPECS = (
    LayerSpec(
        Upsample,
        torch.nn.Upsample,
        (
            case((2, 1, 3, 2), scale_factor=2.0, mode="bilinear"),
            case((1, 2, 4), size=7, mode="nearest"),
            case((1, 2, 5), scale_factor=1.7, mode="linear", align_corners=True),
            case((1, 1, 4, 5), scale_factor=(1.5, 0.7), mode="bicubic"),
            case((1, 1, 2, 3, 2), size=(3, 2, 4), mode="trilinear"),
            case((1, 2, 3, 4), size=(2, 5), mode="area"),
            case((1, 2, 3, 4), scale_factor=1.3, mode="nearest-exact", recompute_scale_factor=True),
        ),
        large=case((4, 16, 128, 128), scale_factor=2.0, mode="bilinear"),
    ),
    LayerSpec(
        UpsamplingNearest2d,
        torch.nn.UpsamplingNearest2d,
        (case((1, 2, 2, 3), scale_factor=2),),
        large=case((4, 16, 128, 128), scale_factor=2),
    ),
    LayerSpec(
        UpsamplingBilinear2d,
        torch.nn.UpsamplingBilinear2d,
        (case((1, 2, 2, 3), size=(4, 5)),),
        large=case((4, 16, 128, 128), size=(100, 150)),
    ),
)
