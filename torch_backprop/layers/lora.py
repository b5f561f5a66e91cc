r"""A linear map with a low-rank change that is learned. Hu et al. (2022), arXiv:2106.09685, eq. 3.

With the weight W frozen, A of rank rows, B of rank columns, and c = alpha / rank:

    forward   y = x W^T + b + c (x A^T) B^T
    backward  dL/dx = g W + c (g B) A     dL/dA = c (g B)^T x     dL/dB = c g^T (x A^T)

The one non-obvious step is the order: g B and x A^T have rank columns, so that the gradient of B A, of the
size of W, is never formed. All of this is three linear maps and their rule, as long as they are taken in this
order; x and x A^T are held, each once.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.linear import linear
from torch_backprop.spec import LayerSpec, case


class PlainLoRALinear(torch.nn.Linear):
    """The reference: operator by operator."""

    def __init__(
        self, in_features: int, out_features: int, rank: int, alpha: float = 1.0, bias: bool = True
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.lora_a = torch.nn.Parameter(torch.empty(rank, in_features))
        self.lora_b = torch.nn.Parameter(torch.zeros(out_features, rank))
        # as torch initializes the weight of a Linear
        torch.nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.alpha, self.rank, self.merged = alpha, rank, False
        for frozen in (self.weight, self.bias):
            if frozen is not None:
                frozen.requires_grad_(False)

    def _get_name(self) -> str:
        return "LoRALinear"

    def extra_repr(self) -> str:
        """The options."""
        return f"{super().extra_repr()}, rank={self.rank}, alpha={self.alpha}"

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*, in_features)`` to ``(*, out_features)``."""
        y = F.linear(input, self.weight, self.bias)
        return y if self.merged else y + self.scale * F.linear(F.linear(input, self.lora_a), self.lora_b)


class LoRALinear(PlainLoRALinear):
    """A linear map whose weight is frozen, and a learned change of it by a product of two thin matrices.

    Args:
        in_features: the features of the input.
        out_features: the features of the output.
        rank: the rows of A and columns of B. B is 0 to begin with, so that nothing is changed.
        alpha: the change is B A alpha / rank.
        bias: whether there is one; frozen too.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*, in_features)`` to ``(*, out_features)``."""
        # by way of the thin product: a gradient of the wide weight is never formed
        y = linear(input, self.weight, self.bias)
        return y if self.merged else y + self.scale * linear(linear(input, self.lora_a), self.lora_b)

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the change to the weight, so that a call costs no more than Linear's; once."""
        if not self.merged:
            self.weight.addmm_(self.lora_b, self.lora_a, alpha=self.scale)
            self.merged = True

    @torch.no_grad()
    def unmerge(self) -> None:
        """Takes the change out of the weight again, to rounding."""
        if self.merged:
            self.weight.addmm_(self.lora_b, self.lora_a, alpha=-self.scale)
            self.merged = False


SPECS = (
    LayerSpec(
        LoRALinear,
        PlainLoRALinear,
        (
            case((3, 6), in_features=6, out_features=5, rank=2, alpha=3.0),
            case((2, 3, 6), in_features=6, out_features=5, rank=1, bias=False),
        ),
    ),
)
