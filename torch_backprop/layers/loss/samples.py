"""What class indices say about the samples of a loss.

It serves the derivations of ``likelihood``, ``cross_entropy`` and ``chunked``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_backprop.layers.elementwise import tiles
from torch_backprop.layers.loss.reduction import reduced, spread


@dataclass(frozen=True)
class Samples:
    """The samples ``(N, *)`` of a loss over logits ``(N, C, *)``, or the one of ``(C)``.

    Attributes:
        dim: the dimension of the classes in the logits.
        target: the class, or 0 where the sample is ignored.
        weights: the weight of the class, or 0 where the sample is ignored.
        valid: whether the sample is not ignored.
    """

    dim: int
    target: Tensor
    weights: Tensor
    valid: Tensor

    @classmethod
    def of(cls, x: Tensor, t: Tensor, w: Tensor | None, ignore_index: int) -> Samples:
        """The samples of logits ``x`` with class indices ``t`` and class weights ``w``."""
        return cls.like(x.dim(), x.dtype, t, w, ignore_index)

    @classmethod
    def like(
        cls, dimensions: int, dtype: torch.dtype, t: Tensor, w: Tensor | None, ignore_index: int
    ) -> Samples:
        """The same of logits of which only the number of dimensions and the dtype are known."""
        valid = t != ignore_index
        # ignore_index may be no class at all, and indexing needs one
        target = (t * valid).long()
        samples = cls(min(1, dimensions - 1), target, valid.to(dtype), valid)
        return samples if w is None else samples.with_weights(w)

    def with_weights(self, w: Tensor) -> Samples:
        """The same samples with class weights ``w``."""
        # not w[target]: to index by a single class asks for its number, which vmap and meta do not have
        weights = w.to(self.weights.dtype).index_select(0, self.target.reshape(-1))
        return Samples(self.dim, self.target, weights.reshape(self.target.shape) * self.valid, self.valid)

    def tiles(self, x: Tensor, *others: Tensor) -> Iterator[tuple[Samples, Tensor, tuple[Tensor, ...]]]:
        """Cuts the samples, their logits and what else has a row for each into tiles."""
        for target, weights, valid, logits, *rest in tiles(self.target, self.weights, self.valid, x, *others):
            yield Samples(self.dim, target, weights, valid), logits, tuple(rest)

    def upstream(self, grad_y: Tensor, reduction: str) -> Tensor:
        """The gradient that reaches each sample's loss; 0, never NaN, where it is ignored."""
        # with every sample ignored the mean divides by 0
        u = spread(grad_y, reduction, self.weights.sum())
        return torch.where(self.valid, u, 0)

    def gather(self, x: Tensor) -> Tensor:
        """x_t of each sample."""
        return x.gather(self.dim, self.target.unsqueeze(self.dim)).squeeze(self.dim)

    def scatter(self, x: Tensor, column: Tensor, inplace: bool = False) -> Tensor:
        """x plus ``column`` at the target of each sample."""
        add = x.scatter_add_ if inplace else x.scatter_add
        return add(self.dim, self.target.unsqueeze(self.dim), column.unsqueeze(self.dim))

    def losses(self, q: Tensor, w: Tensor | None, smoothing: float) -> Tensor:
        """Minus the log-probability q of each target, smoothed, in differentiable operators."""
        return self.smoothed(-weighted(self.weights, self.gather(q)), q, w, smoothing)

    def push(
        self,
        tangents: Tensor,
        log_probabilities: Callable[[], Tensor],
        w: Tensor | None,
        tangent_w: Tensor | None,
        reduction: str,
        smoothing: float = 0.0,
    ) -> Tensor:
        """The tangent of the reduced :meth:`losses`, of which those that come of q alone are ``tangents``.

        The log-probabilities are called for q only if there are class weights. These have no gradient, as in
        torch, but a tangent, which torch takes for 0. The losses are linear in them; a mean is the quotient
        of two sums that are.
        """
        total = self.weights.sum()
        if tangent_w is None:
            return reduced(tangents, reduction, total)
        q, moved = log_probabilities(), self.with_weights(tangent_w)
        tangents = tangents + moved.losses(q, tangent_w, smoothing)
        if reduction != "mean":
            return reduced(tangents, reduction, total)
        mean = self.losses(q, w, smoothing).sum() / total
        return (tangents.sum() - weighted(moved.weights.sum(), mean)) / total

    def smoothed(self, losses: Tensor, q: Tensor, w: Tensor | None, smoothing: float) -> Tensor:
        """``losses`` of the targets, less the mean over the classes of w_c q_c in the part ``smoothing``."""
        if not smoothing:
            return losses
        every = q if w is None else q * along_classes(w, q.dim())
        return (1 - smoothing) * losses - smoothing * torch.where(self.valid, every.mean(self.dim), 0)


def weighted(weights: Tensor, x: Tensor) -> Tensor:
    """``weights`` times x; 0, never NaN, of an infinite x that has no weight."""
    return weights * torch.where((weights == 0) & ~x.isfinite(), 0, x)


def along_classes(w: Tensor, dimensions: int) -> Tensor:
    """Class weights ``(C)`` broadcastable with logits ``(N, C, *)`` or ``(C)``."""
    return w.reshape(-1, *(1 for _ in range(dimensions - 2)))
