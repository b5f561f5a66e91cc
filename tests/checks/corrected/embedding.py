"""Embeddings.

* ``Embedding`` forgets ``scale_grad_by_freq`` in its second derivative by the cotangent, though its gradient
  is linear in it, and refuses complex gradients.
* ``EmbeddingBag`` has no second derivative and no forward mode.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .table import Corrections


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


FIRST: Corrections = {torch.nn.Embedding: Embedding, torch.nn.EmbeddingBag: EmbeddingBag}
SECOND: Corrections = {torch.nn.Embedding: ScalingEmbedding}
