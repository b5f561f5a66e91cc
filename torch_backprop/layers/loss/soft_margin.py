"""Losses of a logit that grow smoothly as it has the wrong sign.

With the sigmoid s, C classes, element weights w (or 1), and u what reaches each element:

    soft margin       forward   l = log(1 + exp(-t x)) = -log s(t x)        t is -1 or 1
                      backward  dL/dx = -u t s(-t x)
    multilabel soft   forward   l = -w (t log s(x) + (1 - t) log s(-x))     t is 0 or 1
                      backward  dL/dx = u w ((1 - t) s(x) - t s(-x))        dL/dt = -u w x

since d log s(x) / dx = s(-x), and log s(x) - log s(-x) = x. A sample's multilabel loss is the mean of l over
its classes. As the logarithm of a sigmoid the first does not overflow; as the logarithm of 1 + exp(-t x),
torch's form, it does.

Bishop (2006), "Pattern recognition and machine learning", eq. 7.48 (the first); Goodfellow, Bengio &
Courville (2016), "Deep Learning", eqs. 3.36-3.41 (the logarithm of a sigmoid).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.loss.pointwise import CAST, pointwise
from torch_backprop.layers.loss.reduction import REDUCTIONS, flagged, resolve, whole
from torch_backprop.rule import private, wanted
from torch_backprop.spec import Draw, LayerSpec, case


def _soft(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    z = -t * x
    if x.is_complex():
        return whole(torch.log1p(torch.exp(z)), reduction)
    # not by logsigmoid, whose output is contiguous even if its input is not
    return whole(torch.logaddexp(z, z.new_zeros(())), reduction)


def _soft_labels(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    return whole(-(t * F.logsigmoid(x) + (1 - t) * F.logsigmoid(-x)), reduction)


def _weighted_soft_labels(x: Tensor, t: Tensor, w: Tensor, reduction: str) -> Tensor:
    return whole(_soft_labels(x, t, "none") * w, reduction)


def _slope_of_logit(x: Tensor, t: Tensor) -> Tensor:
    # x first: where two operands lie differently in memory, the result lies as the first
    return torch.sigmoid(x) * (1 - t) - torch.sigmoid(-x) * t


SoftMarginRule = pointwise(
    _soft,
    CAST,
    x=lambda u, x, t: -t * torch.sigmoid(-t * x) * u,
    t=lambda u, x, t: -x * torch.sigmoid(-t * x) * u,
)
SoftLabelsRule = pointwise(
    _soft_labels, {}, x=lambda u, x, t: _slope_of_logit(x, t) * u, t=lambda u, x: -x * u
)
WeightedSoftLabelsRule = pointwise(
    _weighted_soft_labels,
    {},
    x=lambda u, x, t, w: _slope_of_logit(x, t) * w * u,
    t=lambda u, x, w: -x * w * u,
    w=lambda u, x, t: _soft_labels(x, t, "none") * u,
)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-t x)); as :func:`torch.nn.functional.soft_margin_loss`, but without its overflow.

    Args:
        input: scores ``(*)``.
        target: ``(*)`` of -1 and 1; not differentiable.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over elements) or ``"sum"``.

    Returns:
        ``()``, or ``(*)`` without a reduction; in nats.

    Raises:
        RuntimeError: a target that requires a gradient, or is larger than the input, in torch's words.
        ValueError: an unknown reduction, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    fits = torch.broadcast_shapes(input.shape, target.shape) == input.shape
    # torch refuses it, in its own words
    refused = wanted(target) or target.dtype == torch.bool or not fits
    if refused or not (input.is_floating_point() or input.is_complex()):
        return F.soft_margin_loss(input, target, reduction=reduction)
    # as torch, in the input's dtype
    return SoftMarginRule.call(input, target.to(input.dtype), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Mean over classes of the binary cross entropy; as torch's ``multilabel_soft_margin_loss``.

    Args:
        input: logits ``(*, C)``.
        target: ``(*, C)``, between 0 and 1.
        weight: broadcastable with the input, usually ``(C)``.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over samples) or ``"sum"``.

    Returns:
        ``()``, or ``(*)`` without a reduction; in nats.

    Raises:
        ValueError: an unknown reduction, in torch's words.
    """
    reduction = flagged(size_average, reduce, reduction)
    if not wanted(input):  # of an input without a gradient torch keeps its logarithms alone
        input = private(input, target, weight)
    tensors = (input, target) if weight is None else (input, target, weight)
    rule = SoftLabelsRule if weight is None else WeightedSoftLabelsRule
    classes = input.size(input.dim() - 1)
    losses = rule.call(*tensors, "none").sum(input.dim() - 1) / classes
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not valid")
    return whole(losses, reduction)


class SoftMarginLoss(torch.nn.SoftMarginLoss):
    """Drop-in for :class:`torch.nn.SoftMarginLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return soft_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(torch.nn.MultiLabelSoftMarginLoss):
    """Drop-in for :class:`torch.nn.MultiLabelSoftMarginLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*, C)`` and ``(*, C)`` to ``()``, or ``(*)`` without a reduction."""
        return multilabel_soft_margin_loss(input, target, self.weight, reduction=self.reduction)


SPECS = (
    LayerSpec(
        SoftMarginLoss,
        torch.nn.SoftMarginLoss,
        (case((3, 4), Draw((3, 4), "signs")), case((3, 2), Draw((3, 2), "signs"), reduction="none")),
    ),
    LayerSpec(
        MultiLabelSoftMarginLoss,
        torch.nn.MultiLabelSoftMarginLoss,
        (
            case((3, 4), Draw((3, 4), "unit")),
            case((3, 4), Draw((3, 4), "unit"), weight=Draw((4,), "unit"), reduction="sum"),
            case((5,), Draw((5,), "unit"), reduction="none"),
        ),
    ),
)
