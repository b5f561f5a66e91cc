r"""Rotary position embedding. Su et al. (2021), arXiv:2104.09864, eq. 34.

The features of a query or key are paired, and pair i at position t is turned by the angle t theta_i, with
theta_i = base^(-2 i / dim). With c and s the cosine and sine of the angle:

    forward   (y_1, y_2) = (c x_1 - s x_2, s x_1 + c x_2)
    backward  dL/d(x_1, x_2) = (c g_1 + s g_2, -s g_1 + c g_2)

since a rotation is orthogonal: its transpose is the rotation by the opposite angle, and x is not needed.
The pairs are (0, 1), (2, 3), ... when interleaved, as in the paper, or (0, dim / 2), (1, dim / 2 + 1), ...
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.rule import Rule, owned, save, widen
from torch_backprop.spec import Draw, LayerSpec, case


class RotaryRule(Rule):
    """Saves c and s, ``(L, dim / 2)``."""

    @staticmethod
    def forward(x: Tensor, c: Tensor, s: Tensor, interleaved: bool) -> Tensor:
        return owned(_turn(x, c, s, interleaved))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, c, s, ctx.interleaved = inputs
        # no x: the map is linear in it, and its angles are constants
        save(ctx, c, s)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None, None, None]:
        c, s = ctx.saved_tensors
        # the transpose of a turn is the turn back
        return _turn(grad_y, c, -s, ctx.interleaved), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> Tensor:
        c, s = ctx.saved_tensors
        return _turn(tangent_x, c, s, ctx.interleaved)


def _turn(x: Tensor, c: Tensor, s: Tensor, interleaved: bool) -> Tensor:
    if interleaved:
        first, second = widen(x)[..., 0::2], widen(x)[..., 1::2]
        pairs = torch.stack((c * first - s * second, s * first + c * second), -1)
        return pairs.reshape(x.shape).to(x.dtype)
    first, second = widen(x).chunk(2, -1)
    return torch.cat((c * first - s * second, s * first + c * second), -1).to(x.dtype)


class PlainRotaryEmbedding(torch.nn.Module):
    """The reference: operator by operator."""

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim is {dim}; features are turned in pairs, give an even number")
        self.dim, self.base, self.interleaved = dim, base, interleaved

    def _get_name(self) -> str:
        return "RotaryEmbedding"

    def extra_repr(self) -> str:
        """The options."""
        return f"{self.dim}, base={self.base}, interleaved={self.interleaved}"

    def turns(self, x: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angles, in radians, ``(L, dim / 2)`` or ``(*, L, dim / 2)``."""
        # angles grow with the position: half precision has no digits left for the fraction of a turn
        dtype = torch.promote_types(x.dtype, torch.float32)
        if positions is None:
            positions = torch.arange(x.shape[-2], device=x.device)
        pairs = torch.arange(0, self.dim, 2, device=x.device, dtype=dtype)
        angles = positions.detach().to(dtype).unsqueeze(-1) * self.base ** (-pairs / self.dim)
        return angles.cos(), angles.sin()

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """Turns ``(*, L, dim)`` by the angles of ``positions`` ``(L)``, 0 to L - 1 if None."""
        return _turn(x, *self.turns(x, positions), self.interleaved)


class RotaryEmbedding(PlainRotaryEmbedding):
    """Turns the features of queries and keys by an angle in proportion to their position.

    Args:
        dim: the features, an even number.
        base: of the angles base^(-2 i / dim), in radians a position.
        interleaved: whether neighbours are paired, or the two halves.

    Raises:
        ValueError: ``dim`` is odd.
    """

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """Turns ``(*, L, dim)`` by the angles of ``positions`` ``(L)``, constants; 0 to L - 1 if None."""
        return RotaryRule.call(x, *self.turns(x, positions), self.interleaved)


SPECS = (
    LayerSpec(
        RotaryEmbedding,
        PlainRotaryEmbedding,
        (case((2, 3, 4), dim=4), case((3, 6), Draw((3,), "classes", 9), dim=6, base=100.0, interleaved=True)),
    ),
)
