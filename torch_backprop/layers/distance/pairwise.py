r"""The distance of two vectors: the p-norm of their difference. Minkowski (1896), "Geometrie der Zahlen".

Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 2.30.

With d = x1 - x2 + e over the components k of a pair, and g = dL/dy:

    forward   y = (sum_k abs(d_k)^p)^(1/p)
    backward  dL/dx1_k = g sign(d_k) abs(d_k)^(p-1) y^(1-p) = -dL/dx2_k

since y^p = sum_k abs(d_k)^p, of which both sides have the factor p in their derivatives. For p = 2 that is
g d_k / y, for p = 1 g sign(d_k). For p = 0, which counts components, it is 0. For p = inf the largest
components share g in equal parts, for p = -inf the smallest. Where y = 0, or where d_k = 0 and p < 1, the
gradient is 0. Over the complex numbers sign(d) is d / abs(d).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.elementwise import TILE, tiles
from torch_backprop.rule import Rule, first_order, save, widen
from torch_backprop.spec import LayerSpec, case


class NormRule(Rule):
    """The p-norm over the last dimension, which is kept. Saves d and y."""

    @staticmethod
    def forward(d: Tensor, p: float) -> Tensor:
        return torch.norm(d, p, dim=d.dim() - 1, keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        d, ctx.p = inputs
        save(ctx, d, output)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, None]:
        d, y = ctx.saved_tensors
        if ctx.p == 0:
            # a number of components: torch's has no gradient either
            return None, None
        if d.numel() <= 2 * TILE or d.dim() == 1 or not first_order(grad_y, d):
            return slope(widen(d), widen(y), ctx.p, widen(grad_y)).to(d.dtype), None
        grad_d = torch.empty_like(d)
        for grad_tile, *parts in tiles(grad_d, d, y, grad_y):
            d_tile, y_tile, g_tile = map(widen, parts)
            grad_tile.copy_(slope(d_tile, y_tile, ctx.p, g_tile))
        return grad_d, None

    @staticmethod
    def jvp(ctx: Any, tangent_d: Tensor, _: None) -> Tensor:
        d, y = ctx.saved_tensors
        slopes = slope(d, y, ctx.p, torch.ones_like(y))
        terms = (slopes.conj() * tangent_d).real if d.is_complex() else slopes * tangent_d
        return terms.sum(-1, keepdim=True)


def slope(d: Tensor, y: Tensor, p: float, g: Tensor, shared: bool = True) -> Tensor:
    """g dy/dd of the p-norm y of d, in differentiable operators.

    Args:
        d: ``(*, M)``.
        y: ``(*, 1)``.
        p: the order of the norm.
        g: ``(*, 1)``.
        shared: whether the components of size y share g when ``p`` is infinite, or each have it.
    """
    if p == 0:
        return torch.zeros_like(d)
    if p == 1:
        return torch.sgn(d) * g
    if abs(p) == math.inf:
        # in numbers, not booleans, which take several times as long
        chosen = d.abs().eq_(y)
        count = chosen.sum(-1, keepdim=True).clamp(min=1) if shared else 1
        return torch.sgn(d) * chosen * (g / count)
    positive = torch.where(y == 0, 1, y)
    if p == 2:
        return d * torch.where(y == 0, 0, g / positive)
    if p > 1 and not torch.is_grad_enabled():
        power = torch.sgn(d) * d.abs() ** (p - 1)
    else:
        # a power of 0 may be infinite, and so may its derivative
        power = torch.where(d == 0, 0, torch.sgn(d) * torch.where(d == 0, 1, d.abs()) ** (p - 1))
    return power * torch.where(y == 0, 0, g * positive ** (1 - p))


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps; as :func:`torch.nn.functional.pairwise_distance`.

    Args:
        x1: ``(N, D)`` or ``(D)``.
        x2: ``(N, D)`` or ``(D)``, broadcastable with the first.
        p: the order of the norm, 0 and infinity among them.
        eps: added to each component, in the inputs' unit, so that equal vectors have a gradient.
        keepdim: whether the last dimension stays, with length 1.

    Returns:
        ``(N)`` or ``()``, or with ``keepdim`` ``(N, 1)`` or ``(1)``; in the inputs' unit.

    Raises:
        RuntimeError: shapes that do not fit, in torch's words.
    """
    return distance(x1 - x2, p, eps, keepdim)


def distance(difference: Tensor, p: float, eps: float, keepdim: bool = False) -> Tensor:
    """The p-norm of the last dimension of ``difference`` plus ``eps``."""
    # torch has the words for what has no dimension
    if not difference.dim() or not (difference.is_floating_point() or difference.is_complex()):
        return torch.pairwise_distance(difference, torch.zeros_like(difference), p, eps, keepdim)
    y = NormRule.call(difference + eps, p)
    return y if keepdim else y.squeeze(-1)


class PairwiseDistance(torch.nn.PairwiseDistance):
    """Drop-in for :class:`torch.nn.PairwiseDistance`."""

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Maps ``(N, D)`` and ``(N, D)`` to ``(N)``, or ``(N, 1)`` with ``keepdim``."""
        return pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


SPECS = (
    LayerSpec(
        PairwiseDistance,
        torch.nn.PairwiseDistance,
        (
            case((3, 4), (3, 4)),
            case((2, 3, 4), (3, 4), p=3.0, keepdim=True),
            case((3, 4), (4,), p=1.0, eps=0.5),
            case((5,), (5,), p=math.inf),
            case((3, 4), (3, 4), p=-math.inf),
            case((3, 4), (3, 4), p=0.5),
        ),
    ),
)
