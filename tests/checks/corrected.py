"""Built-ins whose derivative is at fault or missing: what they compute, with the derivative of that.

* ``Hardsigmoid`` multiplies by 1/6 rounded to float32, in float64 too, and has no second derivative.
* ``RReLU`` has no forward mode and no batching rule, and its slopes are undefined when activation
  checkpointing runs it again.
* ``SiLU`` refuses complex gradients; in place it lets them through without the conjugate.
* ``BCELoss`` adds 1e-12 to the denominators of its second derivative.
* Attention by torch's fused kernels has no second derivative and no forward mode; by its formula it has both.
* ``LayerNorm`` takes its mean and deviation for constants in the third derivative, and, where ``vmap`` or
  forward mode meets them, in the second.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import mha
from torch.nn.attention import SDPBackend, sdpa_kernel


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


class LayerNorm(torch.nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        if tuple(input.shape[-len(self.normalized_shape) :]) != self.normalized_shape:
            return super().forward(input)
        dims = tuple(range(-len(self.normalized_shape), 0))
        return scaled(standardized(input, dims, self.eps), self.weight, self.bias)


def standardized(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    deviation = x - x.mean(dims, keepdim=True)
    return deviation / (deviation.square().mean(dims, keepdim=True) + eps).sqrt()


def scaled(h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = h if weight is None else h * weight
    return y if bias is None else y + bias


def with_attention_by_formula(kind: Any) -> type[torch.nn.Module]:
    """The module ``kind``, in which attention is never computed by a fused kernel; nor is its LayerNorm."""

    class Corrected(kind):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for module in self.modules():
                if type(module) is torch.nn.LayerNorm:
                    module.__class__ = LayerNorm

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            with sdpa_kernel(SDPBackend.MATH):
                enabled = mha.get_fastpath_enabled()
                mha.set_fastpath_enabled(False)
                try:
                    return super().forward(*args, **kwargs)
                finally:
                    mha.set_fastpath_enabled(enabled)

    return Corrected


Corrections = dict[Any, type[torch.nn.Module]]

ATTENTIVE = (
    torch.nn.MultiheadAttention,
    torch.nn.Transformer,
    torch.nn.TransformerDecoder,
    torch.nn.TransformerDecoderLayer,
    torch.nn.TransformerEncoder,
    torch.nn.TransformerEncoderLayer,
)
CORRECTED: Corrections = {torch.nn.Hardsigmoid: Hardsigmoid, torch.nn.RReLU: RReLU, torch.nn.SiLU: SiLU}
CORRECTED |= {kind: with_attention_by_formula(kind) for kind in ATTENTIVE}
CORRECTED_SECOND_ORDER: Corrections = CORRECTED | {
    torch.nn.BCELoss: BCELoss,
    torch.nn.LayerNorm: LayerNorm,
}
