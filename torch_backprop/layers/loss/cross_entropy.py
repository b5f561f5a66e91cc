"""Cross entropy with class indices or class probabilities.

Over the C classes c of sample i with target class t, class weights w (or 1), label smoothing e,
q_c = log softmax(x)_c, p = exp(q), and u_i what reaches the sample's loss: g_i, or g, or g / sum_i w_t:

    forward   l_i = -sum_c a_c q_c        a_c = (1 - e) w_t [c = t] + e w_c / C
    backward  dL/dx_k = u_i (p_k sum_c a_c - a_k)

since d q_c / d x_k = [c = k] - p_k (the last source, eq. 4.106). With class probabilities t_c,
a_c = w_c ((1 - e) t_c + e / C), the mean is over samples, and dL/dt_c = -u_i (1 - e) w_c q_c. Ignored samples
have u_i = 0.

Sources: Good (1952); Bridle (1990); Szegedy et al. (2016), arXiv:1512.00567, section 7 (label smoothing);
Bishop (2006), "Pattern recognition and machine learning", eqs. 4.106-4.109.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.elementwise import TILE
from torch_backprop.layers.loss.reduction import REDUCTIONS, reduced, resolve, spread
from torch_backprop.layers.loss.samples import Samples, along_classes
from torch_backprop.rule import (
    FLOAT32,
    Rule,
    autocasts,
    first_order,
    is_plain,
    owned,
    private,
    save,
    wanted,
    widen,
)
from torch_backprop.spec import Draw, LayerSpec, case


class CrossEntropyRule(Rule):
    """Class indices. Saves x, t and w.

    Tile by tile p costs one pass to compute again, and forwards as backwards there is no other tensor of the
    size of x than the gradient.
    """

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def forward(
        x: Tensor, t: Tensor, w: Tensor | None, reduction: str, ignore_index: int, smoothing: float
    ) -> Tensor:
        large = x.numel() > 2 * TILE and x.dim() > 1 and is_plain(x)
        if not smoothing and not large:
            q = torch.log_softmax(widen(x), min(1, x.dim() - 1))
            w = None if w is None else w.to(q.dtype)
            loss = F.nll_loss(q, t, w, ignore_index=ignore_index, reduction=reduction)
            return owned(loss.to(x.dtype))
        F.nll_loss(x, t, w, ignore_index=ignore_index, reduction="none")  # torch's checks, in torch's words
        samples = Samples.of(widen(x), t, w, ignore_index)
        parts = samples.tiles(x, t) if large else ((samples, x, (t,)),)
        losses = [
            _losses(tile, logits, t_tile, w, ignore_index, smoothing).reshape(-1)
            for tile, logits, (t_tile,) in parts
        ]
        loss = reduced(torch.cat(losses).reshape(t.shape), reduction, samples.weights.sum())
        return owned(loss.to(x.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, t, w, ctx.reduction, ctx.ignore_index, ctx.smoothing = inputs
        save(ctx, x, t, w)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, t, w = ctx.saved_tensors
        samples = Samples.of(widen(x), t, w, ctx.ignore_index)
        u = samples.upstream(widen(grad_y), ctx.reduction)
        # tiles of whole samples: without a dimension of samples there is nothing to cut
        if x.numel() > 2 * TILE and x.dim() > 1 and first_order(grad_y, x):
            grad_x = torch.empty_like(x)
            for tile, logits, (u_tile, grad_tile) in samples.tiles(x, u, grad_x):
                grad_tile.copy_(_gradient(tile, logits, w, u_tile, ctx.smoothing))
        else:
            grad_x = _gradient(samples, x, w, u, ctx.smoothing).to(x.dtype)
        return grad_x, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: Any, tangent_w: Tensor | None, *__: Any) -> Tensor:
        x, t, w = ctx.saved_tensors
        samples = Samples.of(widen(x), t, w, ctx.ignore_index)
        # the pullback of ones has the slope of every sample, which the tangent only sums
        slopes = _gradient(samples, x, w, samples.valid.to(samples.weights.dtype), ctx.smoothing)
        tangents = (slopes * tangent_x).sum(samples.dim)

        def q() -> Tensor:
            return torch.log_softmax(widen(x), samples.dim)

        return samples.push(tangents, q, w, tangent_w, ctx.reduction, ctx.smoothing).to(x.dtype)


class SoftCrossEntropyRule(Rule):
    """Class probabilities. Saves x, and t and w if the needed gradients multiply them."""

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def forward(x: Tensor, t: Tensor, w: Tensor | None, reduction: str, smoothing: float) -> Tensor:
        return F.cross_entropy(x, t, w, reduction=reduction, label_smoothing=smoothing)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, t, w, ctx.reduction, ctx.smoothing = inputs
        ctx.dim = min(1, x.dim() - 1)
        ctx.samples = x.numel() // x.shape[ctx.dim] if x.numel() else 0
        needs_x, needs_t, needs_w = ctx.needs_input_grad[:3]
        # with a fixed target, t and w are the caller's anyway; with a learned one they may not be
        ctx.save_for_backward(x, t if needs_x or needs_w else None, w if needs_x or needs_t else None)
        ctx.save_for_forward(x, t, w)
        ctx.t_dtype, ctx.w_dtype = t.dtype, None if w is None else w.dtype

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, t, w = ctx.saved_tensors
        needs_x, needs_t, needs_w = ctx.needs_input_grad[:3]
        q = torch.log_softmax(widen(x), ctx.dim)
        weights = 1 if w is None else along_classes(w, q.dim())
        u = spread(widen(grad_y), ctx.reduction, ctx.samples)
        u = u if ctx.reduction != "none" else u.unsqueeze(ctx.dim)
        grad_x = grad_t = grad_w = None
        if needs_x:
            a = weights * _smoothed(ctx, t)
            grad_x = (u * (q.exp() * a.sum(ctx.dim, keepdim=True) - a)).to(x.dtype)
        if needs_t:
            grad_t = (-u * (1 - ctx.smoothing) * weights * q).to(ctx.t_dtype)
        if needs_w:
            by_class = (-u * _smoothed(ctx, t) * q).transpose(0, ctx.dim)
            grad_w = by_class.reshape(q.shape[ctx.dim], -1).sum(1).to(ctx.w_dtype)
        return grad_x, grad_t, grad_w, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, t, w = ctx.saved_tensors
        tangent_x, tangent_t, tangent_w, *_ = tangents
        q = torch.log_softmax(x, ctx.dim)
        weights, smoothed = 1 if w is None else along_classes(w, q.dim()), _smoothed(ctx, t)
        terms = torch.zeros_like(q)
        if tangent_x is not None:
            a = weights * smoothed
            terms = terms + (q.exp() * a.sum(ctx.dim, keepdim=True) - a) * tangent_x
        if tangent_t is not None:
            terms = terms - (1 - ctx.smoothing) * weights * q * tangent_t
        if tangent_w is not None:
            terms = terms - smoothed * q * along_classes(tangent_w, q.dim())
        return reduced(terms.sum(ctx.dim), ctx.reduction, ctx.samples)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-sum_c t_c log softmax(x)_c; as :func:`torch.nn.functional.cross_entropy`.

    Args:
        input: logits ``(N, C, *)`` or ``(C)``.
        target: class indices ``(N, *)`` or ``()``, or class probabilities of the shape of the input.
        weight: ``(C)``; differentiable with class probabilities only.
        size_average: deprecated.
        ignore_index: the class index that counts for nothing.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over the weights of the targets; over samples with probabilities)
            or ``"sum"``.
        label_smoothing: the part of the target, in [0, 1], spread evenly over the classes.

    Returns:
        ``()``, or ``(N, *)`` without a reduction; in nats.

    Raises:
        IndexError: a target that is no class, in torch's words.
        RuntimeError: shapes or dtypes that do not fit, a label smoothing outside [0, 1], or a weight that
            requires a gradient with class indices, in torch's words.
        ValueError: an unknown reduction, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    soft = target.shape == input.shape
    # what torch refuses, it refuses itself, in its own words
    refused = ignore_index >= 0 if soft else wanted(weight) or _mixed(input, weight)
    refused = refused or reduction not in REDUCTIONS or not 0 <= label_smoothing <= 1
    if refused or input.dim() == 0 or not input.is_floating_point():
        return F.cross_entropy(input, target, weight, None, ignore_index, None, reduction, label_smoothing)
    # torch keeps log softmax, and smoothed targets
    input = private(input, target, weight)
    if soft:
        target = private(target, input, weight) if label_smoothing else target
        return SoftCrossEntropyRule.call(input, target, weight, reduction, label_smoothing)
    return CrossEntropyRule.call(input, target, weight, reduction, ignore_index, label_smoothing)


def _mixed(x: Tensor, w: Tensor | None) -> bool:
    # autocast makes them one dtype
    return w is not None and w.dtype != x.dtype and not autocasts(x.device.type)


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """Drop-in for :class:`torch.nn.CrossEntropyLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` and ``(N, *)`` or ``(N, C, *)`` to ``()``, or ``(N, *)`` without a reduction."""
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


def _losses(
    samples: Samples, x: Tensor, t: Tensor, w: Tensor | None, ignore_index: int, smoothing: float
) -> Tensor:
    q = torch.log_softmax(widen(x), samples.dim)
    w = None if w is None else w.to(q.dtype)
    losses = F.nll_loss(q, t, w, ignore_index=ignore_index, reduction="none")
    return samples.smoothed(losses, q, w, smoothing)


def _gradient(samples: Samples, x: Tensor, w: Tensor | None, u: Tensor, smoothing: float) -> Tensor:
    """u_i (p_k sum_c a_c - a_k), in differentiable operators."""
    p = torch.softmax(widen(x), samples.dim)
    column = samples.weights * u
    if not smoothing:
        return samples.scatter(p * column.unsqueeze(samples.dim), -column)
    share = smoothing / x.shape[samples.dim]
    column = (1 - smoothing) * column
    row = column + u * (smoothing if w is None else w.sum() * share)
    even = share if w is None else along_classes(w, x.dim()) * share
    grad_x = p * row.unsqueeze(samples.dim) - even * u.unsqueeze(samples.dim)
    return samples.scatter(grad_x, -column)


def _smoothed(ctx: Any, t: Tensor) -> Tensor:
    return (1 - ctx.smoothing) * t + ctx.smoothing / t.shape[ctx.dim]


def _classes(*shape: int) -> Draw:
    return Draw(shape, "classes", 4)


SPECS = (
    LayerSpec(
        CrossEntropyLoss,
        torch.nn.CrossEntropyLoss,
        (
            case((6, 4), _classes(6)),
            case((6, 4), _classes(6), weight=Draw((4,), "unit"), ignore_index=1, label_smoothing=0.2),
            case((2, 4, 3), _classes(2, 3), reduction="none", label_smoothing=0.1),
            case((4,), _classes(), reduction="sum"),
            case((6, 4), Draw((6, 4), "probabilities"), weight=Draw((4,), "unit"), label_smoothing=0.1),
            case((2, 4, 3), Draw((2, 4, 3), "probabilities"), reduction="none"),
        ),
        large=case((1024, 4096), Draw((1024,), "classes", 4096)),
    ),
)
