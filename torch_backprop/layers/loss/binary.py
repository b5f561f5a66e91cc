"""Binary cross entropy, of probabilities and of logits. Good (1952), "Rational decisions".

With target t, element weights w (or 1), and u what reaches each element's loss:

    of p       forward   l = -w (t log p + (1 - t) log(1 - p))          logarithms not below -100
               backward  dL/dp = u w (p - t) / max(p (1 - p), e)        dL/dt = u w (log(1 - p) - log p)
    of logits  forward   l = -w (v t log s(x) + (1 - t) log s(-x))      s the sigmoid, v pos_weight
               backward  dL/dx = u w ((1 - t) s(x) - v t s(-x))         dL/dt = u w (log s(-x) - v log s(x))

since d log s(x) / dx = s(-x) (Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 3.36-3.37). Both
sigmoids are computed, for 1 - s(x) is 0 long before s(-x) is. Without v the two logarithms of dL/dt differ
by -x. e is torch's 1e-12, a float32 number also in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.constants import least
from torch_backprop.layers.loss.reduction import reduced, resolve, spread, sum_to
from torch_backprop.rule import FLOAT32, Rule, save, wanted, widen
from torch_backprop.spec import Draw, LayerSpec, case


class BinaryLossRule(Rule):
    """Saves p or x, t and the weights."""

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *residuals, ctx.reduction = inputs
        ctx.dtype = output.dtype
        save(ctx, *residuals)


class BCELossRule(BinaryLossRule):
    """Saves p, t and w."""

    @staticmethod
    def forward(p: Tensor, t: Tensor, w: Tensor | None, reduction: str) -> Tensor:
        return F.binary_cross_entropy(p, t, w, reduction=reduction)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        return _pull(ctx, grad_y, saved, _slopes_of_probability(*saved))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        saved = ctx.saved_tensors
        return _push(ctx, tangents, saved, _slopes_of_probability(*saved))


class BCEWithLogitsLossRule(BinaryLossRule):
    """Saves x, t, w and v."""

    @staticmethod
    def forward(x: Tensor, t: Tensor, w: Tensor | None, v: Tensor | None, reduction: str) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, t, w, reduction=reduction, pos_weight=v)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        return _pull(ctx, grad_y, saved, _slopes_of_logit(*saved))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        saved = ctx.saved_tensors
        return _push(ctx, tangents, saved, _slopes_of_logit(*saved))


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log p + (1 - t) log(1 - p)); as :func:`torch.nn.functional.binary_cross_entropy`.

    Args:
        input: probabilities ``(*)``.
        target: ``(*)``, between 0 and 1.
        weight: broadcastable to ``(*)``; not differentiable.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over elements) or ``"sum"``.

    Returns:
        ``()``, or ``(*)`` without a reduction; in nats.

    Raises:
        RuntimeError: an input outside [0, 1], or a weight that requires a gradient, in torch's words.
        ValueError: sizes that differ, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    # torch refuses it, in its own words
    if wanted(weight):
        return F.binary_cross_entropy(input, target, weight, reduction=reduction)
    return BCELossRule.call(input, target, weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Binary cross entropy of sigmoid(x); as :func:`torch.nn.functional.binary_cross_entropy_with_logits`.

    Args:
        input: logits ``(*)``.
        target: ``(*)``, between 0 and 1.
        weight: broadcastable with the input; not differentiable.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over elements) or ``"sum"``.
        pos_weight: weight of positive targets, broadcastable with the input; not differentiable.

    Returns:
        ``()``, or ``(*)`` without a reduction; in nats.

    Raises:
        RuntimeError: a weight that requires a gradient, in torch's words.
        ValueError: sizes that differ, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    if wanted(weight) or wanted(pos_weight):
        return F.binary_cross_entropy_with_logits(
            input, target, weight, reduction=reduction, pos_weight=pos_weight
        )
    return BCEWithLogitsLossRule.call(input, target, weight, pos_weight, reduction)


class BCELoss(torch.nn.BCELoss):
    """Drop-in for :class:`torch.nn.BCELoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(torch.nn.BCEWithLogitsLoss):
    """Drop-in for :class:`torch.nn.BCEWithLogitsLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


Slopes = tuple[Callable[[], Tensor], ...]
"""How an element's loss changes with each of the saved tensors; computed when called."""


def _pull(ctx: Any, grad_y: Tensor, saved: tuple[Any, ...], slopes: Slopes) -> tuple[Tensor | None, ...]:
    u = spread(widen(grad_y), ctx.reduction, _elements(saved))
    grads: list[Tensor | None] = [None for _ in ctx.needs_input_grad]
    for i, (tensor, slope) in enumerate(zip(saved, slopes, strict=True)):
        if ctx.needs_input_grad[i]:
            # the slope first: where two operands lie differently in memory, the result lies as the first
            grads[i] = sum_to(slope() * u, tensor.shape).to(tensor.dtype)
    return tuple(grads)


def _push(ctx: Any, tangents: tuple[Tensor | None, ...], saved: tuple[Any, ...], slopes: Slopes) -> Tensor:
    pairs = zip(tangents, slopes, strict=False)
    terms = [slope() * tangent for tangent, slope in pairs if tangent is not None]
    tangent = torch.stack(torch.broadcast_tensors(*terms)).sum(0)
    return reduced(tangent, ctx.reduction, _elements(saved)).to(ctx.dtype)


def _slopes_of_probability(p: Tensor, t: Tensor, w: Tensor | None) -> Slopes:
    p, t = widen(p), widen(t)
    return (
        lambda: _weighted((p - t) / (p * (1 - p)).clamp(min=least()), w),
        # not bounded by -100 as in forward: neither is torch's
        lambda: _weighted(torch.log1p(-p) - torch.log(p), w),
        lambda: F.binary_cross_entropy(p, t, reduction="none"),
    )


def _slopes_of_logit(x: Tensor, t: Tensor, w: Tensor | None, v: Tensor | None) -> Slopes:
    x, t = widen(x), widen(t)
    # only the positive part is weighed, so that the two terms no longer add up to s(x) - t
    positive = t if v is None else v * t
    return (
        lambda: _weighted((1 - t) * torch.sigmoid(x) - positive * torch.sigmoid(-x), w),
        lambda: _weighted(-x if v is None else F.logsigmoid(-x) - v * F.logsigmoid(x), w),
        lambda: F.binary_cross_entropy_with_logits(x, t, reduction="none", pos_weight=v),
        lambda: _weighted(-t * F.logsigmoid(x), w),
    )


def _weighted(slope: Tensor, w: Tensor | None) -> Tensor:
    return slope if w is None else slope * w


def _elements(tensors: tuple[Tensor | None, ...]) -> int:
    return torch.broadcast_shapes(*(tensor.shape for tensor in tensors if tensor is not None)).numel()


SPECS = (
    LayerSpec(
        BCELoss,
        torch.nn.BCELoss,
        (
            case(Draw((3, 4), "unit"), Draw((3, 4), "unit")),
            case(Draw((3, 4), "unit"), Draw((3, 4), "unit"), weight=Draw((4,), "unit"), reduction="sum"),
            case(Draw((3, 2), "unit"), Draw((3, 2), "unit"), reduction="none"),
        ),
    ),
    LayerSpec(
        BCEWithLogitsLoss,
        torch.nn.BCEWithLogitsLoss,
        (
            case((3, 4), Draw((3, 4), "unit")),
            case((3, 4), Draw((3, 4), "unit"), weight=Draw((4,), "unit"), pos_weight=Draw((4,), "unit")),
            case((3, 2), Draw((3, 2), "unit"), reduction="none"),
        ),
    ),
)
