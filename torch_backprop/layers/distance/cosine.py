"""The cosine of the angle between two vectors. Salton, Wong & Yang (1975), Commun. ACM 18, 613-620.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 2.34.

Of a pair x1, x2 with lengths n1, n2 and g = dL/dy:

    forward   y = x1 . x2 / (m1 m2)                      m1 = max(n1, e), m2 = max(n2, e)
    backward  dL/dx1 = g / m1 (x2 / m2 - y x1 / n1)      and with 1 and 2 exchanged dL/dx2

since dn1/dx1 = x1 / n1, and 0 for the zero vector. The bounds against division by 0 are differentiated as if
there were none, as torch does: a vector shorter than e feels its length all the same.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.loss.reduction import sum_to
from torch_backprop.rule import FLOAT32, Rule, private, save, wanted, widen
from torch_backprop.spec import Draw, LayerSpec, case


class CosineRule(Rule):
    """Saves x1 and x2; y and the lengths are computed again."""

    autocast = {"cuda": FLOAT32}

    @staticmethod
    def forward(x1: Tensor, x2: Tensor, dim: int, eps: float) -> Tensor:
        return F.cosine_similarity(x1, x2, dim, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x1, x2, ctx.dim, ctx.eps = inputs
        save(ctx, x1, x2)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x1, x2 = ctx.saved_tensors
        g = widen(grad_y).unsqueeze(ctx.dim)
        needs_x1, needs_x2, *_ = ctx.needs_input_grad
        grad_x1 = sum_to(_slope(ctx, x1, x2, g), x1.shape).to(x1.dtype) if needs_x1 else None
        grad_x2 = sum_to(_slope(ctx, x2, x1, g), x2.shape).to(x2.dtype) if needs_x2 else None
        return grad_x1, grad_x2, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x1: Tensor | None, tangent_x2: Tensor | None, *_: None) -> Tensor:
        x1, x2 = ctx.saved_tensors
        terms: list[Tensor] = []
        if tangent_x1 is not None:
            terms.append(_slope(ctx, x1, x2, 1) * tangent_x1)
        if tangent_x2 is not None:
            terms.append(_slope(ctx, x2, x1, 1) * tangent_x2)
        return sum(terms[1:], terms[0]).sum(ctx.dim).to(torch.promote_types(x1.dtype, x2.dtype))


def _slope(ctx: Any, x: Tensor, other: Tensor, g: Tensor | int) -> Tensor:
    """g dy/dx, in differentiable operators."""
    x, other = torch.broadcast_tensors(widen(x), widen(other))
    n, m = _lengths(x, ctx.dim, ctx.eps)
    _, other_m = _lengths(other, ctx.dim, ctx.eps)
    # torch's own order: of short parallel vectors the two terms cancel to their rounding
    turned = other / other_m * g
    grown = (turned * ((x / m) / m)).sum(ctx.dim, keepdim=True)
    # the zero vector has no direction in which its length grows
    # x first: where two operands lie differently in memory, the result lies as the first
    return x * -torch.where(n == 0, 0, grown / torch.where(n == 0, 1, n)) + turned / m


def _lengths(x: Tensor, dim: int, eps: float) -> tuple[Tensor, Tensor]:
    """n and m."""
    n = torch.linalg.vector_norm(x, 2, dim, keepdim=True)
    # detached: where the bound holds the derivative is that of n still
    return n, n + (eps - n).clamp(min=0).detach()


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (|x1| |x2|) along ``dim``; as :func:`torch.nn.functional.cosine_similarity`.

    Args:
        x1: ``(*)``.
        x2: ``(*)``, broadcastable with the first.
        dim: a dimension of the two broadcast together, which the output lacks.
        eps: the least length, in the inputs' unit.

    Returns:
        A number between -1 and 1 for each pair.

    Raises:
        IndexError: ``dim`` is out of range, in torch's words.
        RuntimeError: shapes or dtypes that do not fit, in torch's words.
    """
    common = torch.promote_types(x1.dtype, x2.dtype)
    if common.is_floating_point or common.is_complex:
        # whole numbers have no length
        x1, x2 = (x if x.is_floating_point() or x.is_complex() else x.to(common) for x in (x1, x2))
    # of one without a gradient torch keeps it divided by its length
    x1, x2 = (x if wanted(x) else private(x, other) for x, other in ((x1, x2), (x2, x1)))
    return CosineRule.call(x1, x2, dim, eps)


class CosineSimilarity(torch.nn.CosineSimilarity):
    """Drop-in for :class:`torch.nn.CosineSimilarity`."""

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Maps ``(*, D, *)`` and ``(*, D, *)`` to ``(*, *)``."""
        return cosine_similarity(x1, x2, self.dim, self.eps)


SPECS = (
    LayerSpec(
        CosineSimilarity,
        torch.nn.CosineSimilarity,
        (
            case((3, 4), Draw((3, 4), "unit")),
            case((2, 3, 4), Draw((3, 4), "unit"), dim=-2),
            case((3, 4), Draw((3, 4), "unit"), eps=2.0),
            case((5,), Draw((5,), "unit"), dim=0),
        ),
    ),
)
