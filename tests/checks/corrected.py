"""Built-ins whose derivative is at fault or missing: what they compute, with the derivative of that.

* ``Hardsigmoid`` multiplies by 1/6 rounded to float32, in float64 too, and has no second derivative.
* ``RReLU`` has no forward mode and no batching rule, and its slopes are undefined when activation
  checkpointing runs it again.
* ``SiLU`` refuses complex gradients; in place it lets them through without the conjugate.
* ``BCELoss`` adds 1e-12 to the denominators of its second derivative.
* ``Embedding`` forgets ``scale_grad_by_freq`` in its second derivative by the cotangent, though its gradient
  is linear in it, and refuses complex gradients.
* ``EmbeddingBag`` has no second derivative and no forward mode.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Hardsigmoid(torch.nn.Hardsigmoid):
    def forward(self, input: Tensor) -> Tensor:
        constant = F.hardsigmoid(input.detach())
        y = torch.where((input > -3) & (input < 3), input / 6 + 0.5, constant)
        return input.copy_(y) if self.inplace else y


class RReLU(torch.nn.RReLU):
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return F.leaky_relu(input, (self.lower + self.upper) / 2, self.inplace)
        slope = torch.ones_like(input.detach().contiguous())
        torch.ops.aten.rrelu_with_noise(input.detach(), slope, self.lower, self.upper, True)
        return input.copy_(input * slope) if self.inplace else input * slope


class SiLU(torch.nn.SiLU):
    def forward(self, input: Tensor) -> Tensor:
        return input * torch.sigmoid(input) if input.is_complex() else super().forward(input)


class BCELoss(torch.nn.BCELoss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss = -(target * torch.log(input) + (1 - target) * torch.log1p(-input))
        loss = loss if self.weight is None else loss * self.weight
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[self.reduction]


class Embedding(torch.nn.Embedding):
    scales = False

    def forward(self, input: Tensor) -> Tensor:
        if not (self.scales or self.weight.is_complex()):
            return super().forward(input)
        rows = F.one_hot(input, self.num_embeddings).to(self.weight.dtype)
        y = rows @ self.weight
        scale = (input != (-1 if self.padding_idx is None else self.padding_idx)).to(y.dtype)
        if self.scale_grad_by_freq:
            scale = scale / (rows * rows.reshape(-1, self.num_embeddings).sum(0)).sum(-1)
        # the value of y, and only a part of its gradient
        return y.detach() + (y - y.detach()) * scale.unsqueeze(-1)


class ScalingEmbedding(Embedding):
    scales = True


class EmbeddingBag(torch.nn.EmbeddingBag):
    def forward(self, input: Tensor, offsets: Any = None, per_sample_weights: Any = None) -> Tensor:
        usual = input.dim() == 2 and input.dtype == torch.long and self.weight.is_floating_point()
        # of sums over many rows the built-in's own rounding is the measure
        if not usual or self.scale_grad_by_freq or not 0 < input.numel() < 1000:
            return super().forward(input, offsets, per_sample_weights)
        kept = (input != (-1 if self.padding_idx is None else self.padding_idx)).unsqueeze(-1)
        rows = self.weight[input]
        if self.mode == "max":
            return torch.where(kept, rows, -torch.inf).max(1).values
        weights = kept if per_sample_weights is None else kept * per_sample_weights.unsqueeze(-1)
        y = torch.where(kept, rows * weights, 0).sum(1)
        return y / kept.sum(1).clamp(min=1) if self.mode == "mean" else y


Corrections = dict[Any, type[torch.nn.Module]]

CORRECTED: Corrections = {
    torch.nn.Hardsigmoid: Hardsigmoid,
    torch.nn.RReLU: RReLU,
    torch.nn.SiLU: SiLU,
    torch.nn.Embedding: Embedding,
    torch.nn.EmbeddingBag: EmbeddingBag,
}
CORRECTED_SECOND_ORDER: Corrections = CORRECTED | {
    torch.nn.BCELoss: BCELoss,
    torch.nn.Embedding: ScalingEmbedding,
}
