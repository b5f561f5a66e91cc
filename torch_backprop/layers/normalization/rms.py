"""Root mean square normalization. Zhang & Sennrich (2019), arXiv:1910.07467, eq. 4.

The n features of a sample, its last dimensions, are divided by their root mean square; h and J are those of
``moments``, without centering:

    forward   h = x r    r = (mean(x^2) + eps)^(-1/2)    y = w h
    backward  dL/dx = J (w g) = r (w g - h mean(w g h))    dL/dw = sum g h    (sums over samples)

since d r / d x_j = -r^2 h_j / n, by which h has the symmetric Jacobian J.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._prims_common import suggest_memory_format

from torch_backprop.layers.elementwise import tiles
from torch_backprop.layers.normalization.moments import keep, pull_back, push_forward, returned, standardized
from torch_backprop.layers.normalization.rows import pull_rows
from torch_backprop.rule import FLOAT32, Rule, first_order, is_plain, private, wanted, widen
from torch_backprop.spec import LayerSpec, case


class RMSNormRule(Rule):
    """Saves x, w and r. Returns ``(y, r)``."""

    autocast = {"cuda": FLOAT32}

    @staticmethod
    def forward(x: Tensor, w: Tensor | None, dimensions: int, eps: float) -> tuple[Tensor, Tensor]:
        x = x.contiguous(memory_format=suggest_memory_format(x)) if is_plain(x) else x.contiguous()
        plain = is_plain(x) and (w is None or is_plain(w))
        if plain and x.numel() and x.is_contiguous() and x.is_floating_point():
            return _by_tiles(x, w, x.shape[-dimensions:].numel(), eps)
        h, r = standardized(widen(x), tuple(range(-dimensions, 0)), eps, centered=False)
        return (h if w is None else h * w).to(x.dtype), r

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, w, dimensions, ctx.eps = inputs
        ctx.dims, ctx.shape = tuple(range(x.dim() - dimensions, x.dim())), x.shape[-dimensions:]
        keep(ctx, (x, w), output[1])
        if not ctx.needs_input_grad[0]:
            # torch holds no more than the size of x
            ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, None, None)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, w, r = ctx.saved_tensors
        needs_x, needs_w = ctx.needs_input_grad[:2]
        if needs_x and x.numel() and x.is_floating_point() and first_order(grad_y, x):
            grads = pull_rows(grad_y, x, w, None, r, ctx.shape.numel(), (needs_x, needs_w))
        else:
            grads = pull_back(grad_y, x, w, ctx.dims, ctx.eps, ctx.shape, needs_x, centered=False)
        return returned(ctx, grads[:2])

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_w: Tensor | None, *_: None) -> tuple[Tensor, None]:
        x, w, _ = ctx.saved_tensors
        return push_forward((tangent_x, tangent_w, None), x, w, ctx.dims, ctx.eps, centered=False), None


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Divides by the root mean square of the last dimensions; as :func:`torch.nn.functional.rms_norm`.

    Args:
        input: ``(*, *normalized_shape)``.
        normalized_shape: the shape of the dimensions whose mean is taken.
        weight: ``normalized_shape``.
        eps: added to the mean of squares; if None, the unit of rounding of the dtype, of float32 at least.

    Raises:
        RuntimeError: shapes that do not fit, in torch's words.
        NotImplementedError: an integer input, in torch's words.

    >>> rms_norm(torch.tensor([3.0, 4.0]), (2,)) ** 2
    tensor([0.7200, 1.2800])
    """
    shape, dimensions = tuple(normalized_shape), len(normalized_shape)
    fits = (
        dimensions and tuple(input.shape[-dimensions:]) == shape and (weight is None or weight.shape == shape)
    )
    if not fits or not (input.is_floating_point() or input.is_complex()):
        return F.rms_norm(input, normalized_shape, weight, eps)  # raises
    eps = torch.finfo(torch.promote_types(input.dtype, torch.float32)).eps if eps is None else eps
    if not wanted(input):  # of an input without a gradient torch keeps what multiplies the weight
        input = private(input, weight)
    return RMSNormRule.call(input, weight, dimensions, eps)[0]


class RMSNorm(torch.nn.RMSNorm):
    """Drop-in for :class:`torch.nn.RMSNorm`, whose constructor, state and repr it inherits."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(*, *normalized_shape)`` to the same shape."""
        return rms_norm(x, self.normalized_shape, self.weight, self.eps)


def _by_tiles(x: Tensor, w: Tensor | None, n: int, eps: float) -> tuple[Tensor, Tensor]:
    y, rows = torch.empty_like(x), x.reshape(-1, n)
    r = torch.empty_like(rows[:, :1], dtype=widen(rows[:0]).dtype)
    w = None if w is None else w.to(r.dtype).reshape(n)
    for x_tile, y_tile, r_tile in tiles(rows, y.view(-1, n), r):
        x_tile = widen(x_tile)
        torch.linalg.vector_norm(x_tile, dim=1, keepdim=True, out=r_tile)
        r_tile.square_().div_(n).add_(eps).rsqrt_()
        wide = y_tile if y_tile.dtype == r.dtype else torch.empty_like(x_tile)
        torch.mul(x_tile, r_tile, out=wide)
        wide = wide if w is None else wide.mul_(w)
        if wide is not y_tile:
            y_tile.copy_(wide)
    return y, r


SPECS = (
    LayerSpec(
        RMSNorm,
        torch.nn.RMSNorm,
        (
            case((3, 8), normalized_shape=8),
            case((2, 2, 3, 2), normalized_shape=(2, 3, 2), eps=0.1),
            case((2, 3), normalized_shape=(2, 3), elementwise_affine=False),
        ),
        large=case((2048, 768), normalized_shape=768),
    ),
)
