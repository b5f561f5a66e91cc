"""Convolutions.

* ``ConvTranspose`` raises at the third derivative if it has an output padding, which it hands on to a
  convolution that is not transposed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .table import Corrections


def _conv_transposed(kind: Any) -> Any:
    class ConvTranspose(kind):
        def forward(self, input: Tensor) -> Tensor:
            if input.dim() < self.weight.dim():
                return self.forward(input.unsqueeze(0)).squeeze(0)
            options = self.stride, self.padding, self.dilation, self.kernel_size, self.output_padding
            for dim, (s, p, d, k, extra) in enumerate(zip(*options, strict=True), 2):
                # zeros after each element, then as far around all of them as the kernel reaches
                spaced = torch.stack([input] + [torch.zeros_like(input)] * (s - 1), dim + 1)
                before = d * (k - 1) - p
                others = [0, 0] * (input.dim() - dim - 1)
                input = F.pad(spaced.flatten(dim, dim + 1), [*others, before, before + extra - (s - 1)])
            kernels = torch.cat([w.transpose(0, 1) for w in self.weight.chunk(self.groups)])
            convolve = {3: F.conv1d, 4: F.conv2d}[input.dim()]
            flipped = kernels.flip(tuple(range(2, input.dim())))
            return convolve(input, flipped, self.bias, dilation=self.dilation, groups=self.groups)

    return ConvTranspose


FIRST: Corrections = {}
SECOND: Corrections = {
    torch.nn.ConvTranspose1d: _conv_transposed(torch.nn.ConvTranspose1d),
    torch.nn.ConvTranspose2d: _conv_transposed(torch.nn.ConvTranspose2d),
}
