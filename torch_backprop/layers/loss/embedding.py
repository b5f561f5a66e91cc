"""Cosine embedding loss: pairs should be parallel, or far from it. Torch7: Collobert et al. (2011).

Of the cosine in Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 2.34.

Of a pair x1, x2 with target t, -1 or 1, a1 = |x1|^2 + e, a2 = |x2|^2 + e, and u what reaches the pair's loss:

    forward   c = x1 . x2 / sqrt(a1 a2)           l = 1 - c if t = 1, max(0, c - m) if t = -1
    backward  dL/dc = u ([t = -1] [c >= m] - [t = 1])
              dL/dx1 = dL/dc (x2 / sqrt(a1 a2) - c x1 / a1), and with 1 and 2 exchanged dL/dx2

since d a1 / d x1 = 2 x1, of which the root takes half. e is 1e-12, a float32 number also in float64. At c = m
torch takes the slope of the side where the loss is not zero.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.constants import least
from torch_backprop.layers.loss.pointwise import CAST
from torch_backprop.layers.loss.reduction import reduced, resolve, spread, sum_to
from torch_backprop.rule import Rule, private, save, widen
from torch_backprop.spec import Draw, LayerSpec, case


class CosineEmbeddingRule(Rule):
    """Saves x1, x2 and t; the cosines are computed again."""

    autocast = CAST

    @staticmethod
    def forward(x1: Tensor, x2: Tensor, t: Tensor, margin: float, reduction: str) -> Tensor:
        return F.cosine_embedding_loss(x1, x2, t, margin, reduction=reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x1, x2, t, ctx.margin, ctx.reduction = inputs
        save(ctx, x1, x2, t)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2, t = ctx.saved_tensors
        needs_x1, needs_x2, *_ = ctx.needs_input_grad
        c, by_x1, by_x2, across = _cosines(widen(x1), widen(x2))
        u = spread(widen(grad_y), ctx.reduction, c.numel())
        # chosen, not multiplied: where the loss is flat the gradient is 0 even of an infinite u
        u = torch.where(t == 1, -u, torch.where((t == -1) & (c >= ctx.margin), u, 0)).unsqueeze(-1)
        grad_x1 = grad_x2 = None
        if needs_x1:
            grad_x1 = _turned(x1, x2, u * across, u * by_x1).to(x1.dtype)
        if needs_x2:
            grad_x2 = _turned(x2, x1, u * across, u * by_x2).to(x2.dtype)
        return grad_x1, grad_x2, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x1: Tensor | None, tangent_x2: Tensor | None, *_: Any) -> Tensor:
        x1, x2, t = ctx.saved_tensors
        c, by_x1, by_x2, across = _cosines(x1, x2)
        terms: list[Tensor] = []
        if tangent_x1 is not None:
            terms += (x2 * across * tangent_x1).sum(-1), -(x1 * by_x1 * tangent_x1).sum(-1)
        if tangent_x2 is not None:
            terms += (x1 * across * tangent_x2).sum(-1), -(x2 * by_x2 * tangent_x2).sum(-1)
        turn = sum(terms[1:], terms[0])
        # the slope is -1 towards the target, and 0 where the margin is kept
        turn = torch.where(t == 1, -turn, torch.where((t == -1) & (c >= ctx.margin), turn, 0))
        return reduced(turn, ctx.reduction, turn.numel())


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos for t = 1, max(0, cos - margin) for t = -1; as torch's ``cosine_embedding_loss``.

    Args:
        input1: ``(N, D)`` or ``(D)``.
        input2: ``(N, D)`` or ``(D)``.
        target: ``(N)`` or ``()``, of -1 and 1; has no gradient.
        margin: a cosine, between -1 and 1.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over pairs) or ``"sum"``.

    Returns:
        ``()``, or ``(N)`` without a reduction; a number.

    Raises:
        RuntimeError: shapes that do not fit, in torch's words.
        ValueError: an unknown reduction, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    # torch keeps masks of the target
    target = private(target.detach(), input1, input2)
    return CosineEmbeddingRule.call(input1, input2, target, margin, reduction)


class CosineEmbeddingLoss(torch.nn.CosineEmbeddingLoss):
    """Drop-in for :class:`torch.nn.CosineEmbeddingLoss`."""

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """Maps ``(N, D)``, ``(N, D)`` and ``(N)`` to ``()``, or ``(N)`` without a reduction."""
        return cosine_embedding_loss(input1, input2, target, self.margin, reduction=self.reduction)


def _cosines(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c ``(N)``, and as ``(N, 1)`` c / a1, c / a2 and 1 / sqrt(a1 a2); in differentiable operators."""
    a1, a2 = ((x * x).sum(-1) + least() for x in (x1, x2))
    c = (x1 * x2).sum(-1) / (a1 * a2).sqrt()
    return c, (c / a1).unsqueeze(-1), (c / a2).unsqueeze(-1), (a1 * a2).rsqrt().unsqueeze(-1)


def _turned(x: Tensor, other: Tensor, across: Tensor, along: Tensor) -> Tensor:
    """``across`` times the other vector less ``along`` times x: the gradient of x."""
    if x.shape == other.shape:
        return other * across - x * along
    # the length is that of x itself, not of what it was broadcast to
    whole = torch.broadcast_shapes(x.shape, other.shape)
    return sum_to((other * across).expand(whole), x.shape) - sum_to(x * along, x.shape)


SPECS = (
    LayerSpec(
        CosineEmbeddingLoss,
        torch.nn.CosineEmbeddingLoss,
        (
            case((6, 4), Draw((6, 4), "unit"), Draw((6,), "signs")),
            case((6, 4), Draw((6, 4), "unit"), Draw((6,), "signs"), margin=0.2, reduction="none"),
            case((4,), Draw((4,), "unit"), Draw((), "signs"), reduction="sum"),
        ),
    ),
)
