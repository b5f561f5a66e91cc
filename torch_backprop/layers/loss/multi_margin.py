"""Losses of a margin between the scores of right and wrong classes.

Of one sample with scores x over C classes, class weights w (or 1), and u what reaches the sample's loss:

    multi margin       forward   l = w_t / C sum_{c != t} max(0, z_c)^p          z_c = m - x_t + x_c
      target class t   backward  dL/dx_c = u s_c for c != t          s_c = w_t / C [z_c > 0] p z_c^(p-1)
                                 dL/dx_t = -u sum_c s_c
    multilabel margin  forward   l = 1 / C sum_{t, c} max(0, 1 - x_t + x_c)   over targets t, other classes c
      set of targets   backward  dL/dx_c = u / C count of targets t with x_c > x_t - 1
                                 dL/dx_t = -u / C count of others c with x_c > x_t - 1

since x_t is in every term, and adds up what it gets from each. The counts over all pairs are one binary
search: with the thresholds x_t - 1 sorted, each class passes as many as lie below it, and each threshold is
passed by the classes that pass more than lie below it.

Weston & Watkins (1999), ESANN, 219-224; Elisseeff & Weston (2001), NIPS 14. Goodfellow, Bengio & Courville
(2016), "Deep Learning", eq. 6.45 (the sums in backward).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.elementwise import TILE, tiles
from torch_backprop.layers.loss.pointwise import CAST
from torch_backprop.layers.loss.reduction import reduced, resolve, spread, whole
from torch_backprop.layers.loss.samples import weighted
from torch_backprop.rule import Rule, first_order, is_plain, save, wanted, widen
from torch_backprop.spec import Draw, LayerSpec, case


class MultiMarginRule(Rule):
    """Saves x, t and w; they give the slopes s again in a pass."""

    autocast = CAST

    @staticmethod
    def forward(x: Tensor, t: Tensor, w: Tensor | None, p: int, margin: float, reduction: str) -> Tensor:
        return F.multi_margin_loss(x, t, p, margin, w, reduction=reduction)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, t, w, *ctx.options, ctx.reduction = inputs
        save(ctx, x, t, w)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, t, w = ctx.saved_tensors
        options = (w, *ctx.options)
        grad_x = _pull(ctx, grad_y, x, t.reshape(-1, 1), lambda rows, t: _slopes(rows, t, *options))
        return grad_x, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: Any, tangent_w: Tensor | None, *__: Any) -> Tensor:
        x, t, w = ctx.saved_tensors
        p, margin = ctx.options
        rows, classes = _rows(x), t.reshape(-1, 1)
        tangents = (_slopes(rows, classes, w, p, margin) * _rows(tangent_x)).sum(1)
        if tangent_w is not None:
            # the losses are linear in the class weights, which have no gradient, as in torch
            hinges = torch.relu(rows - rows.gather(1, classes) + margin).scatter(1, classes, 0)
            tangents = tangents + weighted(tangent_w[classes[:, 0]], (hinges**p).mean(1))
        return _reduced(ctx, tangents, t.shape)


class MultiLabelMarginRule(Rule):
    """Saves x and the targets; they give the counts again."""

    autocast = CAST

    @staticmethod
    def forward(x: Tensor, t: Tensor, reduction: str) -> Tensor:
        if torch.compiler.is_compiling():
            # torch's decomposition does not divide by the number of classes
            rows = _rows(x)
            slopes, pairs = _label_slopes(widen(rows), _rows(t))
            losses = (slopes * rows).sum(1) + pairs / rows.shape[1]
            return whole(losses.reshape(x.shape[:-1]), reduction).to(x.dtype)
        loss = F.multilabel_margin_loss(x, t, reduction=reduction if x.numel() else "none")
        # the mean of no samples is not initialized in torch
        return loss if x.numel() or reduction == "none" else loss.sum()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, t, ctx.reduction = inputs
        save(ctx, x, t)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, t = ctx.saved_tensors
        return _pull(ctx, grad_y, x, _rows(t), _slopes_by_labels), None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> Tensor:
        x, t = ctx.saved_tensors
        slopes = _slopes_by_labels(_rows(x), _rows(t))
        return _reduced(ctx, (slopes * _rows(tangent_x)).sum(1), x.shape[:-1])


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Mean over c != t of max(0, margin - x_t + x_c)^p; as :func:`torch.nn.functional.multi_margin_loss`.

    Args:
        input: scores ``(N, C)`` or ``(C)``.
        target: class indices ``(N)`` or ``()``.
        p: 1 or 2.
        margin: in the input's unit.
        weight: ``(C)``; not differentiable.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over samples) or ``"sum"``.

    Returns:
        ``()``, or ``(N)`` without a reduction; in the input's unit to the power of ``p``.

    Raises:
        RuntimeError: shapes that do not fit, a target that is no class, or a weight that requires a
            gradient, in torch's words.
        ValueError: another ``p`` or an unknown reduction, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    # torch refuses it, in its own words
    if wanted(weight):
        return F.multi_margin_loss(input, target, p, margin, weight, reduction=reduction)
    return MultiMarginRule.call(input, target, weight, p, margin, reduction)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Hinges between targets and other classes; as :func:`torch.nn.functional.multilabel_margin_loss`.

    Args:
        input: scores ``(N, C)`` or ``(C)``.
        target: ``(N, C)`` or ``(C)``, rows of class indices up to the first -1.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over samples) or ``"sum"``.

    Returns:
        ``()``, or ``(N)`` without a reduction; in the input's unit. Of no samples the mean is 0.

    Raises:
        RuntimeError: shapes that do not fit or a target that is no class, in torch's words.
        ValueError: an unknown reduction, in torch's words.
    """
    return MultiLabelMarginRule.call(input, target, resolve(size_average, reduce, reduction))


class MultiMarginLoss(torch.nn.MultiMarginLoss):
    """Drop-in for :class:`torch.nn.MultiMarginLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(N, C)`` and ``(N)`` to ``()``, or ``(N)`` without a reduction."""
        return multi_margin_loss(input, target, self.p, self.margin, self.weight, reduction=self.reduction)


class MultiLabelMarginLoss(torch.nn.MultiLabelMarginLoss):
    """Drop-in for :class:`torch.nn.MultiLabelMarginLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(N, C)`` and ``(N, C)`` to ``()``, or ``(N)`` without a reduction."""
        return multilabel_margin_loss(input, target, reduction=self.reduction)


def _rows(x: Tensor) -> Tensor:
    return x if x.dim() == 2 else x.reshape(1, -1)


def _pull(ctx: Any, grad_y: Tensor, x: Tensor, t: Tensor, slopes: Any) -> Tensor:
    """u times ``slopes(x, t)``, tile by tile where that is allowed."""
    rows = _rows(x)
    u = spread(widen(grad_y), ctx.reduction, max(rows.shape[0], 1)).reshape(-1, 1)
    if x.numel() <= 2 * TILE or not first_order(grad_y, x):
        return (slopes(widen(rows), t) * u).to(x.dtype).reshape(x.shape)
    grad = torch.empty_like(rows)
    u = u.expand(rows.shape[0], 1)
    for grad_tile, x_tile, t_tile, u_tile in tiles(grad, rows, t, u):
        grad_tile.copy_(slopes(widen(x_tile), t_tile) * u_tile)
    return grad.reshape(x.shape)


def _reduced(ctx: Any, losses: Tensor, shape: torch.Size) -> Tensor:
    return reduced(losses.reshape(shape), ctx.reduction, max(losses.shape[0], 1))


def _slopes(x: Tensor, t: Tensor, w: Tensor | None, p: int, margin: float) -> Tensor:
    """How a sample's multi margin loss changes with its scores, in differentiable operators."""
    z = x - x.gather(1, t) + margin
    if p == 2:
        slopes = 2 * torch.where(z > 0, z, 0)
    else:
        slopes = (z > 0).to(x.dtype)
        # the second derivative is zero, not missing
        slopes = slopes + 0 * torch.sign(z) if torch.is_grad_enabled() else slopes
    slopes = slopes.scatter(1, t, 0)
    slopes = slopes.scatter(1, t, -slopes.sum(1, keepdim=True))
    return slopes / x.shape[1] if w is None else slopes * (w[t] / x.shape[1])


def _slopes_by_labels(x: Tensor, t: Tensor) -> Tensor:
    return _label_slopes(x, t)[0]


def _label_slopes(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """How a sample's multilabel margin loss changes with its scores, and how many pairs count in it."""
    valid = (t < 0).cumsum(1) == 0
    if is_plain(x) and is_plain(t) and x.numel():
        # the longest list is often short
        longest = max(1, int(valid.sum(1).max()))
        t, valid = t[:, :longest], valid[:, :longest]
    t = torch.where(valid, t, 0)
    is_target = torch.zeros_like(x, dtype=torch.int64).scatter_add(1, t, valid.long()) > 0
    # rounded as torch's (1 - x_t) + x_c > 0
    thresholds = -(1 - x.gather(1, t))
    # a target passes no threshold; what is no number passes none and is passed by none
    thresholds, order = torch.where(valid & ~thresholds.isnan(), thresholds, torch.inf).sort(1)
    passed = torch.searchsorted(thresholds, torch.where(is_target | x.isnan(), -torch.inf, x))
    passers = torch.zeros(x.shape[0], t.shape[1] + 1, dtype=torch.int64, device=x.device)
    passers = passers.scatter_add(1, passed, torch.ones_like(passed))
    # the threshold of rank k is passed by the classes that pass more than k
    passers = x.shape[1] - passers.cumsum(1)[:, :-1]
    slopes = passed.scatter_add(1, t.gather(1, order), -passers).to(x.dtype) / x.shape[1]
    # the second derivative is zero, not missing
    return slopes + 0 * torch.sign(x) if torch.is_grad_enabled() else slopes, passed.sum(1).to(x.dtype)


SPECS = (
    LayerSpec(
        MultiMarginLoss,
        torch.nn.MultiMarginLoss,
        (
            case((6, 4), Draw((6,), "classes", 4)),
            case(
                (6, 4), Draw((6,), "classes", 4), p=2, weight=Draw((4,), "unit"), margin=0.5, reduction="sum"
            ),
            case((4,), Draw((1,), "classes", 4), margin=0.5, reduction="none"),
        ),
    ),
    LayerSpec(
        MultiLabelMarginLoss,
        torch.nn.MultiLabelMarginLoss,
        # of no samples, which every case meets, torch has no mean
        (case((4, 6), Draw((4, 6), "labels"), reduction="none"),),
    ),
)
