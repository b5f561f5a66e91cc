"""Losses.

* ``BCELoss`` adds 1e-12 to the denominators of its second derivative.
* ``PoissonNLLLoss`` in full: where Stirling's term counts for nothing, the target's gradient is undefined.
* ``GaussianNLLLoss`` in forward mode differentiates the bound on the variance, in reverse mode it does not.
* ``SoftMarginLoss`` overflows at -t x = 709, in float32 at 88, and its gradient is then undefined.
* ``MultiMarginLoss`` and ``MultiLabelMarginLoss`` have neither a second derivative nor a forward mode.
* ``CosineSimilarity`` in forward mode differentiates the bounds on the lengths, in reverse mode it does not.
* ``CTCLoss`` has neither a second derivative nor a forward mode.
* ``LinearCrossEntropyLoss`` with options has no second derivative, and its forward mode is silently zero.
* ``AdaptiveLogSoftmaxWithLoss`` has no ``jacrev`` of ``jacrev``: it writes in place what is batched.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .table import Corrections


class BCELoss(torch.nn.BCELoss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss = -(target * torch.log(input) + (1 - target) * torch.log1p(-input))
        loss = loss if self.weight is None else loss * self.weight
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[self.reduction]


class PoissonNLLLoss(torch.nn.PoissonNLLLoss):
    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        loss = F.poisson_nll_loss(log_input, target, self.log_input, eps=self.eps, reduction="none")
        if self.full:
            above = torch.where(target <= 1, 1, target)
            stirling = above * above.log() - above + 0.5 * torch.log(2 * math.pi * above)
            loss = loss + torch.where(target <= 1, 0, stirling).to(loss.dtype)
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[self.reduction]


class GaussianNLLLoss(torch.nn.GaussianNLLLoss):
    def forward(self, input: Tensor, target: Tensor, var: Any) -> Tensor:
        if var.is_floating_point():
            var = var + (self.eps - var).clamp(min=0).detach()
        return F.gaussian_nll_loss(input, target, var, full=self.full, eps=0.0, reduction=self.reduction)


class SoftMarginLoss(torch.nn.SoftMarginLoss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if not input.is_floating_point():
            return super().forward(input, target)
        # torch's dtype under autocast
        dtype = super().forward(input.detach(), target).dtype
        loss = -F.logsigmoid(target * input.to(dtype))
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[self.reduction]


class MultiMarginLoss(torch.nn.MultiMarginLoss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if not input.is_floating_point():
            return super().forward(input, target)
        value = super().forward(input.detach(), target)
        t = target.reshape(-1, 1)
        x = input.to(value.dtype).reshape(t.shape[0], input.shape[-1] if input.dim() else 1)
        z = (self.margin - x.gather(1, t) + x).scatter(1, t, 0)
        terms = (z.nan_to_num(0, math.inf, -math.inf) * (z > 0)) ** self.p
        loss = (terms if self.weight is None else terms * self.weight[t]).mean(1).reshape(target.shape)
        return {"none": loss, "mean": loss.sum() / max(t.numel(), 1), "sum": loss.sum()}[self.reduction]


class MultiLabelMarginLoss(torch.nn.MultiLabelMarginLoss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        value = super().forward(input.detach(), target)
        if not input.is_floating_point() or not input.numel():
            return value + 0 * input.sum()
        x, t = (y.reshape(-1, y.shape[-1] if y.dim() else 1) for y in (input.to(value.dtype), target))
        is_listed = (t < 0).cumsum(1) == 0
        t = torch.where(is_listed, t, 0)
        is_target = torch.zeros_like(t).scatter_add(1, t, is_listed.long()) > 0
        z = 1 - x.gather(1, t).unsqueeze(2) + x.unsqueeze(1)
        counted = (z > 0) & is_listed.unsqueeze(2) & ~is_target.unsqueeze(1)
        loss = ((z.nan_to_num(0, math.inf, -math.inf) * counted).sum((1, 2)) / x.shape[1]).reshape(
            input.shape[:-1]
        )
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[self.reduction]


class CosineSimilarity(torch.nn.CosineSimilarity):
    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        if not (x1.is_floating_point() and x2.is_floating_point()):
            return super().forward(x1, x2)
        x1, x2 = torch.broadcast_tensors(x1, x2)
        lengths = [torch.linalg.vector_norm(x, 2, self.dim, True) for x in (x1, x2)]
        n1, n2 = (n + (self.eps - n).clamp(min=0).detach() for n in lengths)
        return ((x1 / n1) * (x2 / n2)).sum(self.dim)


class CTCLoss(torch.nn.CTCLoss):
    def forward(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor
    ) -> Tensor:
        given = (targets, input_lengths, target_lengths)
        value = F.ctc_loss(log_probs.detach(), *given, self.blank, "none", self.zero_infinity)
        input_lengths, target_lengths = map(torch.as_tensor, given[1:])
        x = (log_probs if log_probs.dim() == 3 else log_probs.unsqueeze(1)).to(value.dtype)
        listed = targets.dim() == 1
        rows = targets.split(target_lengths.reshape(-1).tolist()) if listed else targets.unbind(0)
        lengths = zip(input_lengths.reshape(-1).tolist(), target_lengths.reshape(-1).tolist(), strict=True)
        terms = []
        for n, (time, length) in enumerate(lengths):
            labels = [self.blank]
            for label in rows[n][:length].tolist():
                labels += [label, self.blank]
            terms.append(_ctc(x[:time, n], labels) / (max(length, 1) if self.reduction == "mean" else 1))
        loss = torch.stack(terms)
        loss = torch.where(loss.isinf() & self.zero_infinity, 0, loss)
        return {"none": loss.reshape(value.shape), "mean": loss.mean(), "sum": loss.sum()}[self.reduction]


def _ctc(x: Tensor, labels: list[int]) -> Tensor:
    """The loss of one sample, with torch's gradient, that by the logits.

    In probabilities that are scaled at every time, whose derivatives have more digits than their logarithms'.
    """
    apart = torch.tensor([s > 1 and c not in (labels[0], labels[s - 2]) for s, c in enumerate(labels)])
    zeros = x.new_zeros(2)
    p = x.exp()[:, labels]
    a = torch.cat((zeros[:1] + 1, zeros.repeat(len(labels))))[: len(labels)]
    loss = x.exp().sum() - x.detach().exp().sum()
    for t, row in enumerate(p):
        one, two = (torch.cat((zeros[:n], a))[: len(labels)] for n in (1, 2))
        a = (a + one + (two * apart if t else 0)) * row
        scale = a.detach().sum()
        a, loss = a / scale, loss - scale.log()
    loss = loss - a[-2:].sum().log()
    return loss if loss < 1e29 else x.sum() * 0 + math.inf


class LinearCrossEntropyLoss(torch.nn.LinearCrossEntropyLoss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        plain = copy.copy(self)
        plain.options = None
        with torch.no_grad():
            # for what it warns of
            super().forward(input, target)
        return torch.nn.LinearCrossEntropyLoss.forward(plain, input, target)


class AdaptiveLogSoftmaxWithLoss(torch.nn.AdaptiveLogSoftmaxWithLoss):
    def forward(self, input_: Tensor, target_: Tensor) -> Any:
        x, t = (input_, target_) if target_.dim() else (input_.unsqueeze(0), target_.unsqueeze(0))
        head = self.head(x).log_softmax(1)
        clusters = [head[:, self.shortlist_size + k, None] for k in range(self.n_clusters)]
        tails = [self.tail[k](x).log_softmax(1) + cluster for k, cluster in enumerate(clusters)]
        every = torch.cat((head[:, : self.shortlist_size], *tails), 1)
        output = every.gather(1, t.unsqueeze(1)).reshape(target_.shape)
        return output, -output.mean()


FIRST: Corrections = {
    torch.nn.PoissonNLLLoss: PoissonNLLLoss,
    torch.nn.GaussianNLLLoss: GaussianNLLLoss,
    torch.nn.SoftMarginLoss: SoftMarginLoss,
    torch.nn.CosineSimilarity: CosineSimilarity,
    torch.nn.CTCLoss: CTCLoss,
    torch.nn.MultiMarginLoss: MultiMarginLoss,
    torch.nn.MultiLabelMarginLoss: MultiLabelMarginLoss,
}
SECOND: Corrections = {
    torch.nn.BCELoss: BCELoss,
    torch.nn.AdaptiveLogSoftmaxWithLoss: AdaptiveLogSoftmaxWithLoss,
    torch.nn.LinearCrossEntropyLoss: LinearCrossEntropyLoss,
}
