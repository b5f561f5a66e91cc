"""What a convolution is called with: as the caller gave it, and with a number for each dimension.

It serves the derivation in :mod:`torch_backprop.layers.convolution.rule`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Sizes = int | tuple[int, ...]
Numbers = tuple[int, ...]

FORWARD: Any = (F.conv1d, F.conv2d, F.conv3d)
FORWARD_TRANSPOSED: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@dataclass(frozen=True)
class Steps:
    """How a kernel steps over the larger side, a number for each dimension.

    Attributes:
        stride: s.
        padding: p, before and after.
        dilation: d.
        groups: groups of channels.
        extra: zeros after, beyond p: an even kernel cannot keep a size symmetrically.
        remainder: output padding, of a transposed convolution.
        transposed: whether the larger side is the output.
    """

    stride: Numbers
    padding: Numbers
    dilation: Numbers
    groups: int
    extra: Numbers
    remainder: Numbers
    transposed: bool = False

    def convolve(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        """The forward pass, in the one operator that every kind of batching knows."""
        options = self.stride, self.padding, self.dilation, self.transposed, self.remainder, self.groups
        return torch.convolution(x, w, b, *options)

    def steps(self, kernel: Numbers) -> Steps:
        """Itself."""
        return self


@dataclass(frozen=True)
class Geometry:
    """The options as the caller gave them, so that torch can object in its own words."""

    dimensions: int
    stride: Sizes
    padding: Sizes | str
    dilation: Sizes
    groups: int
    output_padding: Sizes = 0
    transposed: bool = False

    def convolve(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        """The forward pass."""
        if not self.transposed:
            forward = FORWARD[self.dimensions - 1]
            return forward(x, w, b, self.stride, self.padding, self.dilation, self.groups)
        forward = FORWARD_TRANSPOSED[self.dimensions - 1]
        return forward(x, w, b, self.stride, self.padding, self.output_padding, self.groups, self.dilation)

    def steps(self, kernel: Numbers) -> Steps:
        """A number for each dimension, for a kernel of that size."""
        dilation, extra = self._each(self.dilation), self._each(0)
        if self.padding == "same":
            # stride one: what the kernel takes away, half of it before; an odd one after
            totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            padding, extra = tuple(total // 2 for total in totals), tuple(total % 2 for total in totals)
        else:
            padding = self._each(0 if isinstance(self.padding, str) else self.padding)
        stride, remainder = self._each(self.stride), self._each(self.output_padding)
        return Steps(stride, padding, dilation, self.groups, extra, remainder, self.transposed)

    def _each(self, sizes: Sizes) -> Numbers:
        # a number may be numpy's, or a tensor
        listed = tuple(sizes) if isinstance(sizes, (tuple, list)) else (int(sizes),)
        return listed * self.dimensions if len(listed) == 1 else listed
