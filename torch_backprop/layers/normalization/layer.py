"""Layer normalization. Ba, Kiros & Hinton (2016), arXiv:1607.06450, eqs. 3-4.

The n features of a sample, its last dimensions, are standardized together; h and J are those of ``moments``:

    forward   y = w h + b
    backward  dL/dx = J (w g)    dL/dw = sum g h    dL/db = sum g    (sums over samples)

since y is affine in h element by element, and h has the symmetric Jacobian J.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.normalization.moments import keep, pull_back, push_forward, returned
from torch_backprop.layers.normalization.rows import pull_rows
from torch_backprop.rule import FLOAT32, Rule, first_order
from torch_backprop.spec import LayerSpec, case


class LayerNormRule(Rule):
    """Saves x, w, m and r. Returns ``(y, m, r)``."""

    autocast = {"cuda": FLOAT32}

    @staticmethod
    def forward(
        x: Tensor, w: Tensor | None, b: Tensor | None, dimensions: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        # the fused operator returns its statistics, so that the first-order path need not sum again
        return torch.native_layer_norm(x, x.shape[-dimensions:], w, b, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, w, b, dimensions, ctx.eps = inputs
        ctx.dims, ctx.shape = tuple(range(x.dim() - dimensions, x.dim())), x.shape[-dimensions:]
        keep(ctx, (x, w, b), *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, w, m, r = ctx.saved_tensors
        needs_x, needs_w, needs_b = ctx.needs_input_grad[:3]
        # m and r are constants here, which is right for a first derivative alone
        if x is not None and x.numel() and first_order(grad_y, x):
            grads = pull_rows(grad_y, x, w, m, r, ctx.shape.numel(), (needs_x, needs_w or needs_b))
        else:
            grads = pull_back(grad_y, x, w, ctx.dims, ctx.eps, ctx.shape, needs_x)
        return returned(ctx, grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None, None]:
        x, w, *_ = ctx.saved_tensors
        return push_forward(tangents[:3], x, w, ctx.dims, ctx.eps), None, None


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Standardizes the last dimensions, then scales and shifts; as :func:`torch.nn.functional.layer_norm`.

    Args:
        input: ``(*, *normalized_shape)``.
        normalized_shape: the shape of the dimensions that are standardized together.
        weight: ``normalized_shape``.
        bias: ``normalized_shape``.
        eps: added to the variance.

    Raises:
        RuntimeError: shapes or dtypes that do not fit, in torch's words.
        NotImplementedError: a complex or an integer input, in torch's words.

    >>> layer_norm(torch.tensor([[1.0, 3.0], [2.0, 2.0]]), (2,), eps=0.0)[0]
    tensor([-1.,  1.])
    """
    dimensions = len(normalized_shape)
    if not dimensions or tuple(input.shape[-dimensions:]) != tuple(normalized_shape):
        return F.layer_norm(input, normalized_shape, weight, bias, eps)  # raises
    return LayerNormRule.call(input, weight, bias, dimensions, eps)[0]


class LayerNorm(torch.nn.LayerNorm):
    """Drop-in for :class:`torch.nn.LayerNorm`, whose constructor, state and repr it inherits."""

    def forward(self, input: Tensor) -> Tensor:
        """Maps ``(*, *normalized_shape)`` to the same shape."""
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


SPECS = (
    LayerSpec(
        LayerNorm,
        torch.nn.LayerNorm,
        (
            case((3, 8), normalized_shape=8),
            case((2, 2, 3, 2), normalized_shape=(2, 3, 2), bias=False, eps=0.1),
            case((2, 3), normalized_shape=(2, 3), elementwise_affine=False),
        ),
        large=case((2048, 768), normalized_shape=768),
    ),
)
