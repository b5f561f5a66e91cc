r"""A linear map with a low-rank change that is learned. Hu et al. (2022), arXiv:2106.09685, eq. 3.

With the weight W frozen, A of rank rows, B of rank columns, and c = alpha / rank:

    forward   y = x W^T + b + c (x A^T) B^T
    backward  dL/dx = g W + c (g B) A     dL/dA = c (g B)^T x     dL/dB = c g^T (x A^T)

g B and x A^T have rank columns, so that the gradient of B A, of the size of W, is never formed. x A^T is computed
again rather than held: it costs rank / out_features of the forward pass.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.linear import linear
from torch_backprop.rule import LOWER, Rule, owned
from torch_backprop.spec import LayerSpec, case


class LoRARule(Rule):
    """Saves x, A and B, and W if the input's gradient is needed."""

    autocast = {"cpu": LOWER, "cuda": LOWER}

    @staticmethod
    def forward(x: Tensor, w: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, c: float) -> Tensor:
        return owned(F.linear(x, w, bias) + c * F.linear(F.linear(x, a), b))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, _, a, b, ctx.c = inputs
        needs_x, needs_w, _, needs_a, needs_b, _ = ctx.needs_input_grad
        ctx.save_for_backward(
            x if needs_w or needs_a or needs_b else None,
            w if needs_x else None,
            a if needs_x or needs_b else None,
            b if needs_x or needs_a else None,
        )
        ctx.save_for_forward(x, w, a, b)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, w, a, b = ctx.saved_tensors
        needs_x, needs_w, needs_bias, needs_a, needs_b, _ = ctx.needs_input_grad
        g, rows = _rows(grad_y), None if x is None else _rows(x)
        g_b = ctx.c * (grad_y @ b) if needs_x or needs_a else None
        return (
            grad_y @ w + g_b @ a if needs_x else None,
            g.mT @ rows if needs_w else None,
            g.sum(0) if needs_bias else None,
            _rows(g_b).mT @ rows if needs_a else None,
            g.mT @ (ctx.c * (rows @ a.mT)) if needs_b else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, w, a, b = ctx.saved_tensors
        tangent_x, tangent_w, tangent_bias, tangent_a, tangent_b, _ = tangents
        down = x @ a.mT
        low = torch.zeros_like(down)
        low = low if tangent_x is None else low + tangent_x @ a.mT
        low = low if tangent_a is None else low + x @ tangent_a.mT
        y = ctx.c * (low @ b.mT)
        y = y if tangent_b is None else y + ctx.c * (down @ tangent_b.mT)
        y = y if tangent_x is None else y + tangent_x @ w.mT
        y = y if tangent_w is None else y + x @ tangent_w.mT
        return y if tangent_bias is None else y + tangent_bias


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
    """A linear map whose weight is frozen, and a change of it by a product of two thin matrices that is learned.

    Args:
        in_features: the features of the input.
        out_features: the features of the output.
        rank: the rows of A and columns of B. B is 0 to begin with, so that nothing is changed.
        alpha: the change is B A alpha / rank.
        bias: whether there is one; frozen too.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*, in_features)`` to ``(*, out_features)``."""
        if self.merged:
            return linear(input, self.weight, self.bias)
        return LoRARule.call(input, self.weight, self.bias, self.lora_a, self.lora_b, self.scale)

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


def _rows(x: Tensor) -> Tensor:
    return x if x.dim() == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


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
