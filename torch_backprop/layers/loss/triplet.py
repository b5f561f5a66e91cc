"""Triplet losses: an anchor should be nearer to a positive example than to a negative one, by a margin m.

With distances p of the anchor to the positive, n to the negative, s of positive to negative, and u what
reaches each triplet's loss:

    forward   l = max(0, m + p - n)            with swap n is min(n, s)
    backward  dL/dp = u [m + p - n >= 0]       dL/dn = -dL/dp

since a hinge has the slope of its inside; at the kink torch takes that too. With swap the lesser of n and s
has the gradient, or each a half. The distances are rules of their own. Schroff, Kalenichenko & Philbin
(2015), arXiv:1503.03832, eq. 3; Balntas et al. (2016), BMVC (swap).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.distance.pairwise import distance, pairwise_distance
from torch_backprop.layers.loss.pointwise import DifferenceRule, pointwise
from torch_backprop.layers.loss.reduction import REDUCTIONS, resolve, whole
from torch_backprop.spec import LayerSpec, case

Distance = Callable[[Tensor, Tensor], Tensor]


def _triplet(p: Tensor, n: Tensor, margin: float, reduction: str) -> Tensor:
    return whole((margin + p - n).clamp(min=0), reduction)


def _swapped_triplet(p: Tensor, n: Tensor, s: Tensor, margin: float, reduction: str) -> Tensor:
    return _triplet(p, torch.minimum(n, s), margin, reduction)


def _open(u: Tensor, p: Tensor, n: Tensor, margin: float) -> Tensor:
    # at the kink the side where the loss is not zero, as clamp has it
    return torch.where(margin + p - n >= 0, u, 0)


def _share(u: Tensor, n: Tensor, s: Tensor) -> Tensor:
    """What n has of the gradient of min(n, s)."""
    # at a tie the slope of torch.minimum, which shares it
    return torch.where(n == s, u / 2, torch.where(n < s, u, 0))


def _hinge(h: Tensor, reduction: str) -> Tensor:
    return whole(h.clamp(min=0), reduction)


HingeRule = pointwise(_hinge, {}, h=lambda u, h: torch.where(h >= 0, u, 0))
TripletRule = pointwise(
    _triplet,
    {},
    p=_open,
    n=lambda u, p, n, margin: -_open(u, p, n, margin),
)
SwappedTripletRule = pointwise(
    _swapped_triplet,
    {},
    p=lambda u, p, n, s, margin: _open(u, p, torch.minimum(n, s), margin),
    n=lambda u, p, n, s, margin: -_share(_open(u, p, torch.minimum(n, s), margin), n, s),
    s=lambda u, p, n, s, margin: -_share(_open(u, p, torch.minimum(n, s), margin), s, n),
)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(a, p) - d(a, n)); as :func:`torch.nn.functional.triplet_margin_loss`.

    Args:
        anchor: ``(N, D)`` or ``(D)``.
        positive: ``(N, D)`` or ``(D)``.
        negative: ``(N, D)`` or ``(D)``.
        margin: positive, in the inputs' unit.
        p: the order of the norm.
        eps: added to each component of a difference.
        swap: whether the negative may be compared with the positive instead.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over triplets) or ``"sum"``.

    Returns:
        ``()``, or ``(N)`` without a reduction; in the inputs' unit.

    Raises:
        RuntimeError: different numbers of dimensions, in torch's words.
        ValueError: a margin that is not positive, or an unknown reduction, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    # what torch refuses, it refuses itself, in its own words
    if margin <= 0 or not anchor.dim() == positive.dim() == negative.dim() != 0:
        return F.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=reduction)

    def measured(a: Tensor, b: Tensor) -> Tensor:
        return distance(DifferenceRule.call(a, b), p, eps)

    return _of_distances(measured, anchor, positive, negative, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Distance | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(a, p) - d(a, n)); as torch's ``triplet_margin_with_distance_loss``.

    Args:
        anchor: ``(N, *)``.
        positive: ``(N, *)``.
        negative: ``(N, *)``.
        distance_function: maps two inputs to ``(N)``; by default :func:`pairwise_distance`.
        margin: positive, in the unit of the distance.
        swap: whether the negative may be compared with the positive instead.
        reduction: ``"none"``, ``"mean"`` (over triplets) or ``"sum"``.

    Returns:
        ``()``, or ``(N)`` without a reduction; in the unit of the distance.

    Raises:
        RuntimeError: different numbers of dimensions, in torch's words.
        ValueError: a margin that is not positive, or an unknown reduction, in torch's words.
    """
    # what torch refuses, it refuses itself, in its own words
    alike = anchor.dim() == positive.dim() == negative.dim()
    if margin <= 0 or not alike or reduction not in REDUCTIONS:
        return F.triplet_margin_with_distance_loss(
            anchor, positive, negative, margin=margin, swap=swap, reduction=reduction
        )
    if distance_function is None or swap:
        measured = distance_function or pairwise_distance
        return _of_distances(measured, anchor, positive, negative, margin, swap, reduction)
    # two distances that nothing else may hold are more than the one number that is clamped
    h = margin + distance_function(anchor, positive) - distance_function(anchor, negative)
    return HingeRule.call(h, reduction)


class TripletMarginLoss(torch.nn.TripletMarginLoss):
    """Drop-in for :class:`torch.nn.TripletMarginLoss`."""

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Maps ``(N, D)``, ``(N, D)`` and ``(N, D)`` to ``()``, or ``(N)`` without a reduction."""
        return triplet_margin_loss(
            anchor,
            positive,
            negative,
            self.margin,
            self.p,
            self.eps,
            self.swap,
            reduction=self.reduction,
        )


class TripletMarginWithDistanceLoss(torch.nn.TripletMarginWithDistanceLoss):
    """Drop-in for :class:`torch.nn.TripletMarginWithDistanceLoss`."""

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Maps ``(N, *)``, ``(N, *)`` and ``(N, *)`` to ``()``, or ``(N)`` without a reduction."""
        return triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=_ours(self.distance_function),
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )


def _ours(measured: Any) -> Distance | None:
    """The constructor's default, which is the built-in layer, by hand."""
    if type(measured) is not torch.nn.PairwiseDistance:
        return measured
    layer: Any = measured
    return lambda a, b: pairwise_distance(a, b, layer.norm, layer.eps, layer.keepdim)


def _of_distances(
    measured: Distance,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    p, n = measured(anchor, positive), measured(anchor, negative)
    if not swap:
        return TripletRule.call(p, n, margin, reduction)
    return SwappedTripletRule.call(p, n, measured(positive, negative), margin, reduction)


SPECS = (
    LayerSpec(
        TripletMarginLoss,
        torch.nn.TripletMarginLoss,
        (
            case((6, 4), (6, 4), (6, 4)),
            case((6, 4), (6, 4), (6, 4), swap=True, p=1.0, margin=0.5, reduction="none"),
            case((4,), (4,), (4,), eps=0.1, reduction="sum"),
        ),
    ),
    LayerSpec(
        TripletMarginWithDistanceLoss,
        torch.nn.TripletMarginWithDistanceLoss,
        (
            case((6, 4), (6, 4), (6, 4)),
            case(
                (6, 4),
                (6, 4),
                (6, 4),
                distance_function=F.cosine_similarity,
                swap=True,
                margin=0.5,
                reduction="none",
            ),
            case((2, 3, 2), (2, 3, 2), (2, 3, 2), distance_function=F.cosine_similarity),
        ),
    ),
)
