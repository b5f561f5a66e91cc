"""What class indices say about the samples of a loss."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_backprop.layers.loss.reduction import spread


class Samples:
    """The samples ``(N, *)`` of a loss over logits ``(N, C, *)`` or ``(C)``.

    Attributes:
        dim: the dimension of the classes in the logits.
        valid: 1, or 0 where the sample is ignored.
        target: the class, or 0 where the sample is ignored.
        weights: the weight of the class, or 0 where the sample is ignored.
    """

    def __init__(self, t: Tensor, w: Tensor | None, ignore_index: int, dimensions: int, dtype: torch.dtype):
        self.dim = min(1, dimensions - 1)
        self.ignored = t == ignore_index
        self.valid = (~self.ignored).to(dtype)
        self.target = t.masked_fill(self.ignored, 0).long()
        self.weights = self.valid if w is None else w.to(dtype)[self.target] * self.valid

    def upstream(self, grad_y: Tensor, reduction: str) -> Tensor:
        """The gradient that reaches each sample's loss; 0, never NaN, where it is ignored."""
        u = spread(grad_y, reduction, self.weights.sum())
        return torch.where(self.ignored, 0, u)

    def gather(self, x: Tensor) -> Tensor:
        """x_t of each sample."""
        return x.gather(self.dim, self.target.unsqueeze(self.dim)).squeeze(self.dim)

    def scatter(self, x: Tensor, column: Tensor) -> Tensor:
        """x plus ``column`` at the target of each sample."""
        return x.scatter_add(self.dim, self.target.unsqueeze(self.dim), column.unsqueeze(self.dim))

    def smoothed(self, q: Tensor, w: Tensor | None) -> Tensor:
        """The mean over the classes of w_c q_c; 0 where the sample is ignored."""
        weighted = q if w is None else q * along_classes(w, q.dim())
        return weighted.mean(self.dim).masked_fill(self.ignored, 0)


def along_classes(w: Tensor, dimensions: int) -> Tensor:
    """Class weights ``(C)`` broadcastable with logits ``(N, C, *)`` or ``(C)``."""
    return w.reshape(-1, *(1 for _ in range(dimensions - 2)))
