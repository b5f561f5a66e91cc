"""Adaptive log-softmax. Grave et al. (2017), arXiv:1609.04309, section 4.

Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 3.6 (the product) and 6.46 (the transpose).

The head gives logits for the frequent classes and one for each cluster of rarer ones; a cluster's own logits
come from a narrow projection of the input. With a target in the head, or in place r of cluster k:

    forward   y = log softmax(head x)_t     or     log softmax(head x)_k + log softmax(w_k p_k x)_r
              L = -mean y
    backward  -dy/dz_c = softmax(z)_c - [c = t]     for the logits z of either term and its target t
              dL/dx is the sum of the head's, and of each cluster's in the rows that it took

A sample visits one cluster only. Both terms are cross entropies, which save no logarithms of probabilities,
and their gradients are those of :mod:`linear` and :mod:`cross_entropy`. The one non-obvious step: to select a
cluster's samples is a linear map, whose transpose puts the gradient back into the rows that were taken, and 0
into the others.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.adaptive import _ASMoutput as _Output

from torch_backprop.layers.linear import linear
from torch_backprop.layers.loss.cross_entropy import cross_entropy
from torch_backprop.layers.softmax import log_softmax
from torch_backprop.rule import Rule, autocasts, is_plain, is_traced, save
from torch_backprop.spec import Draw, LayerSpec, case


class TakeRule(Rule):
    """The rows ``i`` of x, which are different. Saves i."""

    @staticmethod
    def forward(x: Tensor, i: Tensor) -> Tensor:
        return x.index_select(0, i)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        x, i = inputs
        ctx.rows = x.shape[0]
        save(ctx, i)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        (i,) = ctx.saved_tensors
        return PutRule.call(grad_y, i, ctx.rows), None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, _: None) -> Tensor:
        (i,) = ctx.saved_tensors
        return TakeRule.call(tangent_x, i)


class PutRule(Rule):
    """x as the rows ``i`` of ``rows``, which are 0 elsewhere: the transpose of :class:`TakeRule`. Saves i."""

    @staticmethod
    def forward(x: Tensor, i: Tensor, rows: int) -> Tensor:
        # copied, not added: no row is taken twice
        return x.new_zeros(rows, *x.shape[1:]).index_copy(0, i, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.rows = inputs[2]
        save(ctx, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None, None]:
        (i,) = ctx.saved_tensors
        return TakeRule.call(grad_y, i), None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: None) -> Tensor:
        (i,) = ctx.saved_tensors
        return PutRule.call(tangent_x, i, ctx.rows)


class AdaptiveLogSoftmaxWithLoss(torch.nn.AdaptiveLogSoftmaxWithLoss):
    """Drop-in for :class:`torch.nn.AdaptiveLogSoftmaxWithLoss`."""

    def forward(self, input_: Tensor, target_: Tensor) -> Any:
        """Maps ``(N, in_features)`` and ``(N)`` to the log-probabilities ``(N)`` and the loss ``()``."""
        # what torch refuses, it refuses itself, in its own words
        if not self._fits(input_, target_) or self._mixes(input_, target_):
            return super().forward(input_, target_)
        input, target = (input_, target_) if target_.dim() else (input_.unsqueeze(0), target_.unsqueeze(0))
        dense = _cannot_branch()
        in_head, output = target, 0
        for k, (low, high) in enumerate(pairwise(self.cutoffs)):
            within = (target >= low) & (target < high)
            in_head = torch.where(within, self.shortlist_size + k, in_head)
            if dense:
                losses = self._losses(k, input, torch.where(within, target - low, 0))
                output = output - torch.where(within, losses, 0)
            else:
                rows = within.nonzero().squeeze(1)
                if len(rows):
                    losses = self._losses(k, TakeRule.call(input, rows), target[rows] - low)
                    output = output - PutRule.call(losses, rows, len(target))
        head = linear(input, self.head.weight, self.head.bias)
        output = (output - cross_entropy(head, in_head, reduction="none")).to(input.dtype)
        return _Output(output if target_.dim() else output.squeeze(0), (-output).mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """Maps ``(N, in_features)`` to the log-probabilities of all classes ``(N, n_classes)``."""
        head = log_softmax(linear(input, self.head.weight, self.head.bias), 1)
        parts = [head[:, : self.shortlist_size]]
        for k in range(self.n_clusters):
            of_cluster = head[:, self.shortlist_size + k].unsqueeze(1)
            parts.append(log_softmax(self._logits(k, input), 1) + of_cluster)
        return torch.cat(parts, 1)

    def _logits(self, k: int, x: Tensor) -> Tensor:
        project, classify = self.tail[k]  # pyright: ignore[reportGeneralTypeIssues]
        return linear(linear(x, project.weight), classify.weight)

    def _losses(self, k: int, x: Tensor, place: Tensor) -> Tensor:
        return cross_entropy(self._logits(k, x), place, reduction="none")

    def _fits(self, x: Tensor, t: Tensor) -> bool:
        if t.dim() > 1 or x.dim() != t.dim() + 1 or (t.dim() and len(x) != len(t)) or t.is_meta:
            return False
        if _cannot_branch():
            return True
        return is_plain(t) and t.dtype == torch.int64 and bool(((t >= 0) & (t < self.n_classes)).all())

    def _mixes(self, x: Tensor, t: Tensor) -> bool:
        """Whether torch would write what autocast made of a cluster into a tensor of the input's dtype."""
        device = x.device.type
        if not autocasts(device) or x.dtype in (torch.float64, torch.get_autocast_dtype(device)):
            return False
        return _cannot_branch() or bool((t >= self.cutoffs[0]).any())


def _cannot_branch() -> bool:
    """Whether no target may be looked at: in a program that is recorded, and under a transform."""
    return is_traced() or torch._C._are_functorch_transforms_active()


SPECS = (
    LayerSpec(
        AdaptiveLogSoftmaxWithLoss,
        torch.nn.AdaptiveLogSoftmaxWithLoss,
        (
            case((6, 8), Draw((6,), "classes", 9), in_features=8, n_classes=9, cutoffs=[3, 6], div_value=2.0),
            case((8,), Draw((), "classes", 9), in_features=8, n_classes=9, cutoffs=[4], head_bias=True),
        ),
        large=case(
            (4096, 256),
            Draw((4096,), "classes", 10000),
            in_features=256,
            n_classes=10000,
            cutoffs=[1000, 4000],
        ),
    ),
)
