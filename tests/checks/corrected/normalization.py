"""Normalizations.

* ``LayerNorm``, ``BatchNorm`` and ``InstanceNorm`` take mean and deviation for constants in the third
  derivative, and, where ``vmap`` or forward mode meets them, in the second.
* ``CrossMapLRN2d`` has the first channel in the window of all that come after its own, but not in its
  gradient, whose windows are one channel off; and it knows no second derivative and no transform.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .table import Corrections


class CrossMapLRN2d(torch.nn.CrossMapLRN2d):
    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 4 or not input.is_floating_point():
            return super().forward(input)
        reach = int((self.size - 1) / 2 + 1)
        channel = torch.arange(input.shape[1], device=input.device)
        window = (channel.unsqueeze(1) - channel).abs() < reach
        window[reach:, 0] = True
        squares = input.square().flatten(2)
        sums = (window.to(input.dtype) @ squares).reshape(input.shape)
        return input * (self.k + self.alpha / self.size * sums) ** -self.beta


class Standardizing:
    """Ordinary operators in the place of a fused one, whose errors and buffers remain."""

    def forward(self: Any, input: Tensor) -> Tensor:
        fused: Any = super().forward  # pyright: ignore[reportAttributeAccessIssue]
        y = fused(input.detach())
        if not self.training and getattr(self, "running_mean", None) is not None:
            return fused(input)
        grouped, dims = self.grouped(input)
        deviation = grouped - grouped.mean(dims, keepdim=True)
        h = deviation / (deviation.square().mean(dims, keepdim=True) + self.eps).sqrt()
        return self.scaled(h.reshape(y.shape))

    def grouped(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """x in a shape in which the dimensions returned with it are standardized together."""
        return x, (0, *range(2, x.dim()))

    def scaled(self: Any, h: Tensor) -> Tensor:
        """w h + b."""
        shape = self.parameter_shape(h)
        y = h if self.weight is None else h * self.weight.reshape(shape)
        return y if self.bias is None else y + self.bias.reshape(shape)

    def parameter_shape(self, h: Tensor) -> tuple[int, ...]:
        return (-1, *(1 for _ in h.shape[2:]))


class LayerNorm(Standardizing, torch.nn.LayerNorm):
    def grouped(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        return x, tuple(range(-len(self.normalized_shape), 0))

    def parameter_shape(self, h: Tensor) -> tuple[int, ...]:
        return self.normalized_shape


class BatchNorm1d(Standardizing, torch.nn.BatchNorm1d):
    pass


class BatchNorm2d(Standardizing, torch.nn.BatchNorm2d):
    pass


class BatchNorm3d(Standardizing, torch.nn.BatchNorm3d):
    pass


class SyncBatchNorm(Standardizing, torch.nn.SyncBatchNorm):
    pass


class Instances(Standardizing):
    def grouped(self: Any, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        return x, tuple(range(1 - self._get_no_batch_dim(), 0))

    def parameter_shape(self, h: Tensor) -> tuple[int, ...]:
        return (-1, *(1 for _ in self.grouped(h)[1]))


class InstanceNorm1d(Instances, torch.nn.InstanceNorm1d):
    pass


class InstanceNorm2d(Instances, torch.nn.InstanceNorm2d):
    pass


class InstanceNorm3d(Instances, torch.nn.InstanceNorm3d):
    pass


def _lazily(lazy: Any, layer: Any) -> Any:
    """The lazy class that becomes ``layer``."""
    return type(lazy.__name__, (lazy,), {"cls_to_become": layer})


FIRST: Corrections = {
    torch.nn.CrossMapLRN2d: CrossMapLRN2d,
}
SECOND: Corrections = {
    torch.nn.LayerNorm: LayerNorm,
    torch.nn.BatchNorm1d: BatchNorm1d,
    torch.nn.BatchNorm2d: BatchNorm2d,
    torch.nn.BatchNorm3d: BatchNorm3d,
    torch.nn.SyncBatchNorm: SyncBatchNorm,
    torch.nn.InstanceNorm1d: InstanceNorm1d,
    torch.nn.InstanceNorm2d: InstanceNorm2d,
    torch.nn.InstanceNorm3d: InstanceNorm3d,
    torch.nn.LazyBatchNorm1d: _lazily(torch.nn.LazyBatchNorm1d, BatchNorm1d),
    torch.nn.LazyBatchNorm2d: _lazily(torch.nn.LazyBatchNorm2d, BatchNorm2d),
    torch.nn.LazyBatchNorm3d: _lazily(torch.nn.LazyBatchNorm3d, BatchNorm3d),
    torch.nn.LazyInstanceNorm1d: _lazily(torch.nn.LazyInstanceNorm1d, InstanceNorm1d),
    torch.nn.LazyInstanceNorm2d: _lazily(torch.nn.LazyInstanceNorm2d, InstanceNorm2d),
    torch.nn.LazyInstanceNorm3d: _lazily(torch.nn.LazyInstanceNorm3d, InstanceNorm3d),
}
