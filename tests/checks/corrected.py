"""Built-ins whose derivative is at fault or missing: what they compute, with the derivative of that.

* ``Hardsigmoid`` multiplies by 1/6 rounded to float32, in float64 too, and has no second derivative.
* ``RReLU`` has no forward mode and no batching rule, and its slopes are undefined when activation
  checkpointing runs it again.
* ``SiLU`` refuses complex gradients; in place it lets them through without the conjugate.
* ``MaxUnpool2d`` and ``MaxUnpool3d`` have no gradient where the indices are not contiguous.
* ``PixelShuffle`` and ``PixelUnshuffle`` have a gradient of another shape where there are no elements.
* ``BCELoss`` adds 1e-12 to the denominators of its second derivative.
* ``ConvTranspose`` raises at the third derivative if it has an output padding, which it hands on to a
  convolution that is not transposed.
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


Corrections = dict[Any, type[torch.nn.Module]]

CORRECTED: Corrections = {
    torch.nn.Hardsigmoid: Hardsigmoid,
    torch.nn.MaxUnpool2d: MaxUnpool2d,
    torch.nn.MaxUnpool3d: MaxUnpool3d,
    torch.nn.PixelShuffle: PixelShuffle,
    torch.nn.PixelUnshuffle: PixelUnshuffle,
    torch.nn.RReLU: RReLU,
    torch.nn.SiLU: SiLU,
}
CORRECTED_SECOND_ORDER: Corrections = (
    CORRECTED
    | {torch.nn.BCELoss: BCELoss}
    | {kind: _conv_transposed(kind) for kind in (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d)}
)
