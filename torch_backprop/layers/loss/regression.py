"""Losses of a difference: the squared error and the absolute error.

With d = x - t over n elements, element weights w (or 1), and u what reaches each element: g, or g / n, or
g / sum w for a weighted mean.

    mse   forward  l = w d^2       backward  dL/dx = 2 u w d         dL/dt = -dL/dx
    l1    forward  l = w abs(d)    backward  dL/dx = u w sign(d)     dL/dt = -dL/dx

A weight's gradient is u l / w, less the weighted mean's own L g / sum w. Complex sign is d / abs(d).
Gauss (1809); Laplace (1774).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.loss.reduction import reduced, resolve, spread, sum_to
from torch_backprop.rule import FLOAT32, Rule, save, widen
from torch_backprop.spec import LayerSpec, case


def _square(d: Tensor) -> Tensor:
    return d * d


def _double(d: Tensor) -> Tensor:
    return 2 * d


class DifferenceLossRule(Rule):
    """Saves x, t and w. The function of d, its derivative and torch's forward come as arguments."""

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def forward(
        x: Tensor, t: Tensor, w: Tensor | None, reduction: str, loss: tuple[Callable[..., Tensor], ...]
    ) -> Tensor:
        return loss[0](x, t, reduction=reduction, weight=w)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *residuals, ctx.reduction, (_, ctx.value, ctx.slope) = inputs
        save(ctx, *residuals)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, t, w = ctx.saved_tensors
        needs_x, needs_t, needs_w = ctx.needs_input_grad[:3]
        d = widen(x) - widen(t)
        total = _total(d, w)
        u = spread(widen(grad_y), ctx.reduction, total)
        grad_x = grad_t = grad_w = None
        if needs_x or needs_t:
            grad_d = u * ctx.slope(d) if w is None else u * w * ctx.slope(d)
            grad_x = sum_to(grad_d, x.shape).to(x.dtype) if needs_x else None
            grad_t = -sum_to(grad_d, t.shape).to(t.dtype) if needs_t else None
        if w is not None and needs_w:
            mean = (ctx.value(d) * w).sum() / total if ctx.reduction == "mean" else 0
            grad_w = sum_to(u * (ctx.value(d) - mean), w.shape).to(w.dtype)
        return grad_x, grad_t, grad_w, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, t, w = ctx.saved_tensors
        tangent_x, tangent_t, tangent_w, *_ = tangents
        d = x - t
        tangent_d = (0 if tangent_x is None else tangent_x) - (0 if tangent_t is None else tangent_t)
        tangent = (ctx.slope(d).conj() * tangent_d).real if d.is_complex() else ctx.slope(d) * tangent_d
        total = _total(d, w)
        tangent = tangent if w is None else tangent * w
        if tangent_w is not None:
            mean = (ctx.value(d) * w).sum() / total if ctx.reduction == "mean" else 0
            tangent = tangent + (ctx.value(d) - mean) * tangent_w
        return reduced(tangent, ctx.reduction, total)


class WeightedDifferenceLossRule(DifferenceLossRule):
    """The same with weights, which torch leaves to ordinary operators, without an autocast policy."""

    autocast = {}


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """The squared error (x - t)^2; as :func:`torch.nn.functional.mse_loss`.

    Args:
        input: ``(*)``.
        target: ``(*)``, or broadcastable with the input, with a warning.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over elements, or over the sum of weights) or ``"sum"``.
        weight: ``(*)``, the shape of the input.

    Returns:
        ``()``, or ``(*)`` without a reduction; in the square of the input's unit.

    Raises:
        ValueError: an unknown reduction, or a weight of another shape, in torch's words.
    """
    loss = (F.mse_loss, _square, _double)
    return _difference_loss(loss, input, target, weight, resolve(size_average, reduce, reduction))


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """The absolute error abs(x - t); as :func:`torch.nn.functional.l1_loss`, arguments as :func:`mse_loss`.

    Returns:
        ``()``, or ``(*)`` without a reduction; in the input's unit.

    Raises:
        ValueError: an unknown reduction, or a weight of another shape, in torch's words.
    """
    loss = (F.l1_loss, torch.abs, torch.sgn)
    return _difference_loss(loss, input, target, weight, resolve(size_average, reduce, reduction))


class MSELoss(torch.nn.MSELoss):
    """Drop-in for :class:`torch.nn.MSELoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return mse_loss(input, target, reduction=self.reduction)


class L1Loss(torch.nn.L1Loss):
    """Drop-in for :class:`torch.nn.L1Loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return l1_loss(input, target, reduction=self.reduction)


def _difference_loss(
    loss: tuple[Callable[..., Tensor], ...], x: Tensor, t: Tensor, w: Tensor | None, reduction: str
) -> Tensor:
    rule = DifferenceLossRule if w is None else WeightedDifferenceLossRule
    return rule.call(x, t, w, reduction, loss)


def _total(d: Tensor, w: Tensor | None) -> Tensor | int:
    return d.numel() if w is None else w.sum()


SPECS = (
    LayerSpec(
        MSELoss,
        torch.nn.MSELoss,
        (case((3, 4), (3, 4)), case((2, 3), (2, 3), reduction="sum"), case((5,), (5,), reduction="none")),
    ),
    LayerSpec(
        L1Loss,
        torch.nn.L1Loss,
        (case((3, 4), (3, 4)), case((2, 3), (2, 3), reduction="sum"), case((), (), reduction="none")),
    ),
)
