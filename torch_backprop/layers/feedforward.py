r"""Gated feed-forward networks. Shazeer (2020), "GLU variants improve Transformer", arXiv:2002.05202, eq. 6.

With a gate a = x W_a^T, a value b = x W_b^T and an activation f, SiLU (SwiGLU) or GELU (GeGLU):

    forward   h = f(a) b                     y = h W_y^T
    backward  dL/dh = g W_y                  dL/dW_y = g^T h
              dL/da = f'(a) b dL/dh          dL/db = f(a) dL/dh

since f(a) and b are the factors of h, and each gets the other; from there as any linear map. Operator by
operator, a, b, f(a) and h are held for the backward pass; but f(a) and h follow from a and b by two
elementwise operators, and are computed again: half is held.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.constants import root_two_pi
from torch_backprop.layers.elementwise import TILE, tiles
from torch_backprop.layers.linear import linear
from torch_backprop.rule import LOWER, Rule, first_order, owned, tracked, widen
from torch_backprop.spec import LayerSpec, case

Slope = Callable[[Tensor], tuple[Tensor, Tensor]]


def _silu(a: Tensor) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(a)
    return a * s, s * (1 + a * (1 - s))


def _gelu(a: Tensor) -> tuple[Tensor, Tensor]:
    law = 0.5 * (1 + torch.erf(a * math.sqrt(0.5)))
    return a * law, law + a * torch.exp(-0.5 * a * a) / root_two_pi()


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Slope]] = {
    "silu": (F.silu, _silu),
    "gelu": (F.gelu, _gelu),
}
"""f as torch computes it, and f with f'."""


class GatedRule(Rule):
    """y of a and b. Saves a, and b and w where they are multiplied."""

    autocast = {"cpu": LOWER, "cuda": LOWER}

    @staticmethod
    def forward(a: Tensor, b: Tensor, w: Tensor, bias: Tensor | None, name: str) -> Tensor:
        return owned(F.linear(FUNCTIONS[name][0](a) * b, w, bias))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, b, w, _, ctx.name = inputs
        needs_a, needs_b, needs_w, *_ = ctx.needs_input_grad
        # f(a) b, which w multiplies, is computed again: it would be a third tensor of this width
        ctx.save_for_backward(a, b if needs_a or needs_w else None, w if needs_a or needs_b else None)
        ctx.save_for_forward(a, b, w)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        a, b, w = (None if x is None else x.conj() for x in ctx.saved_tensors)
        assert a is not None
        needs_a, needs_b, needs_w, needs_bias, _ = ctx.needs_input_grad
        # w was saved for the gradients of a and b alone
        grad_h = None if w is None else grad_y @ w
        grad_a, grad_b, h = _pull(FUNCTIONS[ctx.name][1], a, b, grad_h)
        g = _rows(grad_y)
        return (
            grad_a if needs_a else None,
            grad_b if needs_b else None,
            g.mT @ _rows(h) if needs_w else None,
            g.sum(0) if needs_bias else None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        a, b, w = ctx.saved_tensors
        tangent_a, tangent_b, tangent_w, tangent_bias, _ = tangents
        f, slope = FUNCTIONS[ctx.name][1](a)
        h = torch.zeros_like(a)
        h = h if tangent_a is None else h + slope * tangent_a * b
        h = h if tangent_b is None else h + f * tangent_b
        y = F.linear(h, w)
        y = y if tangent_w is None else y + F.linear(f * b, tangent_w)
        return y if tangent_bias is None else y + tangent_bias


def _pull(slope: Slope, a: Tensor, b: Tensor | None, g: Tensor | None) -> tuple[Any, Any, Any]:
    """The gradients of a and b, from that of h, and h; as far as b and that are given."""
    given = [x for x in (a, b, g) if x is not None]
    # a few elements cost no page faults, and tiles are cut along the first dimension
    if a.dim() < 2 or a.numel() <= 2 * TILE or len(given) < 3 or not first_order(*given):
        return _pulled(slope, a, b, g)
    # f and its slope once for all three results, while a tile is in the cache
    results = tuple(torch.empty_like(a) for _ in range(3))
    for a_tile, b_tile, g_tile, *result_tiles in tiles(*given, *results):
        for result, value in zip(result_tiles, _pulled(slope, a_tile, b_tile, g_tile), strict=True):
            result.copy_(value)
    grad_a, grad_b, h = results
    return grad_a, grad_b, h


def _pulled(slope: Slope, a: Tensor, b: Tensor | None, g: Tensor | None) -> tuple[Any, Any, Any]:
    f, df = slope(widen(a))
    b, g = (None if x is None else widen(x) for x in (b, g))
    return (
        None if b is None or g is None else (df * b * g).to(a.dtype),
        None if g is None else (f * g).to(a.dtype),
        None if b is None else (f * b).to(a.dtype),
    )


def _rows(x: Tensor) -> Tensor:
    # not reshape(-1, n): with zero elements the other size would be ambiguous
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


class PlainFeedForward(torch.nn.Module):
    """The reference: operator by operator."""

    function = "silu"

    def __init__(self, dim: int, hidden_dim: int, bias: bool = False) -> None:
        super().__init__()
        self.gate = torch.nn.Linear(dim, hidden_dim, bias)
        self.value = torch.nn.Linear(dim, hidden_dim, bias)
        self.output = torch.nn.Linear(hidden_dim, dim, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(*, dim)`` to ``(*, dim)``."""
        return self.output(FUNCTIONS[self.function][0](self.gate(x)) * self.value(x))


class PlainSwiGLU(PlainFeedForward):
    """The reference of :class:`SwiGLU`."""

    def _get_name(self) -> str:
        return "SwiGLU"


class PlainGeGLU(PlainFeedForward):
    """The reference of :class:`GeGLU`."""

    function = "gelu"

    def _get_name(self) -> str:
        return "GeGLU"


def _feed_forward(layer: PlainFeedForward, x: Tensor) -> Tensor:
    a, b = (linear(x, part.weight, part.bias) for part in (layer.gate, layer.value))
    w, bias = layer.output.weight, layer.output.bias
    if not (tracked(a) or tracked(b)):
        # frozen up to here: of what the last map is applied to only the product is held
        return linear(FUNCTIONS[layer.function][0](a) * b, w, bias)
    return GatedRule.call(a, b, w, bias, layer.function)


class SwiGLU(PlainSwiGLU):
    """W_y (silu(W_a x) * W_b x): a feed-forward network gated by SiLU.

    Args:
        dim: the features of input and output.
        hidden_dim: the features between; two thirds of an ungated network's for as many parameters.
        bias: whether the three linear maps have one; Shazeer's have none.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(*, dim)`` to ``(*, dim)``."""
        return _feed_forward(self, x)


class GeGLU(PlainGeGLU):
    """W_y (gelu(W_a x) * W_b x): the same gated by GELU; arguments as of :class:`SwiGLU`."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(*, dim)`` to ``(*, dim)``."""
        return _feed_forward(self, x)


SPECS = (
    LayerSpec(
        SwiGLU,
        PlainSwiGLU,
        (case((3, 4), dim=4, hidden_dim=6), case((4,), dim=4, hidden_dim=2, bias=True)),
    ),
    LayerSpec(GeGLU, PlainGeGLU, (case((2, 3, 4), dim=4, hidden_dim=6, bias=True),)),
)
