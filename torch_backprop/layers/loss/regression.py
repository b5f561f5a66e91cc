"""Losses of a difference: the squared error and the absolute error.

With d = x - t over n elements, element weights w (or 1), and u what reaches each element: g, or g / n, or
g / sum w for a weighted mean.

    mse   forward  l = w d^2       backward  dL/dx = 2 u w d         dL/dt = -dL/dx
    l1    forward  l = w abs(d)    backward  dL/dx = u w sign(d)     dL/dt = -dL/dx

since d abs(d) / dd = sign(d), in torch 0 at d = 0. A weight's gradient is u l / w, less the weighted mean's
own L g / sum w. Complex sign is d / abs(d). Gauss (1809); Laplace (1774); Goodfellow, Bengio & Courville
(2016), "Deep Learning", eqs. 6.14 and 6.16.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.loss.reduction import reduced, resolve, spread, sum_to
from torch_backprop.rule import FLOAT32, Rule, save, widen
from torch_backprop.spec import LayerSpec, case


def _difference_loss_rule(f: Any, value: Any, slope: Any) -> Any:
    """The rule of the loss ``value(d)`` with derivative ``slope(d)``, and the same with weights."""

    class DifferenceLossRule(Rule):
        """Saves x, t and w."""

        autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

        @staticmethod
        def forward(x: Tensor, t: Tensor, w: Tensor | None, reduction: str) -> Tensor:
            return f(x, t, reduction=reduction, weight=w)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            *residuals, ctx.reduction = inputs
            save(ctx, *residuals)

        @staticmethod
        def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
            return _pull(ctx, grad_y, value, slope)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
            return _push(ctx, tangents, value, slope)

    class WeightedDifferenceLossRule(DifferenceLossRule):
        """torch computes weighted losses by ordinary operators, which have no autocast policy."""

        autocast = {}

    return DifferenceLossRule, WeightedDifferenceLossRule


MSE_RULES = _difference_loss_rule(F.mse_loss, torch.square, lambda d: 2 * d)
L1_RULES = _difference_loss_rule(F.l1_loss, torch.abs, torch.sgn)


class SignRule(Rule):
    """The absolute error of real numbers without weights. Saves sign(d), a byte for an element.

    Returns ``(loss, sign, link)``. The empty link ties the gradient to x and t, so that their second
    derivative is zero, as in torch, and not missing.
    """

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def forward(x: Tensor, t: Tensor, reduction: str) -> tuple[Tensor, Tensor, Tensor]:
        # of the difference the derivative needs the sign alone, and a byte holds it
        return F.l1_loss(x, t, reduction=reduction), torch.sign(x - t).to(torch.int8), x.new_zeros(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, t, ctx.reduction = inputs
        ctx.arguments = tuple((tensor.shape, tensor.dtype) for tensor in (x, t))
        ctx.mark_non_differentiable(output[1])
        save(ctx, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        sign, link = ctx.saved_tensors
        grad_d = spread(grad_y, ctx.reduction, sign.numel()) * sign
        # the link is empty, and its sum 0: it adds a way back to x, and no number
        grad_d = grad_d + link.sum() if torch.is_grad_enabled() else grad_d
        grads = (sum_to(grad_d, shape).to(dtype) for shape, dtype in ctx.arguments)
        needs_x, needs_t, _ = ctx.needs_input_grad
        grad_x, grad_t = grads
        return grad_x if needs_x else None, -grad_t if needs_t else None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None, Tensor]:
        sign, link = ctx.saved_tensors
        tangent = reduced(sign * _tangent_of_difference(tangents), ctx.reduction, sign.numel())
        return tangent, None, torch.zeros_like(link)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """The squared error (x - t)^2; as :func:`torch.nn.functional.mse_loss`.

    Args:
        input: ``(*)``.
        target: ``(*)``, or broadcastable with the input, with a warning.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over elements, or over the sum of weights) or ``"sum"``.
        weight: ``(*)``, the shape of the input.

    Returns:
        ``()``, or ``(*)`` without a reduction; in the square of the input's unit.

    Raises:
        ValueError: an unknown reduction, or a weight of another shape, in torch's words.
    """
    rule, weighted_rule = MSE_RULES
    reduction = resolve(size_average, reduce, reduction)
    return (rule if weight is None else weighted_rule).call(input, target, weight, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """The absolute error abs(x - t); as :func:`torch.nn.functional.l1_loss`, arguments as :func:`mse_loss`.

    Returns:
        ``()``, or ``(*)`` without a reduction; in the input's unit.

    Raises:
        ValueError: an unknown reduction, or a weight of another shape, in torch's words.
    """
    rule, weighted_rule = L1_RULES
    reduction = resolve(size_average, reduce, reduction)
    # the sign of a complex number takes more than a byte
    if weight is not None or input.is_complex() or target.is_complex():
        return (rule if weight is None else weighted_rule).call(input, target, weight, reduction)
    return SignRule.call(input, target, reduction)[0]


class MSELoss(torch.nn.MSELoss):
    """Drop-in for :class:`torch.nn.MSELoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return mse_loss(input, target, reduction=self.reduction)


class L1Loss(torch.nn.L1Loss):
    """Drop-in for :class:`torch.nn.L1Loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return l1_loss(input, target, reduction=self.reduction)


def _pull(ctx: Any, grad_y: Tensor, value: Any, slope: Any) -> tuple[Tensor | None, ...]:
    x, t, w = ctx.saved_tensors
    needs_x, needs_t, needs_w, _ = ctx.needs_input_grad
    d = widen(x) - widen(t)
    total = _total(d, w)
    u = spread(widen(grad_y), ctx.reduction, total)
    grad_x = grad_t = grad_w = None
    if needs_x or needs_t:
        grad_d = u * slope(d) if w is None else u * w * slope(d)
        # an argument that was broadcast, or of another dtype, gets its own shape and dtype back
        grad_x = sum_to(grad_d, x.shape).to(x.dtype) if needs_x else None
        grad_t = -sum_to(grad_d, t.shape).to(t.dtype) if needs_t else None
    if w is not None and needs_w:
        # a weight stands in the denominator of the weighted mean too
        mean = (value(d) * w).sum() / total if ctx.reduction == "mean" else 0
        grad_w = sum_to(u * (value(d) - mean), w.shape).to(w.dtype)
    return grad_x, grad_t, grad_w, None


def _push(ctx: Any, tangents: tuple[Tensor | None, ...], value: Any, slope: Any) -> Tensor:
    x, t, w = ctx.saved_tensors
    tangent_w = tangents[2]
    d = x - t
    tangent_d = _tangent_of_difference(tangents)
    tangent = (slope(d).conj() * tangent_d).real if d.is_complex() else slope(d) * tangent_d
    total = _total(d, w)
    tangent = tangent if w is None else tangent * w
    if w is not None and tangent_w is not None:
        mean = (value(d) * w).sum() / total if ctx.reduction == "mean" else 0
        tangent = tangent + (value(d) - mean) * tangent_w
    return reduced(tangent, ctx.reduction, total)


def _tangent_of_difference(tangents: tuple[Tensor | None, ...]) -> Any:
    tangent_x, tangent_t, *_ = tangents
    return (0 if tangent_x is None else tangent_x) - (0 if tangent_t is None else tangent_t)


def _total(d: Tensor, w: Tensor | None) -> Tensor | int:
    return d.numel() if w is None else w.sum()


SPECS = (
    LayerSpec(
        MSELoss,
        torch.nn.MSELoss,
        (case((3, 4), (3, 4)), case((2, 3), (2, 3), reduction="sum"), case((5,), (5,), reduction="none")),
    ),
    LayerSpec(
        L1Loss,
        torch.nn.L1Loss,
        (case((3, 4), (3, 4)), case((2, 3), (2, 3), reduction="sum"), case((), (), reduction="none")),
    ),
)
