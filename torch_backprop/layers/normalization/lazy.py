"""Lazy normalizations: the first input says how many channels there are, and they become our layers.

Their derivation is that of ``batch``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_backprop.layers.normalization.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d, normalized
from torch_backprop.layers.normalization.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from torch_backprop.spec import LayerSpec, case


class LazyBatchNorm1d(torch.nn.LazyBatchNorm1d):
    """Drop-in for :class:`torch.nn.LazyBatchNorm1d`; becomes our :class:`BatchNorm1d`."""

    cls_to_become = BatchNorm1d  # pyright: ignore[reportAssignmentType]

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C)`` or ``(N, C, L)`` to the same shape."""
        return normalized(self, input)


class LazyBatchNorm2d(torch.nn.LazyBatchNorm2d):
    """Drop-in for :class:`torch.nn.LazyBatchNorm2d`; becomes our :class:`BatchNorm2d`."""

    cls_to_become = BatchNorm2d  # pyright: ignore[reportAssignmentType]

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to the same shape."""
        return normalized(self, input)


class LazyBatchNorm3d(torch.nn.LazyBatchNorm3d):
    """Drop-in for :class:`torch.nn.LazyBatchNorm3d`; becomes our :class:`BatchNorm3d`."""

    cls_to_become = BatchNorm3d  # pyright: ignore[reportAssignmentType]

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(N, C, D, H, W)`` to the same shape."""
        return normalized(self, input)


class LazyInstanceNorm1d(torch.nn.LazyInstanceNorm1d):
    """Drop-in for :class:`torch.nn.LazyInstanceNorm1d`; becomes our :class:`InstanceNorm1d`."""

    cls_to_become = InstanceNorm1d  # pyright: ignore[reportAssignmentType]


class LazyInstanceNorm2d(torch.nn.LazyInstanceNorm2d):
    """Drop-in for :class:`torch.nn.LazyInstanceNorm2d`; becomes our :class:`InstanceNorm2d`."""

    cls_to_become = InstanceNorm2d  # pyright: ignore[reportAssignmentType]


class LazyInstanceNorm3d(torch.nn.LazyInstanceNorm3d):
    """Drop-in for :class:`torch.nn.LazyInstanceNorm3d`; becomes our :class:`InstanceNorm3d`."""

    cls_to_become = InstanceNorm3d  # pyright: ignore[reportAssignmentType]


SPECS = (
    LayerSpec(
        LazyBatchNorm1d,
        torch.nn.LazyBatchNorm1d,
        (case((4, 3)),),
        large=case((8192, 256)),
    ),
    LayerSpec(
        LazyBatchNorm2d,
        torch.nn.LazyBatchNorm2d,
        (case((2, 3, 2, 2), momentum=0.3, affine=False),),
        large=case((32, 64, 32, 32)),
    ),
    LayerSpec(
        LazyBatchNorm3d,
        torch.nn.LazyBatchNorm3d,
        (case((2, 3, 2, 1, 2), train=False),),
        large=case((4, 32, 16, 32, 32)),
    ),
    LayerSpec(
        LazyInstanceNorm1d,
        torch.nn.LazyInstanceNorm1d,
        (case((2, 3, 6), affine=True),),
        large=case((32, 64, 1024)),
    ),
    LayerSpec(
        LazyInstanceNorm2d,
        torch.nn.LazyInstanceNorm2d,
        (case((2, 3, 3, 2), track_running_stats=True),),
        large=case((32, 64, 32, 32)),
    ),
    LayerSpec(
        LazyInstanceNorm3d,
        torch.nn.LazyInstanceNorm3d,
        (case((2, 3, 2, 2, 2), eps=0.1),),
        large=case((4, 32, 16, 32, 32)),
    ),
)
