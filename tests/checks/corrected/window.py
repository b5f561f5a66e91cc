"""Pooling and shuffling.

* ``MaxUnpool2d`` and ``MaxUnpool3d`` have no gradient where the indices are not contiguous.
* ``PixelShuffle`` and ``PixelUnshuffle`` have a gradient of another shape where there are no elements.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .table import Corrections


class MaxUnpool2d(torch.nn.MaxUnpool2d):
    def forward(self, input: Tensor, indices: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(input, indices.contiguous(), output_size)


class MaxUnpool3d(torch.nn.MaxUnpool3d):
    def forward(self, input: Tensor, indices: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(input, indices.contiguous(), output_size)


class PixelShuffle(torch.nn.PixelShuffle):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if input.numel() else input.clone()


class PixelUnshuffle(torch.nn.PixelUnshuffle):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if input.numel() else input.clone()


FIRST: Corrections = {
    torch.nn.MaxUnpool2d: MaxUnpool2d,
    torch.nn.MaxUnpool3d: MaxUnpool3d,
    torch.nn.PixelShuffle: PixelShuffle,
    torch.nn.PixelUnshuffle: PixelUnshuffle,
}
SECOND: Corrections = {}
