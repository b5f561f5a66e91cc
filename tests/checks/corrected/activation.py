"""Activations.

* ``Hardsigmoid`` multiplies by 1/6 rounded to float32, in float64 too, and has no second derivative.
* ``RReLU`` has no forward mode and no batching rule, and its slopes are undefined when activation
  checkpointing runs it again.
* ``SiLU`` refuses complex gradients; in place it lets them through without the conjugate.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .table import Corrections


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


FIRST: Corrections = {
    torch.nn.Hardsigmoid: Hardsigmoid,
    torch.nn.RReLU: RReLU,
    torch.nn.SiLU: SiLU,
}
SECOND: Corrections = {}
