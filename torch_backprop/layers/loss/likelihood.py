"""Negative log-likelihood of class indices. Good (1952), "Rational decisions".

Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 6.12.

Of sample i with target class t, class weights w (or 1), and u_i what reaches the sample's loss: g_i, or g, or
g / sum_i w_t; 0 for ignored samples:

    forward   l_i = -w_t x_t
    backward  dL/dx_c = -u_i w_t [c = t]

since the loss is one entry of x, to which alone the gradient goes.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import deprecated

from torch_backprop.layers.loss.reduction import resolve
from torch_backprop.layers.loss.samples import Samples
from torch_backprop.rule import FLOAT32, Rule, first_order, owned, wanted, widen
from torch_backprop.spec import Draw, LayerSpec, case


class NLLLossRule(Rule):
    """Saves t and w; of x only the shape matters.

    Returns ``(loss, link)``. The empty link ties the gradient to x, so that its second derivative is zero,
    as in torch, and not missing.
    """

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def forward(
        x: Tensor, t: Tensor, w: Tensor | None, reduction: str, ignore_index: int
    ) -> tuple[Tensor, Tensor]:
        loss = F.nll_loss(x, t, w, ignore_index=ignore_index, reduction=reduction)
        return owned(loss), loss.new_zeros(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, t, w, ctx.reduction, ctx.ignore_index = inputs
        ctx.shape, ctx.dtype = x.shape, x.dtype
        # as many for both, since vmap has one list of their dimensions
        ctx.save_for_backward(t, w, output[1], None)
        ctx.save_for_forward(t, w, output[1], x)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        t, w, link, _ = ctx.saved_tensors
        samples = Samples.like(len(ctx.shape), widen(grad_y).dtype, t, w, ctx.ignore_index)
        column = -samples.weights * samples.upstream(widen(grad_y), ctx.reduction)
        # of a sample only the entry of its target counts
        zeros = torch.zeros(ctx.shape, dtype=column.dtype, device=column.device)
        grad_x = samples.scatter(zeros, column, inplace=first_order(grad_y, t)).to(ctx.dtype)
        return grad_x + link.sum() if torch.is_grad_enabled() else grad_x, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: Any, tangent_w: Tensor | None, *__: Any) -> tuple[Tensor, Tensor]:
        t, w, link, x = ctx.saved_tensors
        samples = Samples.of(tangent_x, t, w, ctx.ignore_index)
        tangents = -samples.weights * samples.gather(tangent_x)
        return samples.push(tangents, lambda: x, w, tangent_w, ctx.reduction), torch.zeros_like(link)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of the target; as :func:`torch.nn.functional.nll_loss`.

    Args:
        input: log-probabilities ``(N, C, *)`` or ``(C)``.
        target: class indices ``(N, *)`` or ``()``.
        weight: ``(C)``; not differentiable.
        size_average: deprecated.
        ignore_index: the target that counts for nothing.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over the weights of the targets) or ``"sum"``.

    Returns:
        ``()``, or ``(N, *)`` without a reduction; in nats.

    Raises:
        IndexError: a target that is no class, in torch's words.
        RuntimeError: shapes that do not fit, or a weight that requires a gradient, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    # torch refuses it, in its own words
    if wanted(weight):
        return F.nll_loss(input, target, weight, ignore_index=ignore_index, reduction=reduction)
    return NLLLossRule.call(input, target, weight, reduction, ignore_index)[0]


class NLLLoss(torch.nn.NLLLoss):
    """Drop-in for :class:`torch.nn.NLLLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` and ``(N, *)`` to ``()``, or ``(N, *)`` without a reduction."""
        return nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


with warnings.catch_warnings():
    # of a class derived from it, too, torch warns; our user derives none
    warnings.simplefilter("ignore", FutureWarning)

    WORDS = torch.nn.NLLLoss2d.__deprecated__  # pyright: ignore[reportAttributeAccessIssue]

    @deprecated(WORDS, category=FutureWarning)
    class NLLLoss2d(torch.nn.NLLLoss2d):
        """Drop-in for :class:`torch.nn.NLLLoss2d`, as which it is deprecated: use ``NLLLoss``."""

        forward = NLLLoss.forward


SPECS = (
    LayerSpec(
        NLLLoss,
        torch.nn.NLLLoss,
        (
            case((6, 4), Draw((6,), "classes", 4)),
            case((6, 4), Draw((6,), "classes", 4), weight=Draw((4,), "unit"), ignore_index=1),
            case((2, 4, 3), Draw((2, 3), "classes", 4), reduction="none"),
            case((4,), Draw((), "classes", 4), weight=Draw((4,), "unit"), reduction="sum"),
        ),
        large=case((1024, 4096), Draw((1024,), "classes", 4096)),
    ),
    LayerSpec(
        NLLLoss2d,
        torch.nn.NLLLoss2d,
        (case((2, 3, 4), Draw((2, 4), "classes", 3), ignore_index=0),),
        large=case((64, 16, 32, 32), Draw((64, 32, 32), "classes", 16)),
    ),
)
