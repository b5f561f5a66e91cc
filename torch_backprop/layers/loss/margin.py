"""Losses of a score that should pass a margin m: hinges.

With target t, -1 or 1, d = x1 - x2, and u what reaches each element:

    hinge embedding   forward   l = x if t = 1, max(0, m - x) if t = -1
                      backward  dL/dx = u ([t != -1] - [t != 1] [x <= m])
    margin ranking    forward   l = max(0, m - t d)
                      backward  dL/dx1 = -u t [t d <= m] = -dL/dx2      dL/dt = -u d [t d <= m]

since a hinge has the slope of its inside where that is positive. The slope of the first is one of -1, 0 and
1, and needs a byte. At the kink torch takes the slope of the side where the loss is not zero.

Hadsell, Chopra & LeCun (2006), CVPR, 1735-1742, eq. 4; Herbrich, Graepel & Obermayer (2000), "Large margin
rank boundaries for ordinal regression".
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.loss.pointwise import CAST, DifferenceRule, pointwise
from torch_backprop.layers.loss.reduction import reduced, resolve, spread, sum_to, whole
from torch_backprop.rule import Rule, save
from torch_backprop.spec import Draw, LayerSpec, case


class HingeEmbeddingRule(Rule):
    """Saves the slope, a byte for an element.

    Returns ``(loss, slope, link)``. The empty link ties the gradient to x, so that its second derivative is
    zero and not missing.
    """

    autocast = CAST

    @staticmethod
    def forward(x: Tensor, t: Tensor, margin: float, reduction: str) -> tuple[Tensor, Tensor, Tensor]:
        loss = F.hinge_embedding_loss(x, t, margin, reduction=reduction)
        slope = (t != -1).to(torch.int8) - ((t != 1) & (x <= margin)).to(torch.int8)
        return loss, slope, x.new_zeros(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, _, _, ctx.reduction = inputs
        ctx.shape, ctx.dtype = x.shape, x.dtype
        ctx.mark_non_differentiable(output[1])
        save(ctx, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        slope, link = ctx.saved_tensors
        u = spread(grad_y, ctx.reduction, slope.numel())
        # chosen, not multiplied: where the loss is flat the gradient is 0 even of an infinite u
        grad_x = sum_to(torch.where(slope == 0, 0, slope * u), ctx.shape).to(ctx.dtype)
        return grad_x + link.sum() if torch.is_grad_enabled() else grad_x, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> tuple[Tensor, None, Tensor]:
        slope, link = ctx.saved_tensors
        return reduced(slope * tangent_x, ctx.reduction, slope.numel()), None, torch.zeros_like(link)


def _ranking(d: Tensor, s: Tensor, margin: float, reduction: str) -> Tensor:
    return whole((s * d + margin).clamp(min=0), reduction)


RankingRule = pointwise(
    _ranking,
    CAST,
    # chosen, not multiplied: outside the margin the gradient is 0 even of an infinite u
    d=lambda u, d, s, margin: s * torch.where(-s * d <= margin, u, 0),
    s=lambda u, d, s, margin: d * torch.where(-s * d <= margin, u, 0),
)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """x for t = 1, max(0, margin - x) for t = -1; as :func:`torch.nn.functional.hinge_embedding_loss`.

    Args:
        input: distances ``(*)``.
        target: ``(*)`` of -1 and 1; has no gradient.
        margin: in the input's unit.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over elements) or ``"sum"``.

    Returns:
        ``()``, or ``(*)`` without a reduction; in the input's unit.

    Raises:
        ValueError: an unknown reduction, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    return HingeEmbeddingRule.call(input, target.detach(), margin, reduction)[0]


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - t (x1 - x2)); as :func:`torch.nn.functional.margin_ranking_loss`.

    Args:
        input1: scores ``(*)``.
        input2: scores ``(*)``.
        target: ``(*)``, 1 where the first should be higher, else -1.
        margin: in the inputs' unit.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over elements) or ``"sum"``.

    Returns:
        ``()``, or ``(*)`` without a reduction; in the inputs' unit.

    Raises:
        RuntimeError: different numbers of dimensions, in torch's words.
        ValueError: an unknown reduction, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    # torch refuses them, in its own words
    if not input1.dim() == input2.dim() == target.dim() or input1.is_complex():
        return F.margin_ranking_loss(input1, input2, target, margin, reduction=reduction)
    # the difference is all that is kept of the inputs, and s = -t of the target, as in torch
    return RankingRule.call(DifferenceRule.call(input1, input2), -target, float(margin), reduction)


class HingeEmbeddingLoss(torch.nn.HingeEmbeddingLoss):
    """Drop-in for :class:`torch.nn.HingeEmbeddingLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return hinge_embedding_loss(input, target, self.margin, reduction=self.reduction)


class MarginRankingLoss(torch.nn.MarginRankingLoss):
    """Drop-in for :class:`torch.nn.MarginRankingLoss`."""

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)``, ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return margin_ranking_loss(input1, input2, target, self.margin, reduction=self.reduction)


def _signs(*shape: int) -> Draw:
    return Draw(shape, "signs")


SPECS = (
    LayerSpec(
        HingeEmbeddingLoss,
        torch.nn.HingeEmbeddingLoss,
        (
            case((3, 4), _signs(3, 4)),
            case((5,), _signs(5), margin=0.5, reduction="none"),
            case((2, 3), _signs(1, 3), reduction="sum"),
        ),
    ),
    LayerSpec(
        MarginRankingLoss,
        torch.nn.MarginRankingLoss,
        (
            case((6,), (6,), _signs(6)),
            case((2, 3), (2, 3), _signs(2, 3), margin=0.5, reduction="none"),
            case((2, 3), (2, 1), (1, 3), margin=0.5, reduction="sum"),
        ),
    ),
)
