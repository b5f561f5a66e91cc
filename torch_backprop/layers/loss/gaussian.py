"""Negative log-likelihood of a normal distribution. Nix & Weigend (1994), ICNN 1, 55-60.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 3.21 (the density).

With d = x - t, variance v, and u what reaches each element:

    forward   l = log(v) / 2 + d^2 / (2 v)
    backward  dL/dx = u d / v = -dL/dt      dL/dv = u (1 - d^2 / v) / (2 v)

since d(1 / v)/dv = -1 / v^2. The variance is bounded below, but its gradient is that at the bound, as if
there were none: a variance that reached it is to leave it again.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.constants import root_two_pi
from torch_backprop.layers.loss.pointwise import pointwise
from torch_backprop.layers.loss.reduction import REDUCTIONS, whole
from torch_backprop.rule import bare, private
from torch_backprop.spec import Draw, LayerSpec, case

NEGATIVE = "var has negative entry/entries"


def _gaussian(d: Tensor, v: Tensor, full: bool, eps: float, reduction: str) -> Tensor:
    v = _clamped(v, eps)
    loss = 0.5 * (torch.log(v) + d.square() / v)
    return whole(loss + math.log(root_two_pi()) if full else loss, reduction)


def _clamped(v: Tensor, eps: float) -> Tensor:
    return v + (eps - v).clamp(min=0).detach()


GaussianRule = pointwise(
    _gaussian,
    {},
    d=lambda u, d, v, eps: d / _clamped(v, eps) * u,
    v=lambda u, d, v, eps: (1 - d.square() / _clamped(v, eps)) / (2 * _clamped(v, eps)) * u,
)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """-log of the normal density at t; as :func:`torch.nn.functional.gaussian_nll_loss`.

    Args:
        input: means ``(*)``.
        target: ``(*)``, or broadcastable with the input.
        var: variances ``(*)``, with at most one dimension of length 1 or without the last one, or a number.
        full: whether to add log(2 pi) / 2.
        eps: the least variance, in the square of the input's unit.
        reduction: ``"none"``, ``"mean"`` (over elements) or ``"sum"``.

    Returns:
        ``()``, or ``(*)`` without a reduction; in nats.

    Raises:
        ValueError: a negative variance or one of another shape, or an unknown reduction, in torch's words.
    """
    if not isinstance(var, Tensor):
        if var < 0:
            raise ValueError(NEGATIVE)
        var = var * torch.ones_like(input)
    elif not var.is_floating_point():
        return F.gaussian_nll_loss(input, target, var, full, eps, reduction)
    else:
        _check_sign(var)
    if var.shape != input.shape:
        var = _broadcastable(var, input.shape)
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not valid")
    # the difference is all that is kept of the input and the target, and torch keeps a clamped variance
    return GaussianRule.call(input - target, private(var, input, target), full, eps, reduction)


class GaussianNLLLoss(torch.nn.GaussianNLLLoss):
    """Drop-in for :class:`torch.nn.GaussianNLLLoss`."""

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float) -> Tensor:
        """Maps ``(*)``, ``(*)`` and ``(*)``, ``(*, 1)`` or a number to ``()``, or ``(*)`` unreduced."""
        return gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


def _check_sign(v: Tensor) -> None:
    # a program that is compiled cannot branch on a number
    if torch.compiler.is_compiling():
        torch.ops.aten._assert_async.msg((v >= 0).logical_or(v.isnan()).all(), NEGATIVE)
    elif torch.any(bare(v) < 0):
        raise ValueError(NEGATIVE)


def _broadcastable(v: Tensor, shape: torch.Size) -> Tensor:
    if shape[:-1] == v.shape:
        return v.unsqueeze(-1)
    # torch's own condition for one dimension of length 1
    if len(shape) != v.dim() or sum(b for a, b in zip(shape, v.shape, strict=True) if a != b) != 1:
        raise ValueError("var is of incorrect size")
    return v


SPECS = (
    LayerSpec(
        GaussianNLLLoss,
        torch.nn.GaussianNLLLoss,
        (
            case((3, 4), (3, 4), Draw((3, 4), "unit")),
            case((3, 4), (3, 4), Draw((3,), "unit"), full=True, reduction="sum"),
            case((3, 4), (3, 4), Draw((3, 1), "unit"), eps=0.3, reduction="none"),
        ),
    ),
)
