"""Losses of a difference that grow like its square and then like its absolute value.

With d = x - t over n elements and u what reaches each element: g, or g / n:

    smooth l1   forward   l = d^2 / (2 beta) if abs(d) < beta, else abs(d) - beta / 2
                backward  dL/dx = u max(-1, min(1, d / beta))          dL/dt = -dL/dx
    huber       forward   l = d^2 / 2 if abs(d) < delta, else delta (abs(d) - delta / 2)
                backward  dL/dx = u max(-delta, min(delta, d))         dL/dt = -dL/dx

since square and line meet with one slope, so that the slope of the square, held where they meet, is that of
the whole. The Huber loss is delta times the smooth l1 loss of beta = delta. The slopes are continuous; their
own derivatives are not, and are 0 at abs(d) = beta. Element weights w of the Huber loss multiply l, and the
mean is still over n. Huber (1964), Ann. Math. Statist. 35, 73-101; Girshick (2015), arXiv:1504.08083, eq. 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.loss.pointwise import CAST, pointwise
from torch_backprop.layers.loss.reduction import resolve
from torch_backprop.layers.loss.regression import l1_loss
from torch_backprop.spec import LayerSpec, case


def _clipped(d: Tensor, bound: float) -> Tensor:
    # one pass instead of three
    if not torch.is_grad_enabled():
        return d.clamp(-bound, bound)
    # the derivative of clamp at the bounds is 1, and has to be 0
    return torch.where(d.abs() < bound, d, bound * torch.sign(d))


def _value(d: Tensor, clipped: Tensor) -> Tensor:
    return clipped * (d - clipped / 2)


def _huber(x: Tensor, t: Tensor, delta: float, reduction: str) -> Tensor:
    return F.huber_loss(x, t, reduction, delta)


def _weighted_huber(x: Tensor, t: Tensor, w: Tensor, delta: float, reduction: str) -> Tensor:
    # torch types it without the weight
    return F.huber_loss(x, t, reduction, delta, w)  # pyright: ignore[reportCallIssue]


def _smooth_l1(x: Tensor, t: Tensor, beta: float, reduction: str) -> Tensor:
    return F.smooth_l1_loss(x, t, reduction=reduction, beta=beta)


SmoothL1Rule = pointwise(
    _smooth_l1,
    CAST,
    x=lambda u, x, t, beta: _clipped(x - t, beta) * (u / beta),
    t=lambda u, x, t, beta: _clipped(t - x, beta) * (u / beta),
)
HuberRule = pointwise(
    _huber,
    CAST,
    x=lambda u, x, t, delta: _clipped(x - t, delta) * u,
    t=lambda u, x, t, delta: _clipped(t - x, delta) * u,
)
WeightedHuberRule = pointwise(
    _weighted_huber,
    {},
    x=lambda u, x, t, w, delta: _clipped(x - t, delta) * w * u,
    t=lambda u, x, t, w, delta: _clipped(t - x, delta) * w * u,
    w=lambda u, x, t, delta: _value(x - t, _clipped(x - t, delta)) * u,
)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """abs(x - t), rounded off within ``beta`` of 0; as :func:`torch.nn.functional.smooth_l1_loss`.

    Args:
        input: ``(*)``.
        target: ``(*)``, or broadcastable with the input, with a warning.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over elements) or ``"sum"``.
        beta: where the square ends, in the input's unit; 0 for the absolute error.

    Returns:
        ``()``, or ``(*)`` without a reduction; in the input's unit.

    Raises:
        RuntimeError: a negative ``beta``, in torch's words.
        ValueError: an unknown reduction, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    # as torch does, and u / beta would be undefined
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    return SmoothL1Rule.call(input, target, beta, reduction)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """(x - t)^2 / 2, a straight line beyond ``delta``; as :func:`torch.nn.functional.huber_loss`.

    Args:
        input: ``(*)``.
        target: ``(*)``, or broadcastable with the input, with a warning.
        reduction: ``"none"``, ``"mean"`` (over elements, weighted or not) or ``"sum"``.
        delta: where the square ends, in the input's unit.
        weight: ``(*)``, the shape of the input.

    Returns:
        ``()``, or ``(*)`` without a reduction; in the square of the input's unit.

    Raises:
        RuntimeError: a ``delta`` that is not positive, in torch's words.
        ValueError: an unknown reduction, or a weight of another shape, in torch's words.
    """
    reduction = resolve(None, None, reduction)
    if weight is None:
        return HuberRule.call(input, target, delta, reduction)
    return WeightedHuberRule.call(input, target, weight, delta, reduction)


class SmoothL1Loss(torch.nn.SmoothL1Loss):
    """Drop-in for :class:`torch.nn.SmoothL1Loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(torch.nn.HuberLoss):
    """Drop-in for :class:`torch.nn.HuberLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return huber_loss(input, target, reduction=self.reduction, delta=self.delta)


SPECS = (
    LayerSpec(
        SmoothL1Loss,
        torch.nn.SmoothL1Loss,
        (
            case((3, 4), (3, 4)),
            case((2, 3), (2, 3), beta=0.5, reduction="sum"),
            case((5,), (5,), beta=0.0, reduction="none"),
        ),
    ),
    LayerSpec(
        HuberLoss,
        torch.nn.HuberLoss,
        (
            case((3, 4), (3, 4)),
            case((2, 3), (2, 3), delta=0.5, reduction="sum"),
            case((), (), reduction="none"),
        ),
    ),
)
